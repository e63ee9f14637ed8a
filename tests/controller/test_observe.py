# SPDX-License-Identifier: Apache-2.0
"""The first step of a pass: which objects count, and for whom."""

from __future__ import annotations

import pytest
from imagecache_operator import names
from imagecache_operator.cluster.api import Unavailable
from imagecache_operator.cluster.observe import home_uid, observe
from imagecache_operator.planning.observed import Kubelet, Neighbour, Observed

from .world import World


def seen(world: World, name: str = "ml") -> Observed:
    uid = world.cache(name)["metadata"]["uid"]
    found = observe(world.memory, name, uid, home_uid(world.memory), names.NAMESPACE)
    assert found is not None
    return found


def neighbour(world: World, name: str = "ml") -> Neighbour:
    return next(n for n in seen(world, name).neighbours if n.name == name)


def with_builder() -> World:
    world = World()
    world.make("ml")
    while not world.api.pods_made:
        world.one_pass("ml")
    return world


def test_a_builder_takes_a_slot_until_it_has_ended_and_not_until_its_pod_is_removed() -> None:
    world = with_builder()
    for _ in range(3):
        assert neighbour(world).has_builder
        world.kubelet.step()
    assert seen(world).builders[0].terminated
    assert not neighbour(world).has_builder


def test_a_builder_that_is_asked_to_stop_still_takes_its_slot() -> None:
    world = with_builder()
    world.kubelet.step()
    world.memory.delete("Pod", seen(world).builders[0].name, names.NAMESPACE)
    assert seen(world).builders[0].deleting
    assert neighbour(world).has_builder


def test_everybody_sees_all_caches_and_only_its_own_children() -> None:
    world = with_builder()
    world.make("other")
    other = seen(world, "other")
    assert {n.name: n.has_builder for n in other.neighbours} == {"ml": True, "other": False}
    assert (other.builders, other.volume) == ((), None)
    mine = seen(world)
    assert mine.volume is not None
    assert len(mine.builders) == 1


def test_children_of_another_home_cluster_are_not_ours() -> None:
    world = with_builder()
    uid = world.cache("ml")["metadata"]["uid"]
    found = observe(world.memory, "ml", uid, "another-cluster", names.NAMESPACE)
    assert found is not None
    assert (found.builders, found.volume) == ((), None)


def test_progress_is_read_from_a_builder_that_runs() -> None:
    world = with_builder()
    assert seen(world).progress is None
    world.kubelet.step()
    world.kubelet.step()
    progress = seen(world).progress
    assert progress is not None
    assert (progress.bytes_done, progress.bytes_total) == (10, 20)


def test_the_platforms_of_all_nodes_are_wanted_once() -> None:
    world = World()
    world.make("ml")
    for number, architecture in enumerate(["arm64", "amd64", "arm64"]):
        world.memory.create({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"more-{number}"},
            "status": {"nodeInfo": {"operatingSystem": "linux", "architecture": architecture}},
        })
    assert seen(world).platforms == ("linux/amd64", "linux/arm64")


def test_the_kubelets_are_seen() -> None:
    world = World()
    world.make("ml")
    assert seen(world).kubelets == (Kubelet("v1.37.2", "node-1"),)


def test_a_cluster_without_nodes_is_waited_for() -> None:
    world = World()
    world.make("ml")
    world.memory.remove("Node", "node-1")
    with pytest.raises(Unavailable, match="no nodes"):
        seen(world)


def test_a_cluster_without_an_identity_is_waited_for() -> None:
    world = World()
    world.memory.remove("Namespace", "kube-system")
    with pytest.raises(Unavailable, match="kube-system"):
        home_uid(world.memory)
