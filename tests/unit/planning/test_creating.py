# SPDX-License-Identifier: Apache-2.0
"""Creating: from nothing to a builder that pulls. Order of writes, slots, quota, and what users read meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.imagecache import AttemptState, Phase, Status
from imagecache_operator.api.report import ImageState, Progress
from imagecache_operator.planning.observed import Neighbour

from .facts import (
    CLAIM,
    CREATED,
    IMAGES,
    NOW,
    SETTINGS,
    after,
    applied,
    attempt,
    attempt_of,
    builder,
    cache,
    created,
    deleted,
    itself,
    neighbour,
    planned,
    pod,
    progress,
    reason,
    seen,
    spec,
    status,
    volume,
)


def test_the_first_pass_announces_and_makes_nothing() -> None:
    done = planned(seen())
    assert (done.apply, done.create, done.delete) == ((), (), ())
    assert attempt_of(done).number == 1
    assert attempt_of(done).state is AttemptState.STARTING
    assert done.status.phase is Phase.CREATING
    assert reason(done) == Because.BUILDER_PENDING
    assert done.again_in == timedelta(0), "the announcement is to be followed at once"
    assert [i.state for i in done.status.images] == [ImageState.WAITING, ImageState.WAITING]


def test_the_pass_after_the_announcement_makes_volume_and_pod() -> None:
    first = seen()
    done = planned(after(first, planned(first)))
    assert (applied(done), created(done)) == ([CLAIM], [pod(1)])
    assert attempt_of(done).state is AttemptState.STARTING, "a Pod that was not seen yet does not run"


def test_nothing_is_applied_where_the_volume_is_right() -> None:
    done = planned(seen(status(AttemptState.STARTING), volume=volume()))
    assert (applied(done), created(done)) == ([], [pod(1)])


def test_a_volume_that_goes_away_is_waited_for_and_not_built_upon() -> None:
    done = planned(seen(status(AttemptState.STARTING), volume=volume(deleting=True)))
    assert (applied(done), created(done)) == ([], [])
    assert done.status.phase is Phase.CREATING


def test_a_volume_that_was_deleted_under_a_waiting_builder_is_made_again() -> None:
    # Else the Pod would wait for ever: a Pod that was never scheduled has no deadline.
    done = planned(seen(status(AttemptState.RUNNING), builders=(builder(),)))
    assert (applied(done), created(done)) == ([CLAIM], [])


def test_a_pod_that_is_there_already_is_not_made_again() -> None:
    done = planned(seen(status(AttemptState.STARTING), volume=volume(), builders=(builder(),)))
    assert done.create == ()
    assert attempt_of(done).state is AttemptState.RUNNING


@pytest.mark.parametrize(("pod_facts", "volume_phase", "because", "words"), [
    ({}, "Pending", Because.VOLUME_PENDING, "to start"),
    ({}, "Bound", Because.BUILDER_PENDING, "to start"),
    ({"waiting_for": "0/3 nodes are available"}, "Pending", Because.BUILDER_PENDING, "0/3 nodes are available"),
    ({"waiting_for": "ImagePullBackOff"}, "Bound", Because.BUILDER_PENDING, "ImagePullBackOff"),
    ({"running": True}, "Bound", Because.PULLING, "Pulling 2 images"),
])
def test_what_a_waiting_builder_says(
    pod_facts: dict[str, object], volume_phase: str, because: Because, words: str,
) -> None:
    done = planned(seen(
        status(AttemptState.RUNNING), volume=volume(phase=volume_phase), builders=(builder(1, **pod_facts),),
    ))
    assert done.status.phase is Phase.CREATING
    assert reason(done) == because
    assert words in (done.status.message or "")


def test_progress_is_written_only_when_a_whole_per_cent_has_moved() -> None:
    facts = seen(
        status(AttemptState.RUNNING), volume=volume(), builders=(builder(running=True),), progress=progress(100, 1000),
    )
    written = after(facts, planned(facts))
    assert written.cache.status.progress == "10 %"
    assert written.cache.status.images[0].bytes_done == 100
    for done, moves in ((100, False), (109, False), (110, True)):
        again = planned(replace(written, progress=progress(done, 1000))).status
        assert (again != written.cache.status) is moves, done


def test_an_unreadable_log_changes_nothing() -> None:
    facts = seen(
        status(AttemptState.RUNNING), volume=volume(), builders=(builder(running=True),), progress=progress(50),
    )
    written = after(facts, planned(facts))
    assert planned(replace(written, progress=None)).status == written.cache.status


def test_a_report_about_other_images_is_not_believed() -> None:
    done = planned(seen(
        status(AttemptState.RUNNING), volume=volume(), builders=(builder(running=True),),
        progress=Progress(images=(), bytes_done=1, bytes_total=2),
    ))
    assert [i.reference for i in done.status.images] == list(IMAGES)
    assert {i.state for i in done.status.images} == {ImageState.WAITING}


WANTS = neighbour("old")
BUILDS = neighbour("old", attempt=attempt(AttemptState.RUNNING), has_builder=True)


@pytest.mark.parametrize(("other", "takes_a_slot"), [
    (WANTS, True),
    (BUILDS, True),
    (replace(WANTS, phase=None), True),
    (replace(WANTS, attempt=attempt(AttemptState.STARTING)), True),
    (replace(WANTS, attempt=attempt(AttemptState.LOST)), False),
    (replace(WANTS, phase=Phase.AVAILABLE, attempt=attempt(AttemptState.SUCCEEDED)), False),
    (replace(WANTS, phase=Phase.FAILED, attempt=attempt(AttemptState.FAILED)), False),
    (replace(WANTS, deleting=True), False),
    (replace(BUILDS, deleting=True), True),
    (neighbour("young", age=1), False),
    (replace(BUILDS, name="young", created=NOW), True),
], ids=[
    "older waits", "older builds", "older is new here", "older announced", "older backs off", "older is complete",
    "older failed", "older goes", "its builder is still there", "younger waits", "younger builds",
])
def test_who_takes_a_slot(other: Neighbour, takes_a_slot: bool) -> None:
    others = [replace(other, name=f"{other.name}-{i}") for i in range(SETTINGS.max_builders)]
    assert (planned(seen(None, *others[1:])).status.attempt is not None), "three leave a slot"
    done = planned(seen(None, *others))
    assert (reason(done) == Because.WAITING_FOR_SLOT) is takes_a_slot
    assert (done.status.attempt is None) is takes_a_slot
    if takes_a_slot:
        assert "4 builders" in (done.status.message or "")
        assert timedelta(0) < done.again_in <= timedelta(seconds=30)


def test_an_announced_attempt_looks_again_before_its_pod_is_made() -> None:
    """Two may announce at once, each blind to the other: the older ones go first."""
    older = [neighbour(f"old-{i}", attempt=attempt(AttemptState.STARTING)) for i in range(4)]
    waits = planned(seen(status(AttemptState.STARTING), *older))
    assert waits.create == ()
    assert reason(waits) == Because.WAITING_FOR_SLOT
    assert attempt_of(waits).state is AttemptState.STARTING
    goes = planned(seen(status(AttemptState.STARTING), *older[1:]))
    assert created(goes) == [pod(1)]


@pytest.mark.parametrize(("older", "deleting", "served"), [(49, 0, True), (50, 0, False), (50, 1, True)])
def test_quota_serves_the_oldest_fifty(older: int, deleting: int, served: bool) -> None:
    others = [
        neighbour(f"other-{i}", phase=Phase.AVAILABLE, attempt=attempt(AttemptState.SUCCEEDED), deleting=i < deleting)
        for i in range(older)
    ]
    done = planned(seen(None, *others))
    assert done.status.phase is Phase.CREATING
    assert (reason(done) == Because.QUOTA_EXCEEDED) is not served
    assert done.waits_for_others is not served
    assert (done.status.attempt is not None) is served


def test_those_who_wait_for_others_say_so_to_be_woken() -> None:
    older = [replace(BUILDS, name=f"old-{i}") for i in range(4)]
    assert planned(seen(None, *older)).waits_for_others
    assert planned(seen(status(AttemptState.STARTING), *older)).waits_for_others
    assert not planned(seen(None)).waits_for_others
    assert not planned(seen(status(AttemptState.RUNNING), *older, builders=(builder(),))).waits_for_others


def test_a_builder_that_runs_is_not_stopped_by_quota() -> None:
    others = [neighbour(f"other-{i}") for i in range(60)]
    done = planned(seen(status(AttemptState.RUNNING), *others, volume=volume(), builders=(builder(running=True),)))
    assert (reason(done), done.delete) == (Because.PULLING, ())


def test_names_break_a_tie_of_age() -> None:
    twins = [neighbour(f"m{letter}", created=CREATED) for letter in "abcd"]  # all sort before "ml"? "ml" is after them
    assert reason(planned(seen(None, *twins))) == Because.WAITING_FOR_SLOT
    later = [neighbour(f"z{letter}", created=CREATED) for letter in "abcd"]
    assert reason(planned(seen(None, *later))) == Because.BUILDER_PENDING


def test_builders_of_a_life_that_status_has_forgotten_are_removed_before_the_first_attempt() -> None:
    leftover = builder(3, running=True)
    facts = seen(Status(), builders=(leftover,), volume=volume())
    done = planned(facts)
    assert (deleted(done), done.create, done.status.attempt) == ([pod(3)], (), None)
    gone = planned(replace(facts, builders=(), neighbours=(itself(facts.cache, ()),)))
    assert attempt_of(gone).number == 1


def test_no_second_builder_beside_one_of_another_attempt() -> None:
    done = planned(seen(status(AttemptState.STARTING, 2), volume=volume(), builders=(builder(1, running=True),)))
    assert done.create == ()
    assert deleted(done) == [pod(1)]


@pytest.mark.parametrize("mine", [
    cache(spec=None, spec_error="spec.images: too short"),
    cache(spec=spec(building_config={"cluster": "99999999-2222-4333-8444-555555555555"})),
], ids=["invalid", "another cluster"])
def test_what_cannot_be_built_is_not_announced(mine: object) -> None:
    done = planned(seen(mine))  # type: ignore[arg-type]
    assert done.status.phase is Phase.FAILED
    assert done.status.attempt is None
    assert done.create == ()
    assert done.apply == ()


def test_an_invalid_spec_is_told_in_the_words_of_the_mistake() -> None:
    done = planned(seen(cache(spec=None, spec_error="spec.images: too short")))
    assert reason(done) == Because.INVALID_SPEC
    assert "spec.images: too short" in (done.status.message or "")


def test_a_wrong_cluster_is_told_with_both_uids() -> None:
    wanted = "99999999-2222-4333-8444-555555555555"
    done = planned(seen(cache(spec=spec(building_config={"cluster": wanted}))))
    assert reason(done) == Because.CLUSTER_NOT_FOUND
    assert wanted in (done.status.message or "")
    assert seen().home_uid in (done.status.message or "")


def test_the_home_cluster_may_be_named() -> None:
    done = planned(seen(cache(spec=spec(building_config={"cluster": seen().home_uid}))))
    assert done.status.phase is Phase.CREATING
