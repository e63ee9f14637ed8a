# SPDX-License-Identifier: Apache-2.0
"""Many caches at once share slots and quota, whatever the order in which their passes' calls reach the API server."""

from __future__ import annotations

import random
from datetime import timedelta
from functools import partial

import pytest
from imagecache_operator import names
from imagecache_operator.controller.reconciler import Reconciler

from .kubelet import LOST, pulled
from .turns import Interleaved, TurnLock, Turns
from .world import Killed, World


def crowd(seed: int, count: int, loss: float = 0.2, **settings: int) -> World:
    """A world of caches whose builders are lost now and then."""
    chance = random.Random(seed)
    world = World(lambda *_: LOST if chance.random() < loss else pulled(), **settings)
    for number in range(count):
        world.make(f"cache-{number}")
        world.now += timedelta(seconds=chance.choice([0, 0, 1]))  # some are of one age
    return world


def all_available(world: World) -> bool:
    return all(c.get("status", {}).get("phase") == "Available" for c in world.memory.list(names.KIND))


def passes(operator: Reconciler, name: str, uid: str) -> None:
    for _ in range(3):  # one pass of a cache may last as long as several of another
        operator.run_once(name, uid)


@pytest.mark.parametrize("seed", range(30))
def test_interleaved_passes_never_build_more_than_there_are_slots(seed: int) -> None:
    world, turns = crowd(seed, 4, 0.4, max_builders=1 + seed % 2, max_attempts=50), Turns(seed)
    operator = world.reconciler(Interleaved(world.api, turns), TurnLock(turns))
    chance = random.Random(seed)
    for _ in range(300):
        if all_available(world):
            break
        caches = [c["metadata"] for c in world.memory.list(names.KIND)]
        some = chance.sample(caches, chance.randint(2, len(caches)))
        turns.run(*(partial(passes, operator, meta["name"], meta["uid"]) for meta in some))
        world.kubelet.step()
        world.now += timedelta(seconds=chance.choice([1, 7, 30]))
    assert all_available(world)
    assert world.kubelet.most_alive <= 1 + seed % 2


@pytest.mark.parametrize("seed", range(15))
def test_random_passes_and_kills_end_with_everybody_served(seed: int) -> None:
    world = crowd(seed, 5, max_builders=2, max_attempts=50)
    chance = random.Random(seed)
    world.api.die_at, world.api.after = lambda n: chance.random() < 0.1, seed % 2 == 0
    for _ in range(2000):
        if all_available(world):
            break
        try:
            world.one_pass(f"cache-{chance.randrange(5)}")
        except Killed:
            world.operator = world.reconciler(world.api)
        if chance.random() < 0.5:
            world.kubelet.step()
        world.now += timedelta(seconds=chance.choice([0, 1, 20]))
    assert all_available(world)
    assert world.kubelet.most_alive <= 2
    assert set(world.api.pods_made.values()) == {1}


def test_the_oldest_are_served_and_the_rest_waits_for_a_deletion() -> None:
    world = World(max_caches=3, max_builders=2)
    for number in range(5):
        world.make(f"cache-{number}")
        world.now += timedelta(seconds=1)
    oldest = [f"cache-{n}" for n in range(3)]
    world.run(lambda: all(world.phase(n) == "Available" for n in oldest))
    world.settle()
    for waiting in ("cache-3", "cache-4"):
        assert (world.phase(waiting), world.reason(waiting)) == ("Creating", "QuotaExceeded")
    assert world.kubelet.most_alive <= 2
    assert len(world.children("volume")) == 3
    world.delete("cache-1")
    world.run(lambda: world.is_gone("cache-1") and world.phase("cache-3") == "Available")
    world.settle()
    assert world.reason("cache-4") == "QuotaExceeded"


def test_those_who_wait_for_a_slot_go_in_the_order_of_their_age() -> None:
    begun: list[str] = []

    def remember(cache: str, attempt: int) -> object:
        begun.append(cache)
        return pulled()

    world = World(remember, max_builders=1)  # type: ignore[arg-type]
    for number in range(4):
        world.make(f"cache-{number}")
        world.now += timedelta(seconds=1)
    world.run(lambda: all_available(world))
    assert begun == [f"cache-{n}" for n in range(4)]
    assert world.kubelet.most_alive == 1


def test_one_that_waits_for_its_back_off_does_not_hold_up_the_others() -> None:
    world = World(lambda cache, attempt: LOST if cache == "cache-0" and attempt < 6 else pulled(), max_builders=1)
    for number in range(3):
        world.make(f"cache-{number}")
        world.now += timedelta(seconds=1)
    world.run(lambda: world.phase("cache-2") == "Available")
    assert world.phase("cache-0") == "Creating"
    world.run(lambda: all_available(world))
    assert world.kubelet.most_alive == 1
