# SPDX-License-Identifier: Apache-2.0
"""For tests of the loops that make passes: a reconciler that the test plays, in a real event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from imagecache_operator.controller import handlers
from imagecache_operator.controller.handlers import Memo
from imagecache_operator.controller.reconciler import Pass

from .bodies import UID

PATIENCE = 30  # seconds; only a test that fails waits that long
HOUR = timedelta(hours=1)
RESTS = Pass(again_in=HOUR)


class Played:
    """A reconciler whose passes end as the test says: one answer after the other, the last one for ever.

    With `hold` set, a pass does not end before `release` is called.
    """

    def __init__(self, *answers: Pass | Exception) -> None:
        self.answers = list(answers) or [RESTS]
        self.begun = 0
        self.ended = 0
        self.at_once = 0
        self.most_at_once = 0
        self.hold = threading.Event()
        self.hold.set()

    def run_once(self, name: str = "", uid: str = "") -> Pass:
        self.begun += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.hold.wait(PATIENCE)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.at_once -= 1
            self.ended += 1


class Flag:
    """As kopf's `stopped`."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __bool__(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    async def wait(self) -> None:
        await self._event.wait()


def play(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 2 * PATIENCE)

    asyncio.run(bounded())


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come about"
        await asyncio.sleep(0.005)


def memo_of(played: Played, executor: ThreadPoolExecutor) -> Memo:
    return Memo(played, executor, played, Played())  # type: ignore[arg-type]


def start(memo: Memo, stopped: Flag, uid: str = UID) -> asyncio.Task[None]:
    return asyncio.create_task(handlers.live(name="ml", uid=uid, stopped=stopped, memo=memo))
