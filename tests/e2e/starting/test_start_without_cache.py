# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with a cache, a Pod that asked for it starts: from its registry, as it would without us."""

from __future__ import annotations

from imagecache_operator import names
from imagecache_operator.planning.matching import MOST_PULLS

from tests.support import server_process
from tests.support.images import Image
from tests.support.kube import NAMESPACE, Cache, Kube
from tests.support.starts import IMAGES, Starts, reason, volumes
from tests.support.upstream import Upstream

APP = IMAGES[0]


def test_a_deleted_cache_blocks_nobody(kube: Kube, starts: Starts, upstream: Upstream) -> None:
    """The Pod names a server that is gone: connection refused, an event, a normal pull."""
    gone = Cache(kube, "e2e-start-gone")
    tools = upstream.reference("base/tools:1.0")
    gone.apply([upstream.reference("data/only:5"), tools])
    try:
        gone.wait_for("Available")
        gone.wait_until_served()
        dry = starts.dry_run(starts.manifest("probe", tools, ask=gone.name))
        injected = [v for v in dry["spec"]["volumes"] if v["name"].startswith("imagecache-")]
        assert injected, "the webhook also answers dry runs"
    finally:
        gone.delete()
    starts.forget()
    started = starts.start("orphan", tools, ask=names.NONE, volumes=injected)
    assert started["status"]["phase"] == "Running"
    assert starts.failed_at_the_cache("orphan")


def test_a_cache_that_is_not_there_is_told_to_who_asks(starts: Starts) -> None:
    started = starts.start("missed", starts.reference(APP), ask="no-such-cache")
    assert started["metadata"]["labels"][names.LABEL_NOT_INJECTED] == "true"
    assert "no-such-cache" in reason(started)
    assert volumes(started) == []


def test_a_server_that_is_killed_while_a_node_pulls_from_it(
    public_cache: Cache, large_image: Image, starts: Starts, kube: Kube,
) -> None:
    """Half of a layer has come. The node throws it away, tells so, and asks the registry."""
    server = server_process.of(public_cache)
    node = kube.cluster.nodes.index(server.node)
    layer = large_image.own.layers[-1]
    starts.forget(large_image, node=node)
    before = starts.logged()
    try:
        server.stop()
        starts.create("cut", starts.reference(large_image), node=node)
        assert volumes(starts.find("cut")) != []
        server.give_a_part_of(layer.diff_id)  # on the cache it lies decompressed
        assert starts.phase("cut") == "Pending"
        server.kill()
        starts.runs("cut")
        assert layer.digest in starts.layers_asked(before, large_image)
        assert starts.failed_at_the_cache("cut")
    finally:
        server.is_back()


def test_a_damaged_volume_spoils_no_node(kube: Kube, starts: Starts, upstream: Upstream) -> None:
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
        starts.forget(name)
        before = starts.logged()
        started = starts.start("spoiled", image, ask=damaged.name)
        assert len(volumes(started)) == 1
        assert starts.layers_asked(before, name)
        assert starts.failed_at_the_cache("spoiled")
    finally:
        damaged.delete()


def test_as_many_dead_volumes_as_there_may_be_let_the_pod_start(starts: Starts) -> None:
    """One more than the bound would be refused for ever: docs/decisions/0008-injection.md."""
    starts.forget()
    dead = [
        {"name": f"imagecache-{n}", "image": {
            "reference": f"localhost:1/carrier/gone{n}@sha256:{n:064d}", "pullPolicy": "IfNotPresent",
        }}
        for n in range(MOST_PULLS - 1)
    ]
    starts.start("bound", starts.reference(APP), ask=names.NONE, volumes=dead)


def test_the_operators_own_namespace_is_left_alone(public_cache: Cache, starts: Starts) -> None:
    manifest = starts.manifest("own", starts.reference(APP))
    assert len(volumes(starts.dry_run(manifest))) == 1
    manifest["metadata"]["namespace"] = NAMESPACE
    assert volumes(starts.dry_run(manifest)) == []
