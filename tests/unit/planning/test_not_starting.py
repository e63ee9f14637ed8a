# SPDX-License-Identifier: Apache-2.0
"""A builder Pod that does not start, or is stopped: people hear what it waits for or who stopped it, and in the
end it counts as a failed attempt."""

from __future__ import annotations

from datetime import timedelta

import pytest
from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.imagecache import AttemptState, Phase
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome

from .facts import (
    CLAIM,
    NOW,
    SETTINGS,
    after,
    applied,
    attempt,
    attempt_of,
    builder,
    cache,
    deleted,
    ended,
    planned,
    pod,
    reason,
    seen,
    spec,
    status,
    volume,
)

DEADLINE = SETTINGS.builder_start_deadline



@pytest.mark.parametrize("why", ["ImagePullBackOff (no such image)", "0/3 nodes are available: 3 Insufficient cpu", ""])
def test_a_builder_that_never_starts_is_a_failed_attempt(why: str) -> None:
    facts = seen(status(AttemptState.RUNNING), volume=volume(), builders=(builder(waiting_for=why),))
    patient = planned(facts, NOW + DEADLINE - timedelta(seconds=1))
    assert attempt_of(patient).state is AttemptState.RUNNING
    assert why in (patient.status.message or "")
    done = planned(facts, NOW + DEADLINE)
    lost = attempt_of(done)
    assert (lost.state, lost.reason, lost.failures) == (AttemptState.LOST, "BuilderNotStarted", 1)
    assert "had not started after 15 minutes" in (lost.message or "")
    assert why in (lost.message or "")
    assert reason(done) == Because.RETRY_SCHEDULED
    # Its Pod goes once that is in status, and the next attempt comes after its Pod is gone.
    assert deleted(done) == []
    assert deleted(planned(after(facts, done), NOW + DEADLINE)) == [pod(1)]


def test_a_builder_that_runs_has_started_however_long_ago() -> None:
    facts = seen(status(AttemptState.RUNNING), volume=volume(), builders=(builder(running=True),))
    assert attempt_of(planned(facts, NOW + 2 * DEADLINE)).state is AttemptState.RUNNING


def test_attempts_that_never_start_come_to_an_end() -> None:
    last = status(attempt=attempt(AttemptState.RUNNING, failures=SETTINGS.max_attempts - 1))
    done = planned(seen(last, volume=volume(), builders=(builder(waiting_for="no room"),)), NOW + DEADLINE)
    assert (done.status.phase, reason(done)) == (Phase.FAILED, Because.ATTEMPTS_EXHAUSTED)
    assert "no room" in (done.status.message or "")


@pytest.mark.parametrize(("classes", "named", "words"), [
    ((), None, ["no default StorageClass", "there are: none"]),
    (("fast", "slow"), None, ["no default StorageClass", "fast, slow", "spec.storageClassName"]),
    (("fast",), "fats", ["StorageClass fats does not exist", "there are: fast"]),
])
def test_a_volume_that_nobody_will_make_is_told_with_what_there_is(
    classes: tuple[str, ...], named: str | None, words: list[str],
) -> None:
    claim = volume(phase="Pending", storage_class=named)
    # The scheduler's own words ("unbound immediate PersistentVolumeClaims") would send people the wrong way.
    done = planned(seen(
        cache(status(AttemptState.RUNNING), spec=spec(storage_class_name=named)), volume=claim,
        builders=(builder(waiting_for="pod has unbound immediate PersistentVolumeClaims"),), storage_classes=classes,
    ))
    assert (done.status.phase, reason(done)) == (Phase.CREATING, Because.VOLUME_PENDING)
    assert [word for word in words if word not in (done.status.message or "")] == []


def test_a_pending_volume_of_a_class_that_exists_is_only_waited_for() -> None:
    done = planned(seen(status(AttemptState.RUNNING), volume=volume(phase="Pending"), builders=(builder(),)))
    assert reason(done) == Because.VOLUME_PENDING
    assert "to start" in (done.status.message or "")


def test_a_waiting_pod_without_its_claim_gets_one() -> None:
    done = planned(seen(status(AttemptState.RUNNING), builders=(builder(),)))
    assert applied(done) == [CLAIM]


def test_who_stopped_a_builder_is_told_by_kubernetes_and_not_by_the_builder() -> None:
    stopped = Outcome(reason=Reason.CANCELLED, message="The builder was told to stop.")
    over = ended(stopped, ended_because="Evicted (disk)")
    facts = seen(status(AttemptState.RUNNING), volume=volume(), builders=(over,))
    done = planned(facts)
    assert (attempt_of(done).state, attempt_of(done).reason) == (AttemptState.LOST, "Cancelled")
    assert attempt_of(done).message == "the builder Pod was stopped before it had finished: Evicted (disk)"
    assert "Evicted (disk). The next one starts" in (done.status.message or "")
