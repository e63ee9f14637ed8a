# SPDX-License-Identifier: Apache-2.0
"""The operator may be killed before or after any of its writes, and always ends in the same place."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageOutcome, Outcome

from .kubelet import DIGEST, LOST, Script, always_good, pulled
from .world import IMAGES, PULL_SECRET, World

MOST_WRITES = 400
PRIVATE = {"buildingConfig": {"imagePullSecrets": [PULL_SECRET]}}


def refused(reason: Reason) -> Outcome:
    return Outcome(images=(ImageOutcome(reason=reason), ImageOutcome(digest=DIGEST, size=1024)), used=1024)


@dataclass(frozen=True)
class Story:
    """How builders end, and what must be true at the end: the phase, its reason, and the attempts that were made."""

    script: Script
    phase: str
    reason: str
    attempts: int
    failures: int
    private: bool = False  # built with a pull Secret


def then_good(*first: Outcome | None) -> Script:
    """These ends for the first attempts, and good ones after them."""
    return lambda cache, attempt: first[attempt - 1] if attempt <= len(first) else pulled()


STORIES = {
    "good at once": Story(always_good, "Available", "Available", 1, 0),
    "private": Story(always_good, "Available", "Available", 1, 0, private=True),
    "private, evicted": Story(then_good(LOST), "Available", "Available", 2, 0, private=True),
    "evicted twice": Story(then_good(LOST, LOST), "Available", "Available", 3, 0),
    "registry down": Story(then_good(refused(Reason.TIMEOUT)), "Available", "Available", 2, 0),
    "image missing": Story(lambda *_: refused(Reason.NOT_FOUND), "Failed", "ImageFailed", 1, 1),
    "lost, then missing": Story(then_good(LOST, refused(Reason.NOT_FOUND)), "Failed", "ImageFailed", 2, 2),
    "never an answer": Story(lambda *_: LOST, "Failed", "AttemptsExhausted", 6, 6),
}


def told(world: World) -> None:
    """What must not get lost, wherever the operator was killed."""
    status = world.status("ml")
    images = {i["reference"]: i for i in status["images"]}
    assert list(images) == IMAGES
    if status["phase"] == "Available":
        assert [i["digest"] for i in images.values()] == [DIGEST, DIGEST]
        assert status["size"] == "2.0 KiB of 20 GiB"
        assert status["volume"]["uid"]
    if world.reason("ml") == "ImageFailed":
        assert images[IMAGES[0]]["reason"] == "NotFound"
        assert images[IMAGES[1]]["digest"] == DIGEST
        assert IMAGES[0] in status["message"]


def build(story: Story, dies: Callable[[int], bool], after: bool) -> World:
    world = World(story.script)
    if story.private:
        world.make_pull_secret()
    world.make("ml", **(PRIVATE if story.private else {}))
    world.api.die_at, world.api.after = dies, after
    world.run(lambda: world.phase("ml") == story.phase)
    world.api.die_at = lambda n: False
    world.settle()
    assert (world.phase("ml"), world.reason("ml")) == (story.phase, story.reason)
    attempt = world.status("ml")["attempt"]
    assert (attempt["number"], attempt["failures"]) == (story.attempts, story.failures)
    assert len(world.api.pods_made) == story.attempts, "as many builders as attempts"
    assert set(world.api.pods_made.values()) == {1}, "and each of them made once"
    assert world.kubelet.most_alive == 1
    told(world)
    assert world.children("builder", "credentials") == []
    assert len(world.children("volume")) == 1
    served = story.phase == "Available" and not story.private
    assert len(world.children("server")) == (3 if served else 0), "Deployment, Service and Pod, or nothing"
    assert world.condition("ml", "Served")["status"] == str(served)
    return world


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("name", STORIES)
def test_a_build_survives_a_kill_at_any_write(name: str, after: bool) -> None:
    for n in range(1, MOST_WRITES):
        world = build(STORIES[name], lambda count, n=n: count == n, after)  # type: ignore[misc]
        if world.deaths == 0:
            assert n > 5, "there are writes to be killed at"
            return
    raise AssertionError("more writes than anybody expects")


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", STORIES)
def test_a_build_survives_many_kills(name: str, seed: int) -> None:
    chance = random.Random(seed)
    build(STORIES[name], lambda n: chance.random() < 0.3, chance.random() < 0.5)


STAGES: dict[str, Callable[[World], bool]] = {
    "announced": lambda w: (w.status("ml").get("attempt") or {}).get("state") == "Starting",
    "builder made": lambda w: bool(w.api.pods_made),
    "running": lambda w: w.reason("ml") == "Pulling" if w.phase("ml") else False,
    "available": lambda w: w.phase("ml") == "Available",
}


def delete(stage: str, dies: Callable[[int], bool], after: bool) -> World:
    world = World()
    world.make_pull_secret()
    uid = world.make("ml", **PRIVATE)
    world.run(lambda: STAGES[stage](world))
    world.delete("ml")
    begin = world.api.writes
    world.api.die_at, world.api.after = lambda n: dies(n - begin), after
    world.run(lambda: world.is_gone("ml"))
    assert world.children() == [], "nothing is left"
    assert world.operator.run_once("ml", uid).gone, "another pass does no harm"
    return world


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_deletion_survives_a_kill_at_any_write(stage: str, after: bool) -> None:
    for n in range(1, MOST_WRITES):
        if delete(stage, lambda count, n=n: count == n, after).deaths == 0:  # type: ignore[misc]
            assert n > 1 or stage == "announced", "there are writes to be killed at"
            return
    raise AssertionError("more writes than anybody expects")


@pytest.mark.parametrize("seed", range(20))
def test_a_cache_that_was_made_again_is_another_one(seed: int) -> None:
    """Same name, new uid, generation 1 again: no child of the old one is taken for one of the new one."""
    chance = random.Random(seed)
    world = World()
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    old = world.children()
    world.delete("ml")
    world.api.die_at = lambda n: chance.random() < 0.3
    world.run(lambda: world.is_gone("ml"))
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available")
    world.api.die_at = lambda n: False
    world.settle()
    assert set(old).isdisjoint(world.children())
    assert len(world.children()) == len(old)


@pytest.mark.parametrize("seed", range(10))
def test_a_person_who_asks_again_is_heard_once(seed: int) -> None:
    chance = random.Random(seed)
    world = World(then_good(refused(Reason.NOT_FOUND)))
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Failed")
    world.settle()
    world.annotate("ml", "again")
    world.api.die_at, world.api.after = lambda n: chance.random() < 0.3, seed % 2 == 0
    world.run(lambda: world.phase("ml") == "Available")
    world.api.die_at = lambda n: False
    world.settle()
    assert world.status("ml")["attempt"]["number"] == 2
    assert world.status("ml")["handledRetry"] == "again"
    assert sum(world.api.pods_made.values()) == 2
