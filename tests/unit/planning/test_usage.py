# SPDX-License-Identifier: Apache-2.0
"""What follows from marked Pods: which event is posted, what status says of the last use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator.api.imagecache import AttemptState, Phase
from imagecache_operator.planning import usage
from imagecache_operator.planning.decision import Event
from imagecache_operator.planning.plan import plan
from imagecache_operator.planning.usage import Allowance, MarkedPod, last_used, not_injected, remembered

from tests.unit.planning.facts import SETTINGS, cache, seen, status

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def marked(age: timedelta = MINUTE, **fields: str) -> MarkedPod:
    return MarkedPod("team-a", "train-x7k2p", "pod-uid", NOW - age, **fields)


def test_a_pod_that_was_not_served_is_told_why() -> None:
    assert not_injected(marked(reason="there is no ImageCache ml"), NOW) == Event(
        "Warning", "NotInjected", "Starts without an image cache: there is no ImageCache ml", "not-injected.pod-uid",
    )


@pytest.mark.parametrize(("age", "told"), [
    (timedelta(0), True), (-MINUTE, True), (HOUR, True), (HOUR + timedelta(seconds=1), False),
])
def test_an_old_pod_is_not(age: timedelta, told: bool) -> None:
    assert (not_injected(marked(age), NOW) is not None) == told


@given(st.text(max_size=1000))
def test_whatever_stands_on_the_pod_becomes_one_short_line(reason: str) -> None:
    event = not_injected(marked(reason=reason), NOW)
    assert event is not None
    assert event.message.isprintable()
    assert len(event.message) < 350


def test_a_flood_is_cut_and_the_allowance_comes_back() -> None:
    allowance: Allowance | None = Allowance()
    for _ in range(100):
        assert allowance is not None
        allowance = allowance.spent(NOW)
    assert allowance is not None
    assert allowance.spent(NOW) is None
    assert allowance.spent(NOW - HOUR) is None, "a clock that was set back gives nothing"
    for seconds in range(1, 5):
        allowance = allowance.spent(NOW + timedelta(seconds=seconds))
        assert allowance is not None
    assert allowance.spent(NOW + timedelta(seconds=4)) is None
    rested = allowance.spent(NOW + 24 * HOUR)
    assert rested is not None
    assert rested.left == 99, "never more than at the beginning"


@pytest.mark.parametrize(("told", "seen", "says"), [
    (None, None, None),
    (None, NOW, NOW),
    (NOW, None, NOW),  # the operator has just started
    (NOW, NOW, NOW),
    (NOW, NOW - 9 * HOUR, NOW),
    (NOW, NOW + 59 * MINUTE, NOW),
    (NOW, NOW + HOUR, NOW + HOUR),
    (NOW, NOW + 9 * HOUR, NOW + 9 * HOUR),
])
def test_status_moves_by_an_hour_at_least(
    told: datetime | None, seen: datetime | None, says: datetime | None,
) -> None:
    assert last_used(told, seen) == says


def test_the_newest_pod_of_each_cache_counts_in_any_order() -> None:
    uses: dict[str, datetime] = {}
    for age, uid in [(2 * HOUR, "a"), (HOUR, "b"), (MINUTE, "a"), (3 * HOUR, "a")]:
        uses = remembered(uses, marked(age, cache_uid=uid))
    assert uses == {"a": NOW - MINUTE, "b": NOW - HOUR}


def test_labels_that_anybody_invents_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "MOST_CACHES", 3)
    uses = {"used": NOW}
    for number in range(9):
        uses = remembered(uses, marked(HOUR - number * MINUTE, cache_uid=f"invented-{number}"))
    assert set(uses) == {"used", "invented-7", "invented-8"}


@pytest.mark.parametrize("phase", [Phase.AVAILABLE, Phase.UNAVAILABLE])
def test_a_pass_keeps_what_it_does_not_know_better(phase: Phase) -> None:
    """Also where the cache has lost its volume: server-side apply would take a field away that is not said again."""
    known = cache(status(AttemptState.SUCCEEDED, phase=phase, last_used_time=NOW))
    assert plan(seen(known), SETTINGS, NOW).status.last_used_time == NOW
