# SPDX-License-Identifier: Apache-2.0
"""The node that holds a cache's volume and server falls silent. The cache says so, Pods elsewhere start from their
registry, and all is as before when the node comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from imagecache_operator import names

from tests.support.install import DEPLOYMENT, WEBHOOK
from tests.support.kube import NAMESPACE, Cache, Kube, until
from tests.support.starts import Starts, reason, volumes
from tests.support.upstream import Upstream

CACHE, IMAGE = "e2e-node-lost", "data/only:5"
NOTICED_SECONDS = 120  # by default Kubernetes gives a node 50 s
SILENT_SECONDS = 150  # seen: 73. Kernels of lost nodes may still take connections, and containerd waits for an answer


@contextmanager
def closed(kube: Kube, node: str) -> Iterator[None]:
    """No Pod is scheduled there."""
    kube.cluster.kubectl("cordon", node)
    try:
        yield
    finally:
        kube.cluster.kubectl("uncordon", node)


def move_away(kube: Kube, deployment: str, node: str) -> None:
    """A Pod of it runs elsewhere."""
    selector = f"app.kubernetes.io/name={deployment.partition('/')[2]}"

    def there() -> list[str]:
        return [p["metadata"]["name"] for p in kube.list("pods", selector) if p["spec"].get("nodeName") == node]

    def elsewhere() -> bool:
        pods = [p for p in kube.list("pods", selector) if p["metadata"]["name"] not in there()]
        return any(s["ready"] for p in pods for s in p["status"].get("containerStatuses", []))

    if not elsewhere():
        kube.cluster.kubectl("-n", NAMESPACE, "delete", "pods", *there(), "--grace-period=1")
    until(elsewhere, f"a Pod of {deployment} is ready elsewhere than on {node}", 90)


def all_is_well(kube: Kube) -> None:
    kubectl = kube.cluster.kubectl
    kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=120s")
    for namespace, deployment in (
        (NAMESPACE, DEPLOYMENT), (NAMESPACE, WEBHOOK), ("kube-system", "deployment/coredns"),
        ("local-path-storage", "deployment/local-path-provisioner"),
    ):
        kubectl("-n", namespace, "rollout", "status", deployment, "--timeout=120s")


@pytest.fixture
def far(kube: Kube, upstream: Upstream) -> Iterator[tuple[Cache, str]]:
    """A served cache whose volume and server are on the worker, and the worker. What watches over it is not there."""
    home, worker = kube.cluster.nodes
    with closed(kube, worker):
        for deployment in (DEPLOYMENT, WEBHOOK):
            move_away(kube, deployment, worker)
    cache = Cache(kube, CACHE)
    try:
        with closed(kube, home):
            cache.apply([upstream.reference(IMAGE)])
            cache.wait_for("Available")
            cache.wait_until_served()
        yield cache, worker
    finally:
        kube.cluster.engine.docker("unpause", worker, check=False)  # fails where it is not paused
        all_is_well(kube)
        cache.delete()


def test_a_lost_node_is_told_and_blocks_nobody_elsewhere(
    far: tuple[Cache, str], starts: Starts, kube: Kube,
) -> None:
    cache, worker = far
    image = starts.reference(IMAGE)
    until(lambda: starts.would_be_injected(image, CACHE), "the webhook knows the cache", 30)
    added = starts.dry_run(starts.manifest("x", image, ask=CACHE))["spec"]["volumes"]
    starts.forget(IMAGE)
    kube.cluster.engine.docker("pause", worker)
    try:
        # As the webhook makes them until the loss is noticed; it may itself have a Pod on that node.
        starts.create("at-once", image, ask=names.NONE, volumes=added)

        def told() -> bool:
            served = cache.condition("Served")
            return served["status"] == "False" and f"its node {worker} is not ready" in served["message"]

        until(told, "the cache is not served, and says why", NOTICED_SECONDS, lambda: str(cache.status))
        assert cache.status["phase"] == "Available", "nothing has been seen to be lost"
        until(lambda: not starts.would_be_injected(image, CACHE), "the webhook knows", 30)
        starts.runs("at-once", SILENT_SECONDS)
        assert starts.failed_at_the_cache("at-once")
        starts.remove()
        starts.forget(IMAGE)
        before = starts.logged()
        started = starts.start("elsewhere", image, ask=CACHE)
        assert volumes(started) == []
        assert f"is not served now: Waiting for server {cache.status['server']['name']}: its node {worker}" in reason(
            started,
        )
        assert starts.layers_asked(before, IMAGE)
    finally:
        kube.cluster.engine.docker("unpause", worker)
    cache.wait_until_served(120)
    starts.remove()
    until(lambda: starts.would_be_injected(image, CACHE), "the webhook knows that it is served again", 30)
    starts.forget(IMAGE)
    before = starts.logged()
    assert len(volumes(starts.start("again", image, ask=CACHE))) == 1
    assert starts.layers_asked(before, IMAGE) == set()
