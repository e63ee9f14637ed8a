# SPDX-License-Identifier: Apache-2.0
"""Nodes are kept warm: the layers come from the cache, Pods then start without them and without a registry's layers;
and of the warmer nothing is left when nobody wants it any more."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.images import Image, machine_architecture, never_seen
from tests.support.kube import NAMESPACE, Cache, Kube, Object, until
from tests.support.registry_container import PORT
from tests.support.upstream import Upstream

TOOLS = "base/tools:1.0"
WARM_SECONDS = 90


@pytest.fixture
def new_image(upstream: Upstream, tmp_path: Path) -> Callable[[], Image]:
    """Makes images with a layer that no node can have, and pushes them."""
    def make() -> Image:
        word = uuid.uuid4().hex
        image = never_seen(tmp_path / word, f"warm/{word[:12]}:1", word)
        upstream.pusher.push(image)
        return image

    return make


@pytest.fixture
def pods(kube: Kube) -> Iterator[list[str]]:
    """Names of Pods of the test, which are removed after it."""
    names: list[str] = []
    yield names
    if names:
        kube.cluster.kubectl("delete", "pod", *names, "--ignore-not-found", "--grace-period=1")


def reference(upstream: Upstream, image: Image) -> str:
    return f"{upstream.host}:{PORT}/{image.name}"


def is_warm(cache: Cache) -> Object:
    until(lambda: cache.condition("Warm").get("status") == "True", f"{cache.name} is warm", WARM_SECONDS,
          lambda: json.dumps(cache.status) + why(cache))
    return dict(cache.status["warmNodes"])


def of_warmer(cache: Cache, uid: str) -> list[Object]:
    return [c for c in cache.children(uid) if c["metadata"]["labels"]["imagecache.dev/component"] == "warmer"]


def warmer_pods(cache: Cache) -> list[Object]:
    return [c for c in of_warmer(cache, cache.uid) if c["kind"] == "Pod"]


def why(cache: Cache) -> str:
    selector = f"imagecache.dev/cache-uid={cache.uid},imagecache.dev/component=warmer"
    return cache.kube.cluster.kubectl("-n", NAMESPACE, "describe", "pods", "-l", selector, check=False)[-4000:]


def asked(upstream: Upstream, image: Image, since: int) -> list[str]:
    """What was asked of the upstream registry about the image: GET and what comes after the image's name."""
    log = [line for line in upstream.access_log()[since:] if f"/v2/{image.repository}/" in line]
    return [line.partition(f"/v2/{image.repository}/")[2].split()[0] for line in log if '"GET ' in line]


def test_every_node_takes_the_layers_from_the_cache_and_pods_start_without_any_registry(
    make_cache: Callable[..., Cache], upstream: Upstream, new_image: Callable[[], Image], pods: list[str],
) -> None:
    image = new_image()
    cache = make_cache("e2e-warm", reference(upstream, image), upstream.reference(TOOLS))
    cache.wait_until_served(180)
    assert "warmNodes" not in cache.status
    assert cache.condition("Warm") == {}
    before, nodes = len(upstream.access_log()), cache.kube.cluster.nodes

    cache.edit(warmNodes={})
    told = is_warm(cache)
    assert (told["warm"], told["wanted"], told["summary"]) == (len(nodes), len(nodes), f"{len(nodes)}/{len(nodes)}")
    row = cache.kube.cluster.kubectl("get", "imc", cache.name, "-o", "wide").splitlines()
    assert "WARM" in row[0].split()
    assert told["summary"] in row[1].split()
    fetched = asked(upstream, image, before)
    small = {f"manifests/{image.tag}", f"manifests/{image.digest}", f"blobs/{image.own.config.digest}"}
    assert f"blobs/{image.own.config.digest}" in fetched, "the image itself is its registry's"
    assert set(fetched) <= small, "and no layer of it"

    before = len(upstream.access_log())
    for number, node in enumerate(nodes):
        pods.append(f"e2e-warm-{number}")
        cache.kube.apply({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pods[-1], "namespace": "default"},
            "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "containers": [
                {"name": "c", "image": reference(upstream, image), "imagePullPolicy": "IfNotPresent"},
            ]},
        })
    for pod in pods:
        cache.kube.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{pod}", "--timeout=60s")
        status = (cache.kube.get("pod", pod, "default") or {})["status"]["containerStatuses"][0]
        assert status["image"] == reference(upstream, image), "the node knows it by its own name"
    assert asked(upstream, image, before) == []


