# SPDX-License-Identifier: Apache-2.0
"""How long trouble that may pass by itself is waited for. `registry.py` and `fetch.py` ask after each failure."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.errors import ImageError, cancelled

T = TypeVar("T")


class Trouble(ImageError):
    """Something that may pass by itself: worth another try, after `retry_after` seconds if the registry said so."""

    def __init__(self, reason: Reason, message: str, retry_after: float | None = None) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Limits:
    """When to give up. Delays are in seconds; they double, and a random part keeps builders from moving in step."""

    failures_in_a_row: int = 5
    failures_in_all: int = 40
    first_delay: float = 0.5
    longest_delay: float = 20.0
    waiting_in_all: float = 180.0


class Patience:
    """The failures of one piece of work. Not shared between threads."""

    def __init__(self, limits: Limits, stop: threading.Event) -> None:
        self._limits = limits
        self._stop = stop
        self._in_a_row = 0
        self._in_all = 0
        self._waited = 0.0

    def progressed(self) -> None:
        """The work came nearer to its end: the next failure is the first in a row again."""
        self._in_a_row = 0

    def wait(self, trouble: Trouble) -> None:
        """Returns when it is time to try again. Raises `trouble` when it is not worth it, Cancelled on stop."""
        limits = self._limits
        self._in_a_row += 1
        self._in_all += 1
        delay = min(limits.longest_delay, limits.first_delay * 2 ** (self._in_a_row - 1))
        delay *= random.uniform(0.5, 1)  # noqa: S311 - spreads load, guards nothing
        delay = max(delay, trouble.retry_after or 0)
        if (
            self._in_a_row >= limits.failures_in_a_row
            or self._in_all >= limits.failures_in_all
            or self._waited + delay > limits.waiting_in_all
        ):
            raise trouble
        before = time.monotonic()
        if self._stop.wait(delay):
            raise cancelled()
        self._waited += time.monotonic() - before

    def insist(self, work: Callable[[], T]) -> T:
        """The result of `work`, tried until it comes or patience ends."""
        while True:
            try:
                return work()
            except Trouble as trouble:
                self.wait(trouble)
