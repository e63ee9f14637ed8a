# SPDX-License-Identifier: Apache-2.0
"""Wake-ups: many reasons to look at an ImageCache become one pass. Used by `handlers.py` only, in the event loop.

An event that comes while a pass runs leads to one more pass after it; ten of them lead to one as well.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Sleeper:
    """One ImageCache between two passes. The lock keeps its daemon and its deletion from passing at once."""

    woken: asyncio.Event = field(default_factory=asyncio.Event)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    due: float | None = None
    waits_for_others: bool = False
    failures: int = 0
    users: int = 0


class Wakeups:
    """All sleepers by ImageCache UID."""

    def __init__(self) -> None:
        self._sleepers: dict[str, Sleeper] = {}

    @contextmanager
    def sleeper(self, uid: str) -> Iterator[Sleeper]:
        """The sleeper of that cache, shared by all who use it at the same time, gone with the last of them."""
        sleeper = self._sleepers.setdefault(uid, Sleeper())
        sleeper.users += 1
        try:
            yield sleeper
        finally:
            sleeper.users -= 1
            if not sleeper.users:
                del self._sleepers[uid]

    def wake(self, uid: str) -> None:
        """Ask for a pass; nothing happens where nobody looks after that cache (yet)."""
        if sleeper := self._sleepers.get(uid):
            sleeper.woken.set()

    def wake_waiting(self) -> None:
        """Ask for a pass over every cache that waits for a slot or for quota."""
        for sleeper in self._sleepers.values():
            if sleeper.waits_for_others:
                sleeper.woken.set()

    def overdue(self) -> float:
        """By how many seconds the pass that should have happened first is late; 0 if none is."""
        late = [time.monotonic() - s.due for s in self._sleepers.values() if s.due is not None]
        return max([0.0, *late])
