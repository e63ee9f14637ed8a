# SPDX-License-Identifier: Apache-2.0
"""Installs the operator into a running cluster as a user would: build the image, `kubectl apply -k`, wait.

Called by the end-to-end tests and by the demo. What is already there and current is left alone, so a second call
takes a moment.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cluster import Cluster

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "imagecache-operator:dev"
SERVER_IMAGE = "imagecache.test/registry:dev"  # as deploy/local names them
WARMER_IMAGE = "imagecache.test/pause:dev"
NAMESPACE = "imagecache-system"
DEPLOYMENT = "deployment/imagecache-operator"
WEBHOOK = "deployment/imagecache-webhook"
REGISTRATION = "imagecache-injection"
# On the Deployment: the ID of the image that was loaded for it. The tag stays `dev` whatever is in it.
LOADED = "imagecache.dev/loaded-image"


def install(cluster: Cluster, registry_ca: bytes, say: Callable[[str], object] = print) -> None:
    """The operator runs, from this working tree, and trusts that certificate authority for registries."""
    say("building the operator's image")
    cluster.build_image(
        IMAGE,
        REPOSITORY,
        REPOSITORY / "operator" / "Dockerfile",
        {"BASE": cluster.engine.image("python")},
    )
    image_id = cluster.engine.docker("image", "inspect", "--format", "{{.Id}}", IMAGE).strip()
    loaded = _loaded(cluster)
    if loaded != image_id:
        say("loading it into the nodes")
        cluster.load_image(IMAGE)
    _load_engine_image(cluster, "registry", SERVER_IMAGE, say)
    _load_engine_image(cluster, "pause", WARMER_IMAGE, say)
    say("kubectl apply -k deploy/local")
    cluster.kubectl("apply", "-k", str(REPOSITORY / "deploy" / "local"))
    cluster.kubectl("wait", "--for=condition=Established", "crd/imagecaches.imagecache.dev", "--timeout=60s")
    _trust(cluster, registry_ca)
    cluster.kubectl("-n", NAMESPACE, "annotate", DEPLOYMENT, f"{LOADED}={image_id}", "--overwrite")
    if loaded not in ("", image_id):
        cluster.kubectl("-n", NAMESPACE, "rollout", "restart", DEPLOYMENT, WEBHOOK)
    cluster.kubectl("-n", NAMESPACE, "scale", DEPLOYMENT, "--replicas=1")
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", DEPLOYMENT, "--timeout=120s")
    say("waiting for the webhook")
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", WEBHOOK, "--timeout=180s")
    # The last that the operator does at its start.
    cluster.kubectl("wait", "--for=create", f"mutatingwebhookconfiguration/{REGISTRATION}", "--timeout=60s")


def uninstall(cluster: Cluster) -> None:
    """In the only order that leaves nothing hanging: the caches (while the operator can clean up), then the rest."""
    cluster.kubectl("delete", "imagecaches", "--all", "--timeout=120s", "--ignore-not-found")
    cluster.kubectl("delete", "-k", str(REPOSITORY / "deploy" / "local"), "--ignore-not-found", "--timeout=120s")
    # The operator has registered it, and nobody would any more. It goes with the namespace, a moment later.
    cluster.kubectl("delete", "mutatingwebhookconfiguration", REGISTRATION, "--ignore-not-found")


def _loaded(cluster: Cluster) -> str:
    found = cluster.kubectl("-n", NAMESPACE, "get", DEPLOYMENT, "-o", "json", "--ignore-not-found")
    if not found.strip():
        return ""
    return str(json.loads(found)["metadata"].get("annotations", {}).get(LOADED, ""))


def _load_engine_image(cluster: Cluster, role: str, tag: str, say: Callable[[str], object]) -> None:
    """What serves caches, and what sleeps on warm nodes, are images of the engine. A file on the first node tells which
    ones were loaded."""
    engine, node, mark = cluster.engine, cluster.nodes[0], f"/kind/imagecache-{role}-image"
    image_id = engine.docker("image", "inspect", "--format", "{{.Id}}", engine.image(role)).strip()
    if image_id not in cluster.on_node(node, f"cat {mark} 2>/dev/null || true"):
        say(f"loading {tag} into the nodes")
        engine.docker("tag", engine.image(role), tag)
        cluster.load_image(tag)
        cluster.on_node(node, f"echo '{image_id}' > {mark}")


def _trust(cluster: Cluster, registry_ca: bytes) -> None:
    """Builders read extra certificate authorities from the ConfigMap `registry-ca`."""
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "registry-ca", "namespace": NAMESPACE},
        "data": {"ca.crt": registry_ca.decode()},
    }
    cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))
