# SPDX-License-Identifier: Apache-2.0
"""A node of each pool tries a cache before Pods start from it: nothing of that is left, and where one cannot, Pods
start as if there were no cache."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from imagecache_operator import names
from imagecache_operator.cluster.nodes import POOL_LABELS

from tests.support.kube import Cache, Kube, until
from tests.support.starts import Starts, reason, volumes

POOL = "e2e-canaries"
# For whatever is not trusted by name: a mirror that is down.
_DEAF = '/etc/containerd/certs.d/_default/hosts.toml'


@pytest.fixture
def pool(kube: Kube) -> Iterator[str]:
    """The second node, in a pool of its own."""
    node = kube.cluster.nodes[1]
    kube.cluster.kubectl("label", "node", node, f"{POOL_LABELS[0]}={POOL}")
    yield node
    kube.cluster.kubectl("label", "node", node, f"{POOL_LABELS[0]}-")


@pytest.fixture
def deaf(kube: Kube, pool: str) -> Iterator[str]:
    """That node, which reaches no server of a cache."""
    kube.cluster.on_node(pool, f'mkdir -p {_DEAF.rpartition("/")[0]}\necho \'server = "http://127.0.0.1:9"\' > {_DEAF}')
    yield pool
    kube.cluster.on_node(pool, f"rm -r {_DEAF.rpartition('/')[0]}")


def canaries(cache: Cache) -> dict[str, bool]:
    """By pool, whether its trial has passed."""
    return {c["pool"].rpartition(", ")[2]: c["passed"] for c in cache.status["server"].get("canaries", [])}


def test_a_node_of_each_pool_has_tried_it(public_cache: Cache, pool: str) -> None:
    """Two pools of one node each, the second of which has come since."""
    public_cache.edit(retentionDays=1000)  # nodes wake no pass, an edit does
    kube = public_cache.kube

    def tried() -> bool:
        return canaries(public_cache).get(f"pool {POOL}") is True

    until(tried, "the new pool has tried it", 60, lambda: str(public_cache.status["server"]))
    assert all(canaries(public_cache).values())
    until(lambda: not kube.list("pods", f"{names.LABEL_COMPONENT}={names.COMPONENT_CANARY}"), "no canary is left", 30)


def test_where_one_cannot_pods_start_without_the_cache(
    deaf: str, make_cache: Callable[..., Cache], starts: Starts, kube: Kube,
) -> None:
    image = starts.reference("base/tools:1.0")
    cache = make_cache("e2e-canaries", image)
    cache.wait_for("Available")

    def failed() -> bool:
        return cache.condition("Served").get("reason") == "CanaryFailed"

    until(failed, "the trial has failed", 120, lambda: str(cache.status))
    assert f"Node {deaf} " in cache.condition("Served")["message"]
    assert "127.0.0.1:9" in cache.condition("Served")["message"], "what the node was told"
    until(lambda: "cannot start Pods from it" in reason(starts.dry_run(starts.manifest("x", image, ask=cache.name))),
          "the webhook knows", 30)
    assert volumes(starts.start("anyway", image, ask=cache.name)) == []
    # Whoever knows that no such Pod ever runs there says so.
    kube.cluster.kubectl("label", "node", deaf, f"{names.LABEL_CANARY}={names.NONE}")
    try:
        cache.edit(retentionDays=1000)
        cache.wait_until_served()
    finally:
        kube.cluster.kubectl("label", "node", deaf, f"{names.LABEL_CANARY}-")
