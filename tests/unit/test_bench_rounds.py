# SPDX-License-Identifier: Apache-2.0
"""Contenders take turns, the slow ones fewer, none after the deadline; and what is said of their figures."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.bench.rounds import Contender, Times, in_turns, ratio, wanted

NEVER, LONG_AGO = time.monotonic() + 10_000, time.monotonic() - 1


class Runs:
    """What was asked for, in its order, and what it is said to take."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def contender(self, what: str, *seconds: float) -> Contender:
        answers = iter(seconds)

        def once() -> float:
            self.order.append(what)
            return next(answers)

        return Contender(what, once)


def fails(problem: str) -> Callable[[], float]:
    def once() -> float:
        raise AssertionError(problem)

    return once


@pytest.mark.parametrize(("seconds", "most", "times"), [
    ([], 5, 1), ([0.8], 5, 5), ([40.0], 5, 5), ([40.1], 5, 3), ([90.0], 5, 3), ([91.0], 5, 1), ([91.0], 1, 1),
    ([0.8], 1, 1), ([95.0, 10.0], 5, 1),
])
def test_what_takes_long_is_done_less_often(seconds: list[float], most: int, times: int) -> None:
    assert wanted(seconds, most) == times


def test_everybody_has_a_turn_before_anybody_has_another() -> None:
    runs = Runs()
    found = in_turns([runs.contender("a", 1, 2, 3), runs.contender("slow", 91), runs.contender("b", 4, 5, 6)],
                     3, NEVER, print)
    assert runs.order == ["a", "slow", "b", "a", "b", "a", "b"]
    assert [times.seconds for times in found] == [[1, 2, 3], [91], [4, 5, 6]]


def test_after_the_deadline_everybody_has_had_one_turn() -> None:
    runs = Runs()
    in_turns([runs.contender("a", 1), runs.contender("b", 1)], 5, LONG_AGO, print)
    assert runs.order == ["a", "b"]


def test_who_fails_is_told_of_and_not_asked_again() -> None:
    runs, said = Runs(), list[str]()
    bad, good = in_turns([Contender("bad", fails("no\n  such thing")), runs.contender("good", 1, 1)],
                         2, NEVER, said.append)
    assert bad.row.cells == ("bad", "failed: no such thing", "", "")
    assert not bad.row.met
    assert good.seconds == [1, 1]
    assert said[0] == "bad: no\n  such thing"


def test_a_mistake_of_the_benchmark_itself_is_no_figure() -> None:
    def once() -> float:
        raise KeyError("x")

    with pytest.raises(KeyError):
        in_turns([Contender("a", once)], 1, NEVER, print)


@pytest.mark.parametrize(("seconds", "figures"), [
    ([1.0], "1.00 s (1.00–1.00, once)"), ([3.0, 1.0, 8.0], "3.00 s (1.00–8.00, 3 times)"),
])
def test_a_row_has_the_median_and_the_spread(seconds: list[float], figures: str) -> None:
    assert Times("a", seconds).row.cells == ("a", figures, "", "")


@pytest.mark.parametrize(("aim", "cells"), [
    ("", ("r", "4.00 ×", "", "")),
    ("≥ 4", ("r", "4.00 ×", "≥ 4 ×", "met")), ("≥ 4.5", ("r", "4.00 ×", "≥ 4.5 ×", "MISSED")),
    ("≤ 4", ("r", "4.00 ×", "≤ 4 ×", "met")), ("≤ 1.1", ("r", "4.00 ×", "≤ 1.1 ×", "MISSED")),
])
def test_a_ratio_is_of_medians(aim: str, cells: tuple[str, ...]) -> None:
    row, = ratio("r", Times("a", [7.0, 8.0, 90.0]), Times("b", [2.0]), aim)
    assert row.cells == cells


def test_there_is_no_ratio_to_what_failed() -> None:
    assert ratio("r", Times("a", [1.0]), Times("b", failure="why"), "≥ 5") == []
    assert ratio("r", Times("a", failure="why"), Times("b", [1.0])) == []
