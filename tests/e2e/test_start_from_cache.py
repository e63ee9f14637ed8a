# SPDX-License-Identifier: Apache-2.0
"""Pods start from a cache: layers from its server, names from the registry. Real webhook, real kubelets, and the
registry's own access log as the witness of what was fetched where."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from imagecache_operator.planning.matching import MOST_PULLS

from tests.support import cold_node
from tests.support.kube import NAMESPACE, Cache, Kube, Object, until
from tests.support.private_registry import PrivateRegistry
from tests.support.upstream import PORT, Upstream

CACHE, SPACE = "e2e-start", "e2e-start"
INJECTED, ASKED = "imagecache.dev/injected", "imagecache.dev/cache"
IMAGES = ("team/app:2.1", "team/web:zstd", "team/multi:1.0")
Start = Callable[..., Object]

_LAYERS = re.compile(r'"GET /v2/\S+/blobs/(sha256:[0-9a-f]{64}) ')


@pytest.fixture(scope="module")
def cache(kube: Kube, upstream: Upstream) -> Iterator[Cache]:
    found = Cache(kube, CACHE)
    found.apply(map(upstream.reference, IMAGES))
    try:
        found.wait_for("Available")
        found.wait_until_served()
        yield found
    finally:
        found.delete()


@pytest.fixture(scope="module")
def space(kube: Kube, upstream: Upstream) -> Iterator[str]:
    """A namespace that enforces `restricted`, on nodes that can pull from the upstream registry themselves."""
    kube.cluster.trust_registry(f"{upstream.host}:{PORT}", upstream.ca_pem.decode())
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}})
    yield SPACE
    kube.cluster.kubectl("delete", "namespace", SPACE, "--timeout=120s")


@pytest.fixture
def start(kube: Kube, space: str) -> Iterator[Start]:
    """Applies a Pod and waits until it runs."""
    made: list[str] = []

    def begin(name: str, *images: str, ask: str | None = CACHE, node: int = 0, **spec: Any) -> Object:
        made.append(name)
        kube.apply(pod(name, images, ask, kube.cluster.nodes[node], **spec))
        until(lambda: phase(kube, name) == "Running", f"Pod {name} runs", 90, lambda: described(kube, name))
        return found(kube, name)

    yield begin
    for name in made:
        kube.delete("pod", name, SPACE, "--grace-period=0", "--force")


def pod(name: str, images: tuple[str, ...], ask: str | None, node: str, **spec: Any) -> Object:
    security = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 65534,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": SPACE, "annotations": {ASKED: ask} if ask else {}},
        "spec": {
            "nodeName": node, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
            "containers": [
                {"name": f"c{number}", "image": image, "securityContext": security}
                for number, image in enumerate(images)
            ],
            **spec,
        },
    }


def found(kube: Kube, name: str) -> Object:
    return kube.get("pod", name, SPACE) or {}


def dry_run(kube: Kube, manifest: Object) -> Object:
    """What would become of it: the webhook is asked, nothing is made."""
    said = kube.cluster.kubectl("apply", "-f", "-", "--dry-run=server", "-o", "json", input=json.dumps(manifest))
    return dict(json.loads(said))


def phase(kube: Kube, name: str) -> str:
    return str(found(kube, name).get("status", {}).get("phase"))


def described(kube: Kube, name: str) -> str:
    return kube.cluster.kubectl("-n", SPACE, "describe", "pod", name, check=False)[-3000:]


def events(kube: Kube, name: str) -> list[Object]:
    selector = f"involvedObject.name={name}"
    text = kube.cluster.kubectl("-n", SPACE, "get", "events", "--field-selector", selector, "-o", "json")
    return list(json.loads(text)["items"])


def forget(kube: Kube, upstream: Upstream, *images: str, node: int = 0) -> None:
    """Makes the node cold, and waits until it is cold for these images."""
    layers = [upstream.images[name].own.diff_ids for name in images]
    cold_node.forget(kube.cluster, kube.cluster.nodes[node], cold_node.FROM_TESTS, layers)


def layers_asked(upstream: Upstream, since: int, *images: str) -> set[str]:
    """Which of the images' layers the registry was asked for since then."""
    layers = {digest for name in images for digest in upstream.images[name].own.layer_digests}
    return layers & {m[1] for line in upstream.access_log()[since:] if (m := _LAYERS.search(line))}