def test_one_image_that_cannot_be_had_does_not_hide_the_others(
    make_cache: Callable[..., Cache], upstream: Upstream, new_image: Callable[[], Image],
) -> None:
    gone, there = new_image(), new_image()
    cache = make_cache("e2e-warm-gone", reference(upstream, gone), reference(upstream, there))
    cache.wait_until_served(180)
    upstream.pusher.remove(gone)
    cache.edit(warmNodes={})
    nodes = len(cache.kube.cluster.nodes)

    def states() -> list[dict[str, bool]]:
        return [
            {c["name"]: c["ready"] for c in pod["status"].get("containerStatuses", [])} for pod in warmer_pods(cache)
        ]

    until(lambda: states() == [{"image-0": False, "image-1": True}] * nodes, "the second image is everywhere",
          WARM_SECONDS, lambda: f"{states()} {why(cache)}")
    told = cache.condition("Warm")
    assert (told["status"], told["reason"]) == ("False", "Warming")
    assert told["message"] == f"0 of {nodes} nodes hold every image"
    assert cache.status["phase"] == "Available"
    upstream.pusher.push(gone)


def test_it_goes_when_nobody_wants_it_or_the_cache_is_not_served_or_is_deleted(
    make_cache: Callable[..., Cache], upstream: Upstream,
) -> None:
    cache = make_cache("e2e-warm-off", upstream.reference(TOOLS), warmNodes={})
    uid = cache.uid
    is_warm(cache)
    cache.edit(warmNodes=None)
    until(lambda: of_warmer(cache, uid) == [], "nothing of the warmer is left", 60, lambda: why(cache))
    assert "warmNodes" not in cache.status
    assert cache.condition("Warm") == {}
    assert cache.condition("Served")["status"] == "True"

    cache.edit(warmNodes={"nodeSelector": {"kubernetes.io/hostname": cache.kube.cluster.nodes[-1]}})
    assert is_warm(cache)["summary"] == "1/1"
    cache.edit(serve=False)
    until(lambda: of_warmer(cache, uid) == [], "nothing of the warmer is left", 60, lambda: why(cache))
    until(lambda: cache.condition("Warm").get("reason") == "NotServed", "it is told", 30)

    cache.edit(serve=True)
    is_warm(cache)
    cache.delete()
    until(lambda: cache.children(uid) == [], "nothing at all is left", 60)


def test_what_the_api_server_refuses_is_told_and_harms_nothing(
    make_cache: Callable[..., Cache], upstream: Upstream,
) -> None:
    cache = make_cache("e2e-warm-refused", upstream.reference(TOOLS), warmNodes={"nodeSelector": {"no label": "x"}})

    def told() -> bool:
        return "nodeSelector" in cache.condition("Warm").get("message", "")

    until(told, "the API server's words are told", 180, lambda: str(cache.status))
    assert cache.condition("Warm")["status"] == "False"
    assert cache.condition("Served")["status"] == "True"
    assert cache.status["phase"] == "Available"
    cache.edit(warmNodes={"nodeSelector": None})
    is_warm(cache)


def test_a_warmer_that_rests_is_not_written_to(make_cache: Callable[..., Cache], upstream: Upstream) -> None:
    """The API server has filled in its defaults; passes that look at it want nothing else."""
    cache = make_cache("e2e-warm-rests", upstream.reference(TOOLS), warmNodes={
        "nodeSelector": {"kubernetes.io/arch": machine_architecture()}, "tolerations": [{"operator": "Exists"}],
    })
    is_warm(cache)

    def versions() -> tuple[str, int]:
        daemon_set, = (c for c in of_warmer(cache, cache.uid) if c["kind"] == "DaemonSet")
        return str((cache.object or {})["metadata"]["resourceVersion"]), daemon_set["metadata"]["generation"]

    until(lambda: all(p["status"]["phase"] == "Running" for p in warmer_pods(cache)), "all of it runs", 30)
    before = versions()
    cache.annotate("imagecache.dev/retry=seen")
    until(lambda: cache.status.get("handledRetry") == "seen", "a pass was made", 30)
    assert versions()[1] == before[1] == 1
