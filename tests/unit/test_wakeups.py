# SPDX-License-Identifier: Apache-2.0
"""Sleepers: shared while in use, gone afterwards, woken by uid. How passes follow is in tests/controller."""

from __future__ import annotations

import time

import pytest
from imagecache_operator.controller.wakeups import Wakeups


def test_all_users_of_one_cache_share_its_sleeper() -> None:
    wakeups = Wakeups()
    with wakeups.sleeper("a") as one, wakeups.sleeper("a") as same, wakeups.sleeper("b") as other:
        assert one is same
        assert one is not other


def test_nothing_is_kept_of_a_cache_that_nobody_looks_after() -> None:
    wakeups = Wakeups()
    with wakeups.sleeper("a") as one:
        with wakeups.sleeper("a"):
            pass
        wakeups.wake("a")
        assert one.woken.is_set(), "it is still there for its other user"
    with wakeups.sleeper("a") as another:
        assert another is not one
        assert not another.woken.is_set()


def test_a_sleeper_is_freed_when_its_user_fails() -> None:
    wakeups = Wakeups()

    def fail() -> None:
        with wakeups.sleeper("a") as one:
            one.due = time.monotonic() - 100
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert wakeups.overdue() == 0


def test_waking_nobody_is_fine() -> None:
    Wakeups().wake("nobody")
    Wakeups().wake_waiting()


def test_only_those_who_wait_are_woken_for_others() -> None:
    wakeups = Wakeups()
    with wakeups.sleeper("waits") as waits, wakeups.sleeper("rests") as rests:
        waits.waits_for_others = True
        wakeups.wake_waiting()
        assert (waits.woken.is_set(), rests.woken.is_set()) == (True, False)


def test_the_most_overdue_counts_and_never_less_than_nothing() -> None:
    wakeups = Wakeups()
    assert wakeups.overdue() == 0
    with wakeups.sleeper("a") as a, wakeups.sleeper("b") as b, wakeups.sleeper("c"):
        a.due = time.monotonic() + 100
        assert wakeups.overdue() == 0
        b.due = time.monotonic() - 100
        assert 100 <= wakeups.overdue() < 200