def volumes(pod: Object) -> list[str]:
    return [v["image"]["reference"] for v in pod["spec"].get("volumes", []) if v["name"].startswith("imagecache-")]


def images_of(pod: Object) -> list[tuple[str, str]]:
    """What kubelet says of each container: image and image ID."""
    return [(s["image"], s["imageID"]) for s in pod["status"]["containerStatuses"]]


@pytest.mark.parametrize("name", IMAGES)
def test_a_cold_node_takes_layers_from_the_cache_alone(
    name: str, cache: Cache, start: Start, kube: Kube, upstream: Upstream,
) -> None:
    forget(kube, upstream, name)
    before = len(upstream.access_log())
    image = upstream.reference(name)
    started = start("cold", image)
    carrier = next(i for i in cache.status["images"] if i["reference"] == image)["carrier"]
    assert started["metadata"]["annotations"][INJECTED] == CACHE
    address = cache.status["server"]["address"]
    assert [v.startswith(f"{address}/carrier/") and v.endswith(f"@{carrier}") for v in volumes(started)] == [True]
    assert layers_asked(upstream, before, name) == set()
    # What a person sees is the original image, whatever its name sorts like.
    (shown, image_id), = images_of(started)
    assert (shown, image_id) == (image, f"{image.rpartition(':')[0]}@{upstream.digest(name)}")


def test_without_asking_nothing_is_touched_and_the_registry_gives_the_layers(
    cache: Cache, start: Start, kube: Kube, upstream: Upstream,
) -> None:
    """What the others are compared with: the same node, the same image."""
    forget(kube, upstream, IMAGES[0])
    before = len(upstream.access_log())
    started = start("unasked", upstream.reference(IMAGES[0]), ask=None)
    assert volumes(started) == []
    assert INJECTED not in started["metadata"].get("annotations", {})
    assert layers_asked(upstream, before, IMAGES[0]) == set(upstream.images[IMAGES[0]].own.layer_digests)


@pytest.mark.parametrize(("suffix", "policy"), [("", "Always"), ("@", "IfNotPresent"), (":@", "Always")])
def test_by_tag_by_digest_by_both(
    suffix: str, policy: str, cache: Cache, start: Start, kube: Kube, upstream: Upstream,
) -> None:
    forget(kube, upstream, IMAGES[0])
    before = len(upstream.access_log())
    name, digest = IMAGES[0], upstream.digest(IMAGES[0])
    image = upstream.reference(name)
    wanted = {"": image, "@": f"{image.rpartition(':')[0]}@{digest}", ":@": f"{image}@{digest}"}[suffix]
    manifest = pod("pinned", (wanted,), CACHE, kube.cluster.nodes[0])
    container = {**manifest["spec"]["containers"][0], "imagePullPolicy": policy}
    started = start("pinned", wanted, containers=[container])
    assert len(volumes(started)) == 1
    assert layers_asked(upstream, before, name) == set()


def test_several_containers_and_init_containers(
    cache: Cache, start: Start, kube: Kube, upstream: Upstream,
) -> None:
    forget(kube, upstream, *IMAGES)
    before = len(upstream.access_log())
    app, web, multi = map(upstream.reference, IMAGES)
    side = pod("x", (multi,), None, "")["spec"]["containers"][0]
    started = start("several", app, web, app, initContainers=[{**side, "name": "init", "restartPolicy": "Always"}])
    assert len(volumes(started)) == 3, "each image once"
    assert "multi" in volumes(started)[0], "init containers first"
    assert layers_asked(upstream, before, *IMAGES) == set()


def test_a_second_node_and_a_warm_one(cache: Cache, start: Start, kube: Kube, upstream: Upstream) -> None:
    forget(kube, upstream, IMAGES[0], node=1)
    before = len(upstream.access_log())
    image = upstream.reference(IMAGES[0])
    start("second", image, node=1)
    start("warm", image, node=1)
    assert layers_asked(upstream, before, IMAGES[0]) == set()


