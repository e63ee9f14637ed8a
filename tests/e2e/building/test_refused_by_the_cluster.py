# SPDX-License-Identifier: Apache-2.0
"""A cluster that says no: quota, limits, no room on any node, no StorageClass. People read the cluster's own words in
the cache's status, and the cache goes on by itself when the cause is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import slow_link
from tests.support.kube import NAMESPACE, Cache, Kube, until
from tests.support.upstream import PORT, SLOW_HOST, Upstream

TOOLS = "base/tools:1.0"


@pytest.fixture
def put(kube: Kube) -> Iterator[Callable[[str, str, dict[str, Any]], None]]:
    """Puts an object into the operator's namespace, until the test's end at the latest."""
    there: list[tuple[str, str]] = []

    def apply(kind: str, name: str, spec: dict[str, Any]) -> None:
        there.append((kind, name))
        kube.apply({"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec})

    yield apply
    for kind, name in there:
        kube.delete(kind, name)


def says(cache: Cache, reason: str, *words: str) -> None:
    """Wait until the cache's Ready condition has that reason, and these words."""
    def told() -> bool:
        ready = cache.condition("Ready")
        return ready.get("reason") == reason and all(word in ready["message"] for word in words)

    until(told, f"{cache.name} says {reason} with {words}", 60, lambda: str(cache.status))


def again(cache: Cache) -> None:
    """Ask for another look; it would come by itself within a minute."""
    cache.annotate(f"imagecache.dev/retry={cache.status['attempt']['number']}")


def test_a_quota_of_storage(make_cache: Callable[..., Cache], upstream: Upstream, put: Callable[..., None]) -> None:
    put("ResourceQuota", "e2e-storage", {"hard": {"requests.storage": "1Gi"}})
    kube = make_cache("e2e-quota", upstream.reference(TOOLS)).kube
    cache = Cache(kube, "e2e-quota")
    says(cache, "Rejected", "exceeded quota: e2e-storage", "requests.storage=20Gi")
    assert cache.status["phase"] == "Failed"
    kube.delete("resourcequota", "e2e-storage")
    again(cache)
    cache.wait_for("Available")


def test_a_limit_of_processors(make_cache: Callable[..., Cache], upstream: Upstream, put: Callable[..., None]) -> None:
    put("LimitRange", "e2e-cpu", {"limits": [{"type": "Container", "max": {"cpu": "100m"}}]})
    cache = make_cache("e2e-limits", upstream.reference(TOOLS))
    says(cache, "Rejected", "maximum cpu usage per Container is 100m")
    assert cache.status["attempt"]["number"] == 1, "what was refused is no attempt that failed"
    cache.kube.delete("limitrange", "e2e-cpu")
    again(cache)
    cache.wait_for("Available")


def test_no_room_on_any_node(kube: Kube, make_cache: Callable[..., Cache], upstream: Upstream) -> None:
    try:
        for node in kube.cluster.nodes:
            kube.cluster.kubectl("cordon", node)
        cache = make_cache("e2e-no-room", upstream.reference(TOOLS))
        says(cache, "BuilderPending", "nodes are available", "unschedulable")
        assert cache.status["phase"] == "Creating"
    finally:
        for node in kube.cluster.nodes:
            kube.cluster.kubectl("uncordon", node)
    assert cache.wait_for("Available")["attempt"]["number"] == 1


def test_no_default_storage_class(kube: Kube, make_cache: Callable[..., Cache], upstream: Upstream) -> None:
    def default(is_default: str) -> None:
        mark = f"storageclass.kubernetes.io/is-default-class={is_default}"
        kube.cluster.kubectl("annotate", "storageclass", "standard", mark, "--overwrite")

    default("false")
    try:
        cache = make_cache("e2e-no-default-class", upstream.reference(TOOLS))
        says(cache, "VolumePending", "no default StorageClass", "standard")
        named = make_cache("e2e-no-such-class", upstream.reference(TOOLS), storageClassName="fast")
        says(named, "VolumePending", "StorageClass fast does not exist", "there are: standard")
    finally:
        default("true")
    cache.wait_for("Available")  # Kubernetes gives a waiting claim the default class when there is one


def test_a_builder_that_is_evicted(
    kube: Kube, make_cache: Callable[..., Cache], upstream: Upstream, put: Callable[..., None],
) -> None:
    """By the kubelet itself, because the builder's log alone is more than it may write on the node."""
    slow_link.start(kube.cluster, SLOW_HOST, upstream.host, PORT, 400_000)
    try:
        put("LimitRange", "e2e-disk", {"limits": [{"type": "Container", "default": {"ephemeral-storage": "1"}}]})
        cache = make_cache("e2e-evicted", f"{SLOW_HOST}:{PORT}/team/app:2.1")
        until(lambda: cache.status.get("attempt", {}).get("failures") == 1, "the attempt is lost", 120,
              lambda: str(cache.status))
        says(cache, "RetryScheduled", "Evicted")
        kube.delete("limitrange", "e2e-disk")
    finally:
        slow_link.start(kube.cluster, SLOW_HOST, upstream.host, PORT, 20_000_000)
    assert cache.wait_for("Available")["attempt"]["number"] == 2
    slow_link.stop(kube.cluster, SLOW_HOST)
