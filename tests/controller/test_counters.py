# SPDX-License-Identifier: Apache-2.0
"""What the operator counts, over whole lives of caches."""

from __future__ import annotations

from imagecache_operator.controller.counters import Counters
from imagecache_operator.controller.reconciler import Pass

from .world import World


def values(counters: Counters, metric: str) -> dict[str, float]:
    """What is not 0, by the only label."""
    return {
        label: sample.value for family in counters.registry.collect() if family.name == metric
        for sample in family.samples if sample.name in (metric, f"{metric}_total") and sample.value
        for label in sample.labels.values()
    }


def lived(world: World, counters: Counters, name: str, rounds: int = 60) -> Pass:
    """As the daemon would make the passes, with the cluster at work between them."""
    uid = world.cache(name)["metadata"]["uid"]
    for _ in range(rounds):
        done = world.one_pass(name)
        counters.saw(uid, done)
        if done.gone:
            break
        world.kubelet.step()
        world.now += done.again_in
    return done


def test_a_cache_is_built_and_deleted() -> None:
    world, counters = World(), Counters()
    world.make("ml")
    lived(world, counters, "ml")
    assert values(counters, "imagecache_caches") == {"Available": 1}
    assert values(counters, "imagecache_attempts") == {"Succeeded": 1}
    world.make("other")
    lived(world, counters, "other")
    assert values(counters, "imagecache_caches") == {"Available": 2}
    world.delete("ml")
    assert lived(world, counters, "ml").gone
    assert values(counters, "imagecache_caches") == {"Available": 1}
    assert values(counters, "imagecache_attempts") == {"Succeeded": 2}
