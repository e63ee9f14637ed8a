# SPDX-License-Identifier: Apache-2.0
"""What users and tools read: conditions after kstatus, messages, events; and that nothing in them moves by itself."""

from __future__ import annotations

from datetime import timedelta

import pytest
from imagecache_operator.api.conditions import ConditionReason, ConditionType
from imagecache_operator.api.imagecache import AttemptState, Phase, Status
from imagecache_operator.api.reasons import Reason
from imagecache_operator.planning import wording
from imagecache_operator.planning.observed import Observed
from imagecache_operator.planning.reporting import refused

from .facts import (
    NOW,
    SETTINGS,
    after,
    attempt,
    available,
    bad,
    builder,
    cache,
    condition,
    deleted,
    ended,
    planned,
    reason,
    seen,
    spec,
    status,
    volume,
)

WRONG_CLUSTER = {"cluster": "99999999-2222-4333-8444-555555555555"}
MINUTE = timedelta(minutes=1)

# One scene for each phase and reason: what is seen, the phase, and whether (Ready, Reconciling, Stalled) hold.
SCENES: dict[str, tuple[Observed, Phase, tuple[bool, bool, bool]]] = {
    "new": (seen(), Phase.CREATING, (False, True, False)),
    "pulling": (
        seen(status(AttemptState.RUNNING), volume=volume(), builders=(builder(running=True),)),
        Phase.CREATING, (False, True, False),
    ),
    "backs off": (
        seen(status(attempt=attempt(AttemptState.LOST, failures=1)), volume=volume()),
        Phase.CREATING, (False, True, False),
    ),
    "available": (seen(available(), volume=volume()), Phase.AVAILABLE, (True, False, False)),
    "volume lost": (seen(available()), Phase.UNAVAILABLE, (False, False, True)),
    "expired": (seen(cache(available(), spec=spec(retention_days=1), created=NOW - timedelta(days=1)),
                     volume=volume()), Phase.UNAVAILABLE, (False, False, True)),
    "image failed": (
        seen(status(AttemptState.RUNNING), volume=volume(), builders=(ended(bad(Reason.DENIED, None)),)),
        Phase.FAILED, (False, False, True),
    ),
    "exhausted": (
        seen(status(attempt=attempt(AttemptState.LOST, failures=6)), volume=volume()),
        Phase.FAILED, (False, False, True),
    ),
    "invalid": (seen(cache(spec=None, spec_error="spec.images: bad")), Phase.FAILED, (False, False, True)),
    "elsewhere": (
        seen(cache(spec=spec(building_config=WRONG_CLUSTER))), Phase.FAILED, (False, False, True),
    ),
    "deleting": (seen(cache(available(), deleting=True), volume=volume()), Phase.DELETING, (False, True, False)),
}


@pytest.mark.parametrize("scene", SCENES)
def test_conditions_follow_kstatus(scene: str) -> None:
    facts, phase, holds = SCENES[scene]
    done = planned(facts)
    assert done.status.phase is phase
    kstatus = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
    assert tuple(condition(done, kind).status for kind in kstatus) == tuple(str(h) for h in holds)
    for one in done.status.conditions:
        assert one.reason
        assert one.reason in set(ConditionReason)
        assert one.observed_generation == facts.cache.generation
    assert condition(done).message == done.status.message
    assert done.status.message, "a message is never empty"
    assert done.status.observed_generation == facts.cache.generation


@pytest.mark.parametrize("scene", SCENES)
def test_writing_what_was_planned_leads_to_no_other_write(scene: str) -> None:
    facts, _, _ = SCENES[scene]
    first = planned(facts)
    second = planned(after(facts, first), NOW + timedelta(seconds=1))
    if first.again_in:  # else the next pass is meant to do the next step at once
        assert second.status == first.status
        assert second.events == ()


def test_the_time_of_a_condition_moves_with_its_status_only() -> None:
    facts = seen(status(AttemptState.RUNNING), volume=volume(), builders=(builder(),))
    first = after(facts, planned(facts))
    later = planned(seen(first.cache.status, volume=volume(), builders=(builder(running=True),)), NOW + MINUTE)
    assert reason(later) == ConditionReason.PULLING
    assert {c.last_transition_time for c in later.status.conditions} == {NOW}
    lost = planned(seen(available()), NOW + MINUTE)
    assert condition(lost).last_transition_time == NOW + MINUTE


