# SPDX-License-Identifier: Apache-2.0
"""How long a registry is waited for: the limits of the whole way to it, and what comes after a failure.

`connections.py` keeps to the limits of a request; `registry.py` and `fetch.py` ask here after each failure.
"""

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
    """How far a registry is borne with: every limit of the way to it, in seconds where nothing else is said.

    One request: `connect` for each of reaching a host and shaking hands with it, `stall` for its silence afterwards,
    in mid-layer too; how long a name is looked up, resolv.conf says. `slowest` is the bytes a second that it must send
    on average of `slowest_over` seconds of waiting for it: thin lines are served, and what comes in drops does not
    hold a worker for hours.

    One host: `connections` at a time, None for one for each worker.

    One piece of work, a manifest or a layer: it ends after so many `failures_in_a_row` without a byte between them,
    after so many `failures_in_all`, or before it would wait for more than `waiting_in_all`. Between two tries passes
    what the registry asks for (`Retry-After`), at least `first_delay`, which doubles up to `longest_delay`; a random
    part of it keeps builders from moving in step.
    """

    connect: float = 10.0
    stall: float = 30.0
    slowest: int = 8 * 1024
    slowest_over: float = 60.0
    connections: int | None = None
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
