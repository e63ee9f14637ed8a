# SPDX-License-Identifier: Apache-2.0
"""Pods start from a cache: layers from its server, names from the registry. Real webhook, real kubelets, and the
registry's own access log as the witness of what was fetched where. What goes wrong: test_start_without_cache.py."""

from __future__ import annotations

from typing import Any

import pytest
from imagecache_operator import names

from tests.support import cold_node
from tests.support.kube import Cache, Kube, until
from tests.support.starts import CACHE, IMAGES, SPACE, Starts, container, images_of, volumes
from tests.support.upstream import Upstream

pytestmark = pytest.mark.usefixtures("public_cache")
APP, WEB, MULTI = IMAGES


@pytest.mark.parametrize("name", IMAGES)
def test_a_cold_node_takes_layers_from_the_cache_alone(name: str, public_cache: Cache, starts: Starts) -> None:
    starts.forget(name)
    before = starts.logged()
    image = starts.reference(name)
    started = starts.start("cold", image)
    status = public_cache.status
    carrier = next(i for i in status["images"] if i["reference"] == image)["carrier"]
    assert started["metadata"]["annotations"][names.ANNOTATION_INJECTED] == CACHE
    address = status["server"]["address"]
    assert [v.startswith(f"{address}/carrier/") and v.endswith(f"@{carrier}") for v in volumes(started)] == [True]
    assert starts.layers_asked(before, name) == set()
    # What a person sees is the original image, whatever its name sorts like.
    assert images_of(started) == [(image, original_id(starts.upstream, name))]


def original_id(upstream: Upstream, name: str) -> str:
    return f"{upstream.reference(name).rpartition(':')[0]}@{upstream.digest(name)}"


def test_without_asking_nothing_is_touched_and_the_registry_gives_the_layers(starts: Starts) -> None:
    """What the others are compared with: the same node, the same image."""
    starts.forget(APP)
    before = starts.logged()
    started = starts.start("unasked", starts.reference(APP), ask=None)
    assert volumes(started) == []
    assert names.ANNOTATION_INJECTED not in started["metadata"].get("annotations", {})
    assert starts.layers_asked(before, APP) == set(starts.upstream.images[APP].own.layer_digests)


@pytest.mark.parametrize(("suffix", "policy"), [("", "Always"), ("@", "IfNotPresent"), (":@", "Always")])
def test_by_tag_by_digest_by_both(suffix: str, policy: str, starts: Starts) -> None:
    starts.forget(APP)
    before = starts.logged()
    digest, image = starts.upstream.digest(APP), starts.reference(APP)
    wanted = {"": image, "@": f"{image.rpartition(':')[0]}@{digest}", ":@": f"{image}@{digest}"}[suffix]
    started = starts.start("pinned", containers=[container("c", wanted, imagePullPolicy=policy)])
    assert len(volumes(started)) == 1
    assert starts.layers_asked(before, APP) == set()


def test_several_containers_and_init_containers(starts: Starts) -> None:
    """One that has to end before the others start, and one that goes on beside them."""
    starts.forget(*IMAGES)
    before = starts.logged()
    app, web, multi = map(starts.reference, IMAGES)
    started = starts.start("several", app, web, app, initContainers=[
        container("first", multi, command=["/bin/sleep", "0"]), container("beside", multi, restartPolicy="Always"),
    ])
    assert len(volumes(started)) == 3, "each image once"
    assert "multi" in volumes(started)[0], "init containers first"
    assert starts.layers_asked(before, *IMAGES) == set()


def test_a_second_node_and_a_warm_one(starts: Starts) -> None:
    starts.forget(APP, node=1)
    before = starts.logged()
    starts.start("second", starts.reference(APP), node=1)
    starts.start("warm", starts.reference(APP), node=1)
    assert starts.layers_asked(before, APP) == set()


def test_what_runs_goes_on_when_its_images_are_removed_and_the_next_one_starts_as_it_should(
    starts: Starts, kube: Kube,
) -> None:
    """As a person does it with crictl, and kubelet when the disk is full: the carrier and the image, under all their
    names. And once more after a restart of the node's containerd."""
    node, image = kube.cluster.nodes[1], starts.reference(APP)
    starts.forget(APP, node=1)
    before = starts.logged()
    starts.start("before", image, node=1)
    cold_node.forget(kube.cluster, node, cold_node.FROM_TESTS, [])
    assert not cold_node.knows(kube.cluster, node, cold_node.FROM_TESTS)
    after = starts.start("after", image, node=1)

    kube.cluster.on_node(node, "systemctl restart containerd")
    cold_node.forget(kube.cluster, node, cold_node.FROM_TESTS, [])
    last = starts.start("last", image, node=1)
    shown = (image, original_id(starts.upstream, APP))
    for pod in (after, last):
        assert len(volumes(pod)) == 1
        assert images_of(pod) == [shown]
    assert starts.layers_asked(before, APP) == set()
    for name in ("before", "after"):
        state = starts.runs(name)["status"]["containerStatuses"][0]
        assert (state["restartCount"], "running" in state["state"]) == (0, True), name


def test_a_namespace_asks_for_all_its_pods(starts: Starts, kube: Kube) -> None:
    kube.cluster.kubectl("label", "namespace", SPACE, f"{names.LABEL_INJECT}={names.AUTO}")
    try:
        assert len(volumes(starts.start("by-namespace", starts.reference(WEB), ask=None))) == 1
        assert volumes(starts.start("not-me", starts.reference(WEB), ask=names.NONE)) == []
    finally:
        kube.cluster.kubectl("label", "namespace", SPACE, f"{names.LABEL_INJECT}-")


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"])
def test_what_makes_pods(kind: str, starts: Starts, kube: Kube) -> None:
    labels = {"app": kind.lower()}
    template = {
        "metadata": {"labels": labels, "annotations": {names.ANNOTATION_CACHE: CACHE}},
        "spec": starts.manifest("x", starts.reference(APP))["spec"],
    }
    version, spec = "apps/v1", dict[str, Any](selector={"matchLabels": labels}, template=template)
    if kind.endswith("Job"):
        template["spec"]["restartPolicy"] = "Never"
        version, spec = "batch/v1", {"template": template}
    if kind == "CronJob":
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}, "suspend": True}
    name = f"of-a-{kind.lower()}"
    kube.apply({"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": SPACE}, "spec": spec})
    if kind == "CronJob":
        kube.cluster.kubectl("-n", SPACE, "create", "job", "--from", f"cronjob/{name}", f"{name}-now")
    try:
        def running() -> bool:
            pods = kube.list("pods", f"app={kind.lower()}", SPACE)
            return bool(pods) and all(p["status"]["phase"] == "Running" and len(volumes(p)) == 1 for p in pods)

        until(running, f"the Pods of a {kind} are injected and run", 90)
    finally:
        kube.delete(kind.lower(), name, SPACE, "--cascade=foreground", "--timeout=60s")
