# SPDX-License-Identifier: Apache-2.0
"""One pass when the API server does not simply say yes; and what a pass writes, and does not write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageOutcome, Outcome
from imagecache_operator.cluster.api import Conflict, Object, Unavailable

from .kubelet import DIGEST, LOST, pulled
from .world import World


def refuse(world: World, verb: str, kind: str, words: str) -> None:
    world.memory.refuse = lambda v, m: words if (v, m["kind"]) == (verb, kind) else None


def allow(world: World) -> None:
    world.memory.refuse = lambda verb, manifest: None


def fail_once(world: World, call: str, error: Exception) -> None:
    """The next such call of the operator raises."""
    real: Callable[..., Any] = getattr(world.api, call)

    def failing(*args: Any, **more: Any) -> Any:
        setattr(world.api, call, real)
        raise error

    setattr(world.api, call, failing)


def is_quiet(world: World) -> bool:
    """Whether passes leave the ImageCache as it is."""
    before = world.cache("ml")["metadata"]["resourceVersion"]
    for _ in range(3):
        world.one_pass("ml")
    return bool(world.cache("ml")["metadata"]["resourceVersion"] == before)


def pulling(world: World) -> None:
    """Brings the cache to where its builder runs, and no further."""
    while True:
        for _ in range(3):
            world.one_pass("ml")
        if world.reason("ml") == "Pulling":
            return
        world.kubelet.step()


def test_a_conflict_on_status_is_another_pass_at_once() -> None:
    world = World()
    world.make("ml")
    fail_once(world, "apply_status", Conflict("changed"))
    done = world.one_pass("ml")
    assert done.again_in.total_seconds() == 0
    assert world.status("ml") == {}
    world.run(lambda: world.phase("ml") == "Available")


def test_a_change_by_somebody_else_during_a_pass_is_such_a_conflict() -> None:
    """Also where it changes nothing that we look at: whoever has read an old version must not write."""
    world = World()
    world.make("ml")
    real = world.memory.apply_status

    def meanwhile(manifest: Object) -> None:
        world.memory.apply_status = real  # type: ignore[method-assign]
        world.annotate("ml", "now")
        real(manifest)

    world.memory.apply_status = meanwhile  # type: ignore[method-assign]
    assert world.one_pass("ml").again_in.total_seconds() == 0
    assert world.status("ml") == {}


@pytest.mark.parametrize(("verb", "kind"), [("apply", "PersistentVolumeClaim"), ("create", "Pod")])
def test_a_refusal_is_told_in_the_servers_words_and_heals(verb: str, kind: str) -> None:
    world = World()
    world.make("ml")
    words = "exceeded quota: requests.storage=20Gi"
    refuse(world, verb, kind, words)
    world.run(lambda: world.phase("ml") == "Failed")
    assert world.reason("ml") == "Rejected"
    assert words in world.status("ml")["message"]
    done = world.one_pass("ml")
    assert 10 <= done.again_in.total_seconds() <= 600, "it is tried again, in a while"
    assert is_quiet(world)
    allow(world)
    world.run(lambda: world.phase("ml") == "Available")
    assert world.status("ml")["attempt"]["number"] == 1, "a refusal is no attempt"


def test_a_refused_growth_leaves_the_cache_available() -> None:
    world = World()
    world.make("ml", imageCacheSize=20)
    world.run(lambda: world.phase("ml") == "Available")
    refuse(world, "apply", "PersistentVolumeClaim", "the class cannot grow")
    world.memory.edit(names.KIND, "ml", lambda o: o["spec"].update(imageCacheSize=40))
    world.one_pass("ml")
    assert world.phase("ml") == "Available"
    assert "the class cannot grow" in world.status("ml")["message"]
    assert is_quiet(world)


def test_a_refused_deletion_goes_on_until_it_is_allowed() -> None:
    world = World()
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available")
    world.delete("ml")
    refuse(world, "delete", "PersistentVolumeClaim", "a policy forbids it")
    done = world.one_pass("ml")
    assert (done.gone, world.phase("ml")) == (False, "Deleting")
    assert "a policy forbids it" in world.status("ml")["message"]
    allow(world)
    world.run(lambda: world.is_gone("ml"))
    assert world.children() == []


@pytest.mark.parametrize("call", ["list", "create", "apply", "apply_status"])
def test_trouble_that_passes_is_raised_and_leaves_nothing_half_done(call: str) -> None:
    world = World()
    world.make("ml")
    met = 0
    for _ in range(40):
        fail_once(world, call, Unavailable("try later", 3))
        for _ in range(2):
            try:
                world.one_pass("ml")
            except Unavailable as trouble:
                met += trouble.retry_after == 3
        world.kubelet.step()
        if world.phase("ml") == "Available":
            break
    assert met
    assert world.phase("ml") == "Available"
    assert sum(world.api.pods_made.values()) == 1


def test_an_event_that_cannot_be_posted_stops_nothing() -> None:
    world = World()
    world.make("ml")
    refuse(world, "create", "Event", "forbidden")
    world.run(lambda: world.phase("ml") == "Available")
    assert world.events() == []


def test_events_tell_the_story_once() -> None:
    world = World(lambda cache, attempt: LOST if attempt == 1 else pulled())
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    assert {e["reason"] for e in world.events()} == {"BuilderPending", "RetryScheduled", "Available"}
    assert len(world.events()) == 3
    for event in world.events():
        assert event["metadata"]["namespace"] == "default"
        assert event["involvedObject"]["uid"] == world.cache("ml")["metadata"]["uid"]
        assert len(event["metadata"]["name"]) <= 253


def test_a_world_at_rest_is_not_written_to_even_when_time_passes() -> None:
    world = World()
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    writes = world.api.writes
    for _ in range(5):
        world.now += world.settings.resync
        world.one_pass("ml")
    assert world.api.writes == writes


def test_a_running_builder_is_written_about_only_when_it_moves() -> None:
    world = World()
    world.make("ml")
    pulling(world)
    writes = world.api.writes
    assert is_quiet(world)
    assert world.api.writes == writes
    assert world.status("ml")["progress"] == "50 %"


def test_one_that_is_gone_is_gone() -> None:
    world = World()
    uid = world.make("ml")
    world.memory.edit(names.KIND, "ml", lambda o: o["metadata"].update(finalizers=[]))
    world.delete("ml")
    assert world.operator.run_once("ml", uid).gone
    world.make("ml")
    assert world.operator.run_once("ml", uid).gone, "another one of that name is another one"


def test_a_volume_that_took_the_name_meanwhile_is_not_deleted_for_the_old_one() -> None:
    world = World()
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    world.delete("ml")
    real = world.memory.delete

    def meanwhile(kind: str, name: str, namespace: str | None = None, uid: str | None = None) -> None:
        if kind != "PersistentVolumeClaim":
            real(kind, name, namespace, uid)
            return
        world.memory.delete = real  # type: ignore[method-assign]
        made = world.memory.get(kind, name, namespace)
        assert made is not None
        world.memory.remove(kind, name, namespace)
        world.memory.create(made)
        real(kind, name, namespace, uid)

    world.memory.delete = meanwhile  # type: ignore[method-assign]
    world.one_pass("ml")
    claim, = world.memory.list("PersistentVolumeClaim")
    assert "deletionTimestamp" not in claim["metadata"], "the next pass sees the new one, and decides anew"


def test_an_expired_cache_is_deleted_and_its_volume_with_it() -> None:
    world = World()
    world.make("ml", retentionDays=1)
    world.run(lambda: world.phase("ml") == "Available")
    world.now = world.now.replace(day=world.now.day + 1)
    world.run(lambda: world.phase("ml") == "Unavailable")
    world.run(lambda: world.is_gone("ml"))
    assert world.children() == []


def test_a_released_cache_is_built_again_under_a_longer_life() -> None:
    world = World()
    world.make("ml", retentionDays=1, onExpiry="Release")
    world.run(lambda: world.phase("ml") == "Available")
    world.now = world.now.replace(day=world.now.day + 2)
    world.run(lambda: world.children() == [])
    assert (world.phase("ml"), world.reason("ml")) == ("Unavailable", "Expired")
    world.memory.edit(names.KIND, "ml", lambda o: o["spec"].update(retentionDays=30))
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    assert len(world.children("volume")) == 1


def test_a_lost_volume_is_seen_and_built_again_on_demand() -> None:
    world = World()
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    claim, = world.children("volume")
    world.memory.delete("PersistentVolumeClaim", claim, names.NAMESPACE)
    world.run(lambda: world.phase("ml") == "Unavailable")
    assert world.reason("ml") == "VolumeLost"
    world.settle()
    assert world.children() == [], "nothing is built before a person asks"
    world.annotate("ml", "please")
    world.run(lambda: world.phase("ml") == "Available")
    assert world.status("ml")["attempt"]["number"] == 2


def test_a_claim_deleted_under_a_waiting_builder_is_made_again() -> None:
    world = World()
    world.make("ml")
    while not world.api.pods_made:
        world.one_pass("ml")
    claim = next(c["metadata"]["name"] for c in world.memory.list("PersistentVolumeClaim"))
    world.memory.delete("PersistentVolumeClaim", claim, names.NAMESPACE)
    assert world.memory.list("PersistentVolumeClaim") == []
    world.run(lambda: world.phase("ml") == "Available")
    assert sum(world.api.pods_made.values()) == 1


def test_a_status_that_somebody_emptied_is_built_up_again() -> None:
    world = World()
    world.make("ml")
    pulling(world)
    world.memory.edit(names.KIND, "ml", lambda o: o.update(status={}))
    world.run(lambda: world.phase("ml") == "Available")
    assert world.kubelet.most_alive == 1


def test_a_larger_size_after_a_failure_gets_a_larger_volume() -> None:
    """By an edit alone; and not every class lets a volume grow, so the empty one is replaced."""
    too_big = Outcome(images=(ImageOutcome(reason=Reason.DOES_NOT_FIT), ImageOutcome(digest=DIGEST, size=1)))
    world = World(lambda cache, attempt: too_big if attempt == 1 else pulled())
    world.make("ml", imageCacheSize=20)
    world.run(lambda: world.phase("ml") == "Failed")
    assert world.reason("ml") == "DoesNotFit"
    world.settle()
    world.memory.edit(names.KIND, "ml", lambda o: o["spec"].update(imageCacheSize=40))
    world.run(lambda: world.phase("ml") == "Available")
    claims = world.memory.list("PersistentVolumeClaim")
    assert [c["spec"]["resources"]["requests"]["storage"] for c in claims] == ["40Gi"]