def test_after_the_nodes_containerd_restarts_and_images_are_removed(
    cache: Cache, start: Start, kube: Kube, upstream: Upstream,
) -> None:
    node, image = kube.cluster.nodes[1], upstream.reference(IMAGES[0])
    start("before", image, node=1)
    kube.cluster.on_node(node, "systemctl restart containerd")
    until(lambda: phase(kube, "before") == "Running", "the Pod runs on", 60)
    kube.delete("pod", "before", SPACE, "--grace-period=0", "--force")
    until(lambda: not found(kube, "before"), "it is gone")
    forget(kube, upstream, IMAGES[0], node=1)
    start("after", image, node=1)


def test_a_deleted_cache_blocks_nobody(kube: Kube, start: Start, upstream: Upstream) -> None:
    """The Pod names a server that is gone: connection refused, an event, a normal pull."""
    gone = Cache(kube, "e2e-start-gone")
    image = upstream.reference("data/only:5")
    gone.apply([image, upstream.reference("base/tools:1.0")])
    try:
        gone.wait_for("Available")
        gone.wait_until_served()
        tools = upstream.reference("base/tools:1.0")
        spec = pod("probe", (tools,), gone.name, "")
        del spec["spec"]["nodeName"]
        dry = dry_run(kube, spec)
        injected = [v for v in dry["spec"]["volumes"] if v["name"].startswith("imagecache-")]
        assert injected, "the webhook also answers dry runs"
    finally:
        gone.delete()
    forget(kube, upstream)
    started = start("orphan", tools, ask="none", volumes=injected)
    assert started["status"]["phase"] == "Running"
    assert any(e["reason"] == "Failed" and "carrier" in e["message"] for e in events(kube, "orphan"))


def test_a_cache_that_is_not_there_is_told_to_who_asks(start: Start, kube: Kube, upstream: Upstream) -> None:
    started = start("missed", upstream.reference(IMAGES[0]), ask="no-such-cache")
    meta = started["metadata"]
    assert meta["labels"]["imagecache.dev/not-injected"] == "true"
    assert "no-such-cache" in meta["annotations"]["imagecache.dev/not-injected-because"]
    assert volumes(started) == []


