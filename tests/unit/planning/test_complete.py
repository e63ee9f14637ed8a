# SPDX-License-Identifier: Apache-2.0
"""A complete cache: Available, what takes that away again (a lost volume, its age), and the end of its life."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.imagecache import AttemptState, OnExpiry, Phase, Status
from imagecache_operator.api.report import ImageState
from imagecache_operator.planning.observed import Cache, Observed, Volume

from .facts import (
    CARRIER,
    CLAIM,
    CREATED,
    DIGEST,
    NOW,
    RECORDED,
    SETTINGS,
    VOLUME,
    after,
    applied,
    attempt,
    attempt_of,
    available,
    builder,
    cache,
    created,
    deleted,
    ended,
    good,
    planned,
    pod,
    reason,
    seen,
    spec,
    status,
    volume,
)

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)


def just_built() -> Observed:
    return seen(status(AttemptState.RUNNING), volume=volume(), builders=(ended(good()),))


def test_success_records_everything_before_the_builder_goes() -> None:
    facts = just_built()
    first = planned(facts)
    assert first.status.phase is Phase.AVAILABLE
    assert first.status.message == "2 images, 2.0 GiB of 20 GiB"
    assert first.status.size == "2.0 GiB of 20 GiB"
    assert first.status.volume == RECORDED
    assert [(i.state, i.digest, i.carrier) for i in first.status.images] == [
        (ImageState.PULLED, DIGEST, CARRIER),
    ] * 2
    assert attempt_of(first).failures == 0
    assert first.delete == ()
    assert first.again_in == timedelta(0)
    written = after(facts, first)
    second = planned(written)
    assert deleted(second) == [pod(1)]
    third = planned(replace(written, builders=()))
    assert third.status == second.status == first.status, "digests and sizes outlive the builder"
    assert (third.apply, third.create, third.delete) == ((), (), ())


def test_success_forgets_earlier_failures() -> None:
    before = status(attempt=attempt(AttemptState.RUNNING, 4, failures=3))
    done = planned(seen(before, volume=volume(), builders=(ended(good(), 4),)))
    assert (attempt_of(done).number, attempt_of(done).failures) == (4, 0)


@pytest.mark.parametrize("what", [
    None, volume(uid="volume-2"), volume(phase="Lost"), volume(deleting=True),
], ids=["missing", "another one of that name", "lost its disk", "on its way out"])
def test_a_lost_volume_makes_the_cache_unavailable(what: Volume | None) -> None:
    done = planned(seen(available(), volume=what))
    assert (done.status.phase, reason(done)) == (Phase.UNAVAILABLE, Because.VOLUME_LOST)
    assert VOLUME in (done.status.message or "")
    assert "imagecache.dev/retry" in (done.status.message or "")
    assert (done.create, done.apply, done.delete) == ((), (), ()), "a person decides"
    assert done.status.volume == RECORDED, "which one was lost is not forgotten"


def test_a_volume_lost_before_it_was_recorded_is_told_by_name() -> None:
    done = planned(seen(status(AttemptState.RUNNING), builders=(ended(good()),)))
    assert reason(done) == Because.VOLUME_LOST
    assert VOLUME in (done.status.message or "")


def test_a_volume_that_comes_back_is_used_again() -> None:
    facts = seen(available(), volume=volume(phase="Lost"))
    back = planned(replace(after(facts, planned(facts)), volume=volume()))
    assert back.status.phase is Phase.AVAILABLE
    assert "None" not in (back.status.message or "")


def test_a_person_has_a_lost_volume_built_again() -> None:
    done = planned(seen(cache(available(), retry="now")))
    assert (attempt_of(done).number, attempt_of(done).state) == (2, AttemptState.STARTING)
    assert done.status.phase is Phase.CREATING
    assert done.status.handled_retry == "now"


def test_asking_again_does_not_rebuild_what_is_complete() -> None:
    done = planned(seen(cache(available(), retry="now"), volume=volume()))
    assert done.status.phase is Phase.AVAILABLE
    assert attempt_of(done).number == 1
    assert done.status.handled_retry == "now"


def test_a_cache_that_grows_has_its_volume_grown() -> None:
    grown = cache(available(), spec=spec(image_cache_size=40), generation=2)
    done = planned(seen(grown, volume=volume()))
    assert applied(done) == [CLAIM]
    assert done.status.phase is Phase.AVAILABLE
    assert done.status.size == "2.0 GiB of 40 GiB"
    assert done.status.observed_generation == 2


def aged(on_expiry: OnExpiry = OnExpiry.DELETE, before: Status | None = None, days: int = 7) -> Cache:
    """A cache for a week; `CREATED` + 7 days is its end."""
    return cache(before or available(), spec=spec(retention_days=days, on_expiry=on_expiry))


END = CREATED + 7 * DAY


def test_when_it_expires_is_in_status_from_the_first_pass() -> None:
    assert planned(seen(aged(before=Status()))).status.expires_at == END
    assert planned(seen()).status.expires_at is None


def test_until_its_last_second_it_is_available() -> None:
    assert planned(seen(aged(), volume=volume()), END - SECOND).status.phase is Phase.AVAILABLE


@pytest.mark.parametrize(("on_expiry", "word"), [(OnExpiry.DELETE, "deleted"), (OnExpiry.RELEASE, "released")])
def test_an_expired_cache_has_a_short_grace(on_expiry: OnExpiry, word: str) -> None:
    done = planned(seen(aged(on_expiry), volume=volume()), END)
    assert (done.status.phase, reason(done)) == (Phase.UNAVAILABLE, Because.EXPIRED)
    assert "7 days" in (done.status.message or "")
    assert word in (done.status.message or "")
    assert done.delete == ()
    assert done.again_in == SETTINGS.expiry_grace
    assert planned(seen(aged(on_expiry), volume=volume()), END + SETTINGS.expiry_grace - SECOND).delete == ()


def test_then_it_is_deleted() -> None:
    done = planned(seen(aged(), volume=volume()), END + SETTINGS.expiry_grace)
    assert deleted(done) == ["ImageCache/ml"]
    assert done.delete[0].uid == cache().uid, "not one that took its name since"
    assert done.status.phase is Phase.UNAVAILABLE


def test_or_its_volume_is_released() -> None:
    facts = seen(aged(OnExpiry.RELEASE), volume=volume())
    done = planned(facts, END + SETTINGS.expiry_grace)
    assert deleted(done) == [CLAIM]
    assert (done.status.phase, reason(done)) == (Phase.UNAVAILABLE, Because.EXPIRED)
    assert "retentionDays" in (done.status.message or "")
    assert {i.state for i in done.status.images} == {ImageState.WAITING}
    assert (done.status.size, done.status.volume) == (None, None)
    later = planned(replace(after(facts, done), volume=None), END + DAY)
    assert (later.status, later.delete, later.create) == (done.status, (), ())


def test_an_edit_in_the_grace_brings_it_back_as_it_was() -> None:
    facts = seen(aged(), volume=volume())
    expired = after(facts, planned(facts, END))
    longer = replace(expired, cache=replace(expired.cache, spec=spec(retention_days=8)))
    done = planned(longer, END)
    assert done.status.phase is Phase.AVAILABLE
    assert done.status.message == "2 images, 2.0 GiB of 20 GiB"
    assert done.status.expires_at == END + DAY
    other = planned(replace(longer, volume=volume(uid="volume-2")), END)
    assert reason(other) == Because.VOLUME_LOST, "the volume's uid was not forgotten"


def test_a_released_cache_is_built_again_when_it_may_live_longer() -> None:
    facts = seen(aged(OnExpiry.RELEASE), volume=volume())
    released = after(facts, planned(facts, END + DAY))
    longer = replace(
        released, volume=None, cache=replace(released.cache, spec=spec(retention_days=30), generation=2),
    )
    done = planned(longer, END + DAY)
    assert (done.status.phase, attempt_of(done).state) == (Phase.CREATING, AttemptState.STARTING)


def test_one_that_expires_while_it_is_built_loses_its_builder_with_its_volume() -> None:
    building = cache(status(AttemptState.RUNNING), spec=spec(retention_days=7, on_expiry=OnExpiry.RELEASE))
    facts = seen(building, volume=volume(), builders=(builder(running=True),))
    assert planned(facts, END).delete == ()
    assert deleted(planned(facts, END + DAY)) == [pod(1), CLAIM]


def test_a_spec_that_stops_being_valid_does_not_forget_the_volume() -> None:
    facts = seen(cache(available(), spec=None, spec_error="spec.images: too short"), volume=volume())
    invalid = planned(facts)
    assert (invalid.status.phase, reason(invalid)) == (Phase.FAILED, Because.INVALID_SPEC)
    assert invalid.delete == ()
    healed = planned(replace(after(facts, invalid), cache=replace(after(facts, invalid).cache, spec=spec())))
    assert healed.status.phase is Phase.AVAILABLE
    assert healed.status.volume == RECORDED
    assert healed.status.message == "2 images, 2.0 GiB of 20 GiB"


# Deletion

def deleting(before: Status, **facts: object) -> Observed:
    return seen(cache(before, deleting=True), **facts)


def test_deletion_asks_for_everything_and_waits_until_it_is_gone() -> None:
    first = planned(deleting(available(), volume=volume(), builders=(builder(),)))
    assert deleted(first) == [pod(1), CLAIM], "the builder first: its Pod holds the volume"
    assert first.delete[1].uid == "volume-1"
    assert (first.status.phase, reason(first), first.gone) == (Phase.DELETING, Because.DELETING, False)
    assert VOLUME in (first.status.message or "")
    assert first.again_in > timedelta(0)
    second = planned(deleting(available(), volume=volume(deleting=True), builders=(builder(deleting=True),)))
    assert (second.delete, second.gone) == ((), False), "asked once is enough"
    third = planned(deleting(available()))
    assert (third.delete, third.gone) == ((), True)


@pytest.mark.parametrize("before", [
    Status(), status(AttemptState.STARTING), status(AttemptState.RUNNING), available(),
    status(attempt=attempt(AttemptState.LOST, failures=6), phase=Phase.FAILED),
], ids=["new", "announced", "building", "available", "exhausted"])
@pytest.mark.parametrize("fields", [
    {}, {"spec": None, "spec_error": "bad"}, {"spec": spec(retention_days=1)},
    {"spec": spec(building_config={"cluster": "99999999-2222-4333-8444-555555555555"})},
], ids=["", "invalid", "expired", "elsewhere"])
def test_deletion_comes_before_every_other_question(before: Status, fields: dict[str, object]) -> None:
    mine = cache(before, deleting=True, retry="x", **fields)
    done = planned(seen(mine, volume=volume(), builders=(builder(),)), NOW + 10 * DAY)
    assert done.status.phase is Phase.DELETING
    assert (applied(done), created(done)) == ([], [])
    assert deleted(done) == [pod(1), CLAIM]
    assert planned(seen(mine)).gone


def test_nothing_is_gone_that_was_not_deleted() -> None:
    assert not planned(seen()).gone
    assert not planned(seen(aged(), volume=volume()), END + DAY).gone
