# SPDX-License-Identifier: Apache-2.0
"""Contenders that take turns: how often each, within a bound of time, and what their figures say. Called by `start`.

Who fails once is told of as such and not asked again: the others' figures are worth having all the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.cluster import ClusterError
from tests.cluster.progress import Say

from .report import Row

MOST = 5
# (seconds that the first time took, times at the most): a table may take no longer than people wait for it.
FEWER = ((90.0, 1), (40.0, 3))


@dataclass(frozen=True)
class Contender:
    """`once` does it and returns the seconds that it took. Raises AssertionError or ClusterError."""

    what: str
    once: Callable[[], float]


@dataclass
class Times:
    """What came of one of them."""

    what: str
    seconds: list[float] = field(default_factory=list)
    failure: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def row(self) -> Row:
        if self.failure:
            return Row(self.what, f"failed: {self.failure}", met=False)
        times = f"{len(self.seconds)} times" if len(self.seconds) > 1 else "once"
        return Row(self.what, f"{self.median:.2f} s ({min(self.seconds):.2f}–{max(self.seconds):.2f}, {times})")


def in_turns(contenders: Sequence[Contender], most: int, deadline: float, say: Say) -> list[Times]:
    """Everybody once, then again whoever wants to, until `deadline` (of time.monotonic)."""
    found = [Times(contender.what) for contender in contenders]
    while waiting := [
        (contender, times) for contender, times in zip(contenders, found, strict=True)
        if not times.failure and len(times.seconds) < wanted(times.seconds, most)
    ]:
        for contender, times in waiting:
            if times.seconds and time.monotonic() > deadline:
                return found
            try:
                times.seconds.append(contender.once())
            except (AssertionError, ClusterError) as error:
                times.failure = " ".join(str(error).split())[:200]
                say(f"{contender.what}: {error}")
            else:
                say(f"{contender.what}: {times.seconds[-1]:.2f} s")
    return found


def wanted(seconds: Sequence[float], most: int) -> int:
    """How often in all, going by the first time."""
    if not seconds:
        return 1
    return min(most, next((times for least, times in FEWER if seconds[0] > least), MOST))


def ratio(what: str, above: Times, below: Times, aim: str = "") -> list[Row]:
    """How many times the other's median; `aim` begins with ≥ or ≤. Nothing where one of them has failed."""
    if above.failure or below.failure:
        return []
    found = above.median / below.median
    if not aim:
        return [Row(what, f"{found:.2f} ×")]
    sign, bound = aim.split()
    return [Row(what, f"{found:.2f} ×", f"{aim} ×", found >= float(bound) if sign == "≥" else found <= float(bound))]