def test_a_namespace_asks_for_all_its_pods(cache: Cache, start: Start, kube: Kube, upstream: Upstream) -> None:
    kube.cluster.kubectl("label", "namespace", SPACE, "imagecache.dev/inject=auto")
    try:
        assert len(volumes(start("by-namespace", upstream.reference(IMAGES[1]), ask=None))) == 1
        assert volumes(start("not-me", upstream.reference(IMAGES[1]), ask="none")) == []
    finally:
        kube.cluster.kubectl("label", "namespace", SPACE, "imagecache.dev/inject-")


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"])
def test_what_makes_pods(kind: str, cache: Cache, space: str, kube: Kube, upstream: Upstream) -> None:
    manifest = pod("x", (upstream.reference(IMAGES[0]),), CACHE, "")
    del manifest["spec"]["nodeName"]
    labels = {"app": kind.lower()}
    template = {"metadata": {"labels": labels, "annotations": {ASKED: CACHE}}, "spec": manifest["spec"]}
    version, spec = "apps/v1", dict[str, Any](selector={"matchLabels": labels}, template=template)
    if kind.endswith("Job"):
        template["spec"]["restartPolicy"] = "Never"
        version, spec = "batch/v1", {"template": template}
    if kind == "CronJob":
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}, "suspend": True}
    name = f"of-a-{kind.lower()}"
    kube.apply({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": space}, "spec": spec})
    if kind == "CronJob":
        kube.cluster.kubectl("-n", space, "create", "job", "--from", f"cronjob/{name}", f"{name}-now")
    try:
        def running() -> bool:
            pods = kube.list("pods", f"app={kind.lower()}", space)
            return bool(pods) and all(p["status"]["phase"] == "Running" and len(volumes(p)) == 1 for p in pods)

        until(running, f"the Pods of a {kind} are injected and run", 90)
    finally:
        kube.delete(kind.lower(), name, space, "--cascade=foreground", "--timeout=60s")


def test_a_cache_that_was_built_with_pull_secrets_is_served_to_nobody(
    token_registry: PrivateRegistry, kube: Kube, start: Start, space: str,
) -> None:
    """Not yet: it must not be a way around the registry. Whoever asks hears so."""
    team, image = token_registry.accounts["team-a"], token_registry.reference("team-a/tools:1.0")
    kube.cluster.kubectl(
        "-n", space, "create", "secret", "docker-registry", "regcred", f"--docker-server={token_registry.host}:{PORT}",
        f"--docker-username={team.name}", f"--docker-password={team.password}",
    )
    private = Cache(kube, "e2e-start-private")
    private.apply([image], {"buildingConfig": {"imagePullSecrets": [f"{space}:regcred"]}})
    try:
        private.wait_for("Available")
        assert private.condition("Served")["reason"] == "Private"
        assert "server" not in private.status
        dry = dry_run(kube, pod("asks", (image,), private.name, kube.cluster.nodes[0]))
        assert volumes(dry) == []
        assert "pull Secrets" in dry["metadata"]["annotations"]["imagecache.dev/not-injected-because"]
    finally:
        private.delete()


def test_a_damaged_volume_spoils_no_node(kube: Kube, start: Start, upstream: Upstream) -> None:
    """containerd compares every layer with the original's config: it refuses, and the registry is asked."""
    name = "data/only:5"
    image, damaged = upstream.reference(name), Cache(kube, "e2e-start-damaged")
    damaged.apply([image])
    try:
        damaged.wait_for("Available")
        damaged.wait_until_served()
        volume = kube.get("pv", damaged.volume()["spec"]["volumeName"], "default")
        assert volume is not None
        folder = (volume["spec"].get("hostPath") or volume["spec"]["local"])["path"]
        for node in kube.cluster.nodes:  # the volume is on one of them
            kube.cluster.on_node(node, (
                f"test -d {folder} || exit 0; find {folder} -name data -size +8k | while read -r blob; do"
                " printf damaged | dd of=\"$blob\" conv=notrunc bs=1 seek=4096 2>/dev/null; done"
            ))
        forget(kube, upstream, name)
        before = len(upstream.access_log())
        started = start("spoiled", image, ask=damaged.name)
        assert len(volumes(started)) == 1
        assert layers_asked(upstream, before, name)
        assert any(e["reason"] == "Failed" and "carrier" in e["message"] for e in events(kube, "spoiled"))
    finally:
        damaged.delete()


def test_without_the_webhook_pods_start_as_without_us(
    cache: Cache, start: Start, kube: Kube, upstream: Upstream,
) -> None:
    kube.cluster.kubectl("-n", NAMESPACE, "scale", "deployment/imagecache-webhook", "--replicas=0")
    try:
        until(lambda: not kube.list("pods", "app.kubernetes.io/name=imagecache-webhook"), "the webhook is gone", 60)
        assert volumes(start("alone", upstream.reference(IMAGES[0]))) == []
    finally:
        kube.cluster.kubectl("-n", NAMESPACE, "scale", "deployment/imagecache-webhook", "--replicas=2")
        kube.cluster.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/imagecache-webhook", "--timeout=120s")
    until(
        lambda: bool(volumes(dry_run(kube, pod("back", (upstream.reference(IMAGES[0]),), CACHE, "x")))),
        "Pods are injected again", 30,
    )


def test_as_many_dead_volumes_as_there_may_be_let_the_pod_start(
    start: Start, kube: Kube, upstream: Upstream,
) -> None:
    """One more than the bound would be refused for ever: docs/decisions/0008-injection.md."""
    forget(kube, upstream)
    dead = [
        {"name": f"imagecache-{n}", "image": {
            "reference": f"localhost:1/carrier/gone{n}@sha256:{n:064d}", "pullPolicy": "IfNotPresent",
        }}
        for n in range(MOST_PULLS - 1)
    ]
    start("bound", upstream.reference(IMAGES[0]), ask="none", volumes=dead)


def test_the_operators_own_namespace_is_left_alone(cache: Cache, kube: Kube, upstream: Upstream) -> None:
    manifest = pod("own", (upstream.reference(IMAGES[0]),), CACHE, kube.cluster.nodes[0])
    manifest["metadata"]["namespace"] = NAMESPACE
    assert volumes(dry_run(kube, manifest)) == []
