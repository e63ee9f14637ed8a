# SPDX-License-Identifier: Apache-2.0
"""How attempts end without success, and what follows: at once Failed, or another attempt after a while."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.imagecache import AttemptState, Phase
from imagecache_operator.api.reasons import TRANSIENT, Reason
from imagecache_operator.api.report import ImageOutcome, ImageState, Outcome
from imagecache_operator.planning import attempts
from imagecache_operator.planning.observed import Observed

from .facts import (
    CARRIER,
    CLAIM,
    DIGEST,
    IMAGES,
    NOW,
    SETTINGS,
    after,
    applied,
    attempt,
    attempt_of,
    bad,
    builder,
    cache,
    created,
    deleted,
    ended,
    neighbour,
    planned,
    pod,
    reason,
    seen,
    spec,
    status,
    volume,
)

RUNNING = AttemptState.RUNNING
HOUR = timedelta(hours=1)


def ends(outcome: Outcome | None, number: int = 1, failures: int = 0, **pod_facts: object) -> Observed:
    """An attempt that ran when it was last written about, and whose builder has ended now."""
    before = status(RUNNING, attempt=attempt(RUNNING, number, failures=failures))
    return seen(before, volume=volume(), builders=(ended(outcome, number, **pod_facts),))


@pytest.mark.parametrize("why", sorted(set(Reason) - TRANSIENT))
def test_an_image_that_needs_a_person_fails_the_cache_at_once(why: Reason) -> None:
    done = planned(ends(bad(why, None)))
    assert done.status.phase is Phase.FAILED
    assert attempt_of(done).state is AttemptState.FAILED
    assert IMAGES[0] in (done.status.message or "")
    assert why in (done.status.message or "")
    expected = {Reason.DOES_NOT_FIT: Because.DOES_NOT_FIT, Reason.NO_SPACE_LEFT: Because.NO_SPACE_LEFT}
    assert reason(done) == expected.get(why, Because.IMAGE_FAILED)


@pytest.mark.parametrize("why", sorted(TRANSIENT))
def test_trouble_that_passes_leads_to_another_attempt(why: Reason) -> None:
    done = planned(ends(bad(None, why)))
    assert done.status.phase is Phase.CREATING
    assert attempt_of(done).state is AttemptState.LOST
    assert attempt_of(done).failures == 1
    assert reason(done) == Because.RETRY_SCHEDULED
    assert IMAGES[1] in (done.status.message or "")
    assert why in (done.status.message or "")


@pytest.mark.parametrize("why", sorted(Reason))
def test_a_reason_for_all_images_is_told_in_the_builders_words(why: Reason) -> None:
    done = planned(ends(Outcome(reason=why, message="The file with extra authorities is unusable.")))
    assert "extra authorities" in (done.status.message or "")
    assert done.status.phase is (Phase.CREATING if why in TRANSIENT else Phase.FAILED)


def test_one_message_names_every_image_that_failed() -> None:
    done = planned(ends(bad(Reason.NOT_FOUND, Reason.DENIED, message="see the registry")))
    message = done.status.message or ""
    assert message.startswith("2 images of 2 failed")
    assert f"{IMAGES[0]}: NotFound (see the registry)" in message
    assert f"{IMAGES[1]}: Denied (see the registry)" in message


def test_one_image_that_needs_a_person_makes_waiting_pointless() -> None:
    done = planned(ends(bad(Reason.TIMEOUT, Reason.NOT_FOUND)))
    assert done.status.phase is Phase.FAILED
    assert reason(done) == Because.IMAGE_FAILED


def test_the_volume_is_blamed_only_where_it_failed_every_image() -> None:
    assert reason(planned(ends(bad(Reason.DOES_NOT_FIT, Reason.DOES_NOT_FIT)))) == Because.DOES_NOT_FIT
    assert reason(planned(ends(bad(Reason.DOES_NOT_FIT, None)))) == Because.DOES_NOT_FIT
    assert reason(planned(ends(bad(Reason.DOES_NOT_FIT, Reason.NOT_FOUND)))) == Because.IMAGE_FAILED


def test_images_are_told_one_by_one() -> None:
    told = planned(ends(bad(None, Reason.DENIED))).status.images
    assert [(i.reference, i.state, i.reason) for i in told] == [
        (IMAGES[0], ImageState.PULLED, None), (IMAGES[1], ImageState.FAILED, "Denied"),
    ]
    assert told[0].digest
    assert told[0].size
    assert told[0].carrier
    assert told[1].size is None


def test_nothing_is_taken_from_the_cache_of_an_image_that_failed() -> None:
    half = ImageOutcome(reason=Reason.INTERNAL, digest=DIGEST, carrier=CARRIER, message="lost")
    told = planned(ends(Outcome(images=(half,) * len(IMAGES)))).status.images
    assert [(i.digest, i.carrier) for i in told] == [(DIGEST, None)] * len(IMAGES)


@pytest.mark.parametrize("outcome", [bad(None, Reason.TIMEOUT), bad(None, Reason.NOT_FOUND), None])
def test_the_builder_goes_only_when_its_end_is_in_status(outcome: Outcome | None) -> None:
    facts = ends(outcome)
    first = planned(facts)
    assert first.delete == (), "its end is not in status yet"
    assert first.again_in == timedelta(0)
    second = planned(after(facts, first))
    assert deleted(second) == [pod(1)]
    assert second.status.images == first.status.images
    assert second.status.attempt == first.status.attempt


def test_what_failed_is_remembered_when_the_builder_is_gone() -> None:
    facts = ends(bad(Reason.NOT_FOUND, None))
    told = planned(facts).status
    without = replace(after(facts, planned(facts)), builders=())
    assert planned(without).status == told


@pytest.mark.parametrize("because", [
    "OOMKilled (exit code 137)", "Evicted (low on memory)", "DeadlineExceeded", "",
])
def test_a_builder_that_could_not_speak_is_lost(because: str) -> None:
    done = planned(ends(None, ended_because=because))
    assert attempt_of(done).state is AttemptState.LOST
    assert because in (done.status.message or "")
    assert done.status.phase is Phase.CREATING


def test_a_builder_that_was_deleted_is_lost() -> None:
    done = planned(seen(status(RUNNING), volume=volume()))
    assert attempt_of(done).state is AttemptState.LOST
    assert attempt_of(done).reason == "BuilderDeleted"
    assert done.create == ()


def test_a_pod_not_made_yet_is_not_a_lost_one() -> None:
    done = planned(seen(status(AttemptState.STARTING), volume=volume()))
    assert attempt_of(done).failures == 0
    assert created(done) == [pod(1)]


@pytest.mark.parametrize(("failures", "seconds"), [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (50, 300)])
def test_back_off_doubles_from_ten_seconds_to_five_minutes(failures: int, seconds: int) -> None:
    many = SETTINGS.model_copy(update={"max_attempts": 100})
    delay = timedelta(seconds=seconds)
    facts = seen(status(attempt=attempt(AttemptState.LOST, 7, failures=failures, message="evicted")), volume=volume())
    early = planned(facts, NOW + delay - timedelta(seconds=1), many)
    assert attempt_of(early).number == 7
    assert early.again_in == timedelta(seconds=1)
    assert "evicted" in (early.status.message or "")
    due = planned(facts, NOW + delay, many)
    assert (attempt_of(due).number, attempt_of(due).state) == (8, AttemptState.STARTING)
    assert attempt_of(due).failures == failures, "failures in a row are counted on"


def test_no_attempt_waits_before_the_first() -> None:
    assert attempts.back_off(0) == timedelta(0)


def test_the_next_attempt_waits_until_the_last_pod_is_gone() -> None:
    lost = status(attempt=attempt(AttemptState.LOST, failures=1))
    done = planned(seen(lost, volume=volume(), builders=(ended(None),)), NOW + HOUR)
    assert attempt_of(done).number == 1
    assert deleted(done) == [pod(1)]
    done = planned(seen(lost, volume=volume(), builders=(ended(None, deleting=True),)), NOW + HOUR)
    assert attempt_of(done).number == 1
    assert done.delete == ()


def test_the_sixth_failure_is_the_last() -> None:
    fifth = planned(ends(bad(Reason.TIMEOUT, None), 5, failures=4))
    assert (fifth.status.phase, attempt_of(fifth).failures) == (Phase.CREATING, 5)
    sixth = planned(ends(bad(Reason.TIMEOUT, None), 6, failures=5))
    assert (sixth.status.phase, reason(sixth)) == (Phase.FAILED, Because.ATTEMPTS_EXHAUSTED)
    message = sixth.status.message or ""
    assert "6 attempts" in message
    assert f"{IMAGES[0]}: Timeout" in message
    assert "imagecache.dev/retry" in message


EXHAUSTED = status(attempt=attempt(AttemptState.LOST, 6, failures=6), phase=Phase.FAILED, handled_retry="a")
FAILED = status(
    attempt=attempt(AttemptState.FAILED, 2, failures=1, reason="ImageFailed"), phase=Phase.FAILED, handled_retry="a",
)


@pytest.mark.parametrize("before", [EXHAUSTED, FAILED], ids=["exhausted", "failed"])
@pytest.mark.parametrize(("retry", "again"), [(None, False), ("", False), ("a", False), ("b", True)])
def test_a_person_asks_again_by_a_new_value(before: object, retry: str | None, again: bool) -> None:
    mine = cache(before, retry=retry)  # type: ignore[arg-type]
    done = planned(seen(mine, volume=volume()))
    number = mine.status.attempt.number if mine.status.attempt else 0
    assert attempt_of(done).number == number + again
    if again:
        assert attempt_of(done).failures == 0
        assert done.status.handled_retry == "b"
        assert done.status.phase is Phase.CREATING
    else:
        assert done.status.phase is Phase.FAILED
        assert done.status.handled_retry == "a"


@pytest.mark.parametrize(("generation", "again"), [(1, False), (2, True)])
def test_a_person_asks_again_by_an_edit_of_the_spec(generation: int, again: bool) -> None:
    made_for = attempt(AttemptState.FAILED, 2, failures=1, reason="ImageFailed", observed_generation=1)
    done = planned(seen(cache(status(attempt=made_for, phase=Phase.FAILED), generation=generation), volume=volume()))
    assert attempt_of(done).number == 2 + again
    assert attempt_of(done).observed_generation == generation
    assert attempt_of(done).failures == (0 if again else 1)


def test_one_who_asks_does_not_wait_for_the_back_off() -> None:
    lost = status(attempt=attempt(AttemptState.LOST, failures=5))
    done = planned(seen(cache(lost, retry="now"), volume=volume()))
    assert (attempt_of(done).number, attempt_of(done).failures) == (2, 0)


def test_a_wish_is_kept_while_it_has_to_wait() -> None:
    busy = [neighbour(f"n{i}", attempt=attempt(RUNNING), has_builder=True) for i in range(4)]
    waits = planned(seen(cache(FAILED, retry="b"), *busy, volume=volume()))
    assert reason(waits) == Because.WAITING_FOR_SLOT
    assert waits.status.handled_retry == "a"


def test_a_wish_while_a_builder_runs_is_already_fulfilled() -> None:
    done = planned(seen(cache(status(RUNNING), retry="b"), volume=volume(), builders=(builder(running=True),)))
    assert attempt_of(done).number == 1
    assert done.status.handled_retry == "b"


@pytest.mark.parametrize("facts", [
    {"requested": "20Gi", "phase": "Lost"}, {"requested": "40Gi", "phase": "Bound"},
], ids=["lost", "other size"])
def test_a_volume_of_no_use_is_replaced_before_the_next_attempt(facts: dict[str, str]) -> None:
    asked = cache(FAILED, retry="b")
    first = planned(seen(asked, volume=volume(**facts)))
    assert deleted(first) == [CLAIM]
    assert attempt_of(first).number == 2
    second = planned(seen(asked, volume=volume(deleting=True, **facts)))
    assert (second.delete, attempt_of(second).number) == ((), 2)
    third = planned(seen(asked))
    assert attempt_of(third).number == 3


def test_a_grown_cache_gets_a_volume_of_that_size() -> None:
    grown = cache(status(AttemptState.STARTING), spec=spec(image_cache_size=40))
    done = planned(seen(grown))
    assert applied(done) == [CLAIM]
    assert done.apply[0]["spec"]["resources"]["requests"]["storage"] == "40Gi"


@pytest.mark.parametrize("before", [EXHAUSTED, FAILED], ids=["exhausted", "failed"])
def test_the_volume_of_a_failed_cache_is_released_after_a_day(before: object) -> None:
    facts = seen(before, volume=volume())  # type: ignore[arg-type]
    early = planned(facts, NOW + 24 * HOUR - timedelta(seconds=1))
    assert early.delete == ()
    assert early.again_in == timedelta(seconds=1)
    late = planned(facts, NOW + 24 * HOUR)
    assert deleted(late) == [CLAIM]
    assert late.status.phase is Phase.FAILED
    assert late.status.volume is None
    assert late.status.message == early.status.message, "the cache stays and tells why it failed"


def test_even_then_the_builder_goes_only_when_its_end_is_in_status() -> None:
    at_once = SETTINGS.model_copy(update={"failed_volume_ttl": timedelta(0)})
    facts = ends(bad(Reason.NOT_FOUND, None))
    first = planned(facts, settings=at_once)
    assert pod(1) not in deleted(first)
    assert pod(1) in deleted(planned(after(facts, first), settings=at_once))


def test_a_reason_from_a_newer_version_is_no_crash() -> None:
    told = planned(ends(bad(Reason.NOT_FOUND, None))).status
    newer = told.images[0].model_copy(update={"reason": "TurnedIntoAPumpkin"})
    done = planned(seen(told.model_copy(update={"images": (newer, told.images[1])}), volume=volume()))
    assert reason(done) == Because.IMAGE_FAILED
    assert "TurnedIntoAPumpkin" in (done.status.message or "")
