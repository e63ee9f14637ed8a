# SPDX-License-Identifier: Apache-2.0
"""The stopwatch charges each step for its own work, and no work twice."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.speeds import Stopwatch

WORK = 0.02  # seconds of processor time


def work() -> None:
    end = time.thread_time() + WORK
    while time.thread_time() < end:
        pass


def test_a_step_inside_another_counts_for_itself_alone() -> None:
    watch = Stopwatch()

    def items() -> Iterator[int]:
        for number in range(3):
            work()
            with watch.step("inner"):
                work()
            yield number

    began = time.thread_time()
    assert list(watch.each("outer", items())) == [0, 1, 2]
    whole = time.thread_time() - began
    assert watch.spent["outer"] >= 3 * WORK
    assert watch.spent["inner"] >= 3 * WORK
    assert sum(watch.spent.values()) <= whole


def test_what_is_between_steps_counts_for_none() -> None:
    watch, seen = Stopwatch(), 0.0
    for _ in watch.each("making", range(3)):
        began = time.thread_time()
        work()
        seen += time.thread_time() - began
    assert sum(watch.spent.values()) < seen
