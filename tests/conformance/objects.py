# SPDX-License-Identifier: Apache-2.0
"""The objects that the suite makes, and short words for making and reading them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from imagecache_operator.api.imagecache import Status
from imagecache_operator.api.warming import WarmNodes
from imagecache_operator.cluster.api import Api, Object
from imagecache_operator.planning.children import server as server_manifests
from imagecache_operator.planning.children import warmer as warmer_manifest
from imagecache_operator.planning.observed import Cache
from imagecache_operator.settings import Settings

from .stages import DOUBLE, GROUP, Stage

HOLD = "conformance.imagecache.dev/hold"  # a finalizer that nobody takes away by himself


def claim(stage: Stage, name: str, **metadata: Any) -> Object:
    """A claim that nobody binds: no such class."""
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": stage.namespace, **metadata},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}},
            "storageClassName": "no-such-class",
        },
    }


def pod(stage: Stage, name: str, **spec: Any) -> Object:
    """A Pod that no node takes."""
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": stage.namespace},
        "spec": {
            "nodeSelector": {"conformance.imagecache.dev/node": "none"}, "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "c", "image": "none",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }],
            **spec,
        },
    }


def secret(stage: Stage, name: str, **metadata: Any) -> Object:
    """A Secret as the operator makes them."""
    return {
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": stage.namespace, **metadata},
        "type": "conformance.imagecache.dev/credentials", "immutable": True, "data": {"credentials.json": "e30="},
    }


def server(stage: Stage, uid: str, image: str = "none", **more: Any) -> tuple[Object, ...]:
    """The Service and the Deployment of a cache's server, as the operator applies them; between them the Ingress, where
    the settings want one. Its Pod has no volume."""
    settings = Settings(builder_image="none", server_image=image, namespace=stage.namespace, **more)
    manifests = server_manifests.manifests(_cache(uid), "home", settings, password=False)
    for manifest in manifests:
        del manifest["metadata"]["ownerReferences"]  # nobody's: Kubernetes would collect them
    return manifests


def warmer(stage: Stage, uid: str, *images: str, without_carrier: tuple[str, ...] = ()) -> Object:
    """The DaemonSet of a cache's warm nodes, as the operator applies it, for nodes that are not there."""
    nodes = WarmNodes.model_validate({
        "nodeSelector": {"conformance.imagecache.dev/node": "none"}, "tolerations": [{"operator": "Exists"}],
    })
    carrier = f"localhost:31234/carrier/any@sha256:{'c' * 64}"
    taken = {image: None if image in without_carrier else carrier for image in images}
    settings = Settings(builder_image="none", namespace=stage.namespace)
    manifest = warmer_manifest.manifest(_cache(uid), nodes, taken, "home", settings)
    del manifest["metadata"]["ownerReferences"]
    return manifest


def _cache(uid: str) -> Cache:
    return Cache(
        name="ml", uid=uid, generation=1, created=datetime(2026, 3, 1, tzinfo=UTC), deleting=False, spec=None,
        spec_error="", status=Status(),
    )


def double(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": f"{GROUP}/v1alpha1", "kind": DOUBLE, "metadata": {"name": name},
        "spec": {"images": ["busybox"], **spec},
    }


def of(found: Object | None) -> Any:
    if found is None:
        raise AssertionError("the object is not there")
    return found


def made(api: Api, manifest: Object) -> Any:
    """Create it, and read it back."""
    assert api.create(manifest)
    return of(api.get(manifest["kind"], manifest["metadata"]["name"], manifest["metadata"].get("namespace")))