@pytest.mark.parametrize(("scene", "kind"), [
    ("image failed", "Warning"), ("volume lost", "Warning"), ("expired", "Warning"), ("deleting", "Normal"),
    ("new", "Normal"),
])
def test_a_change_of_phase_is_an_event(scene: str, kind: str) -> None:
    facts, _, _ = SCENES[scene]
    done = planned(facts)
    assert [(e.type, e.reason, e.message) for e in done.events] == [(kind, reason(done), done.status.message)]
    assert planned(facts).events == done.events, "the same moment has the same key"
    assert planned(after(facts, done)).events == ()


def test_each_lost_attempt_is_an_event_of_its_own() -> None:
    keys = set()
    for number in (1, 2, 3):
        before = status(attempt=attempt(AttemptState.RUNNING, number, failures=number - 1))
        facts = seen(before, volume=volume(), builders=(ended(None, number, ended_because="Evicted"),))
        done = planned(facts)
        assert [(e.type, e.reason) for e in done.events] == [("Warning", ConditionReason.RETRY_SCHEDULED)]
        assert "Evicted" in done.events[0].message
        assert planned(after(facts, done)).events == ()
        keys.add(done.events[0].key)
    assert len(keys) == 3


def test_two_caches_never_share_an_events_key() -> None:
    one, other = (planned(seen(cache(uid=uid))).events[0].key for uid in ("uid-1", "uid-2"))
    assert one != other


def test_nothing_waits_longer_than_the_resync() -> None:
    for facts, _, _ in SCENES.values():
        assert planned(facts).again_in <= SETTINGS.resync


def test_a_refusal_is_told_in_the_clusters_words() -> None:
    facts = seen(status(AttemptState.STARTING))
    done = refused(facts, planned(facts), 'exceeded quota: "pods=0"', MINUTE, NOW)
    assert (done.status.phase, reason(done)) == (Phase.FAILED, ConditionReason.REJECTED)
    assert 'exceeded quota: "pods=0"' in (done.status.message or "")
    assert done.status.attempt == facts.cache.status.attempt
    assert done.again_in == MINUTE
    again = refused(after(facts, done), planned(after(facts, done)), 'exceeded quota: "pods=0"', MINUTE, NOW + MINUTE)
    assert (again.status, again.events) == (done.status, ())


def test_a_complete_cache_stays_so_when_a_write_is_refused() -> None:
    facts = seen(cache(available(), spec=spec(image_cache_size=40)), volume=volume())
    done = refused(facts, planned(facts), "the class cannot grow", MINUTE, NOW)
    assert done.status.phase is Phase.AVAILABLE
    assert condition(done).status == "True"
    assert "the class cannot grow" in (done.status.message or "")


def test_a_refused_deletion_stays_a_deletion() -> None:
    facts = seen(cache(available(), deleting=True), volume=volume())
    assert deleted(planned(facts))
    done = refused(facts, planned(facts), "forbidden", MINUTE, NOW)
    assert (done.status.phase, done.gone) == (Phase.DELETING, False)
    assert "forbidden" in (done.status.message or "")


def test_a_status_that_nobody_wrote_is_written_once() -> None:
    assert planned(seen(Status())).status != Status()


@pytest.mark.parametrize(("count", "text"), [
    (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1288490189, "1.2 GiB"), (5 * 1024**5, "5120.0 TiB"),
])
def test_sizes_read_as_people_say_them(count: int, text: str) -> None:
    assert wording.size(count) == text


@pytest.mark.parametrize(("seconds", "text"), [
    (0, "0 seconds"), (1, "1 second"), (119, "119 seconds"), (120, "2 minutes"), (7199, "119 minutes"),
    (7200, "2 hours"), (172800, "2 days"),
])
def test_durations_read_as_people_say_them(seconds: int, text: str) -> None:
    assert wording.duration(timedelta(seconds=seconds)) == text


@pytest.mark.parametrize(("done", "total", "text"), [(0, 0, "0 %"), (999, 1000, "99 %"), (1000, 1000, "100 %")])
def test_a_hundred_per_cent_means_all_of_it(done: int, total: int, text: str) -> None:
    assert wording.percent(done, total) == text
