# SPDX-License-Identifier: Apache-2.0
"""Threads that go one call at a time, in an order that a seed decides: a race that can be played again.

Each thread stops before each of its calls. When all have stopped, one is chosen and makes its call. So any order of
calls that real threads could come to is met with some seed, and nothing depends on how busy the machine is.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

from imagecache_operator.cluster.api import Api

PATIENCE = 60  # seconds; only a deadlock in the test waits that long


class Turns:
    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._changed = threading.Condition()
        self._waiting: dict[threading.Thread, bool] = {}  # thread → whether it may go
        self._running: set[threading.Thread] = set()
        self._errors: list[BaseException] = []

    def run(self, *jobs: Callable[[], object]) -> None:
        """All jobs, interleaved. Raises what the first of them that failed raised."""
        threads = [threading.Thread(target=self._job, args=(job,), daemon=True) for job in jobs]
        self._running = set(threads)
        for thread in threads:
            thread.start()
        with self._changed:
            while True:
                assert self._changed.wait_for(self._all_stopped, PATIENCE), "a thread waits for something else"
                if not self._waiting:
                    break
                self._waiting[self._random.choice(sorted(self._waiting, key=lambda t: t.name))] = True
                self._changed.notify_all()
        for thread in threads:
            thread.join(PATIENCE)
        if self._errors:
            raise self._errors[0]

    def wait(self) -> None:
        """Called by a thread before something that others may see."""
        me = threading.current_thread()
        if me not in self._running:
            return  # the test's own thread
        with self._changed:
            self._waiting[me] = False
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._waiting[me], PATIENCE)
            del self._waiting[me]

    def _all_stopped(self) -> bool:
        return set(self._waiting) == self._running and not any(self._waiting.values())

    def _job(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - told by `run`
            self._errors.append(error)
        with self._changed:
            self._running.discard(threading.current_thread())
            self._changed.notify_all()


class TurnLock:
    """A lock whose waiting is a turn as well."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._taken = False

    def __enter__(self) -> None:
        self._turns.wait()
        while self._taken:
            self._turns.wait()
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False


class Interleaved:
    """An Api each of whose calls is a turn."""

    def __init__(self, api: Api, turns: Turns) -> None:
        self._api = api
        self._turns = turns

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._api, name)

        def in_turn(*args: Any, **more: Any) -> Any:
            self._turns.wait()
            return call(*args, **more)

        return in_turn
