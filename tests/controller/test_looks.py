# SPDX-License-Identifier: Apache-2.0
"""The looks at the webhook and at passwords: they begin and end with the operator, and outlive trouble."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import kopf
import pytest
from imagecache_operator.cluster.api import Unavailable
from imagecache_operator.controller import handlers
from imagecache_operator.controller.reconciler import Pass

from .played import PATIENCE, Played, memo_of, play, until


def test_the_looks_at_the_webhook_begin_and_end_with_the_operator(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(handlers, "BETWEEN_LOOKS", 0.0)

    async def test() -> None:
        soon = Pass(timedelta(milliseconds=1))
        played = Played(soon, Unavailable("down"), soon, ValueError("a bug of ours"))
        memo = memo_of(played, executor)
        await handlers.begin_looking(memo=memo)
        await until(lambda: played.ended == 4)
        await until(lambda: memo.wakeups.overdue() == 0)  # it sleeps for a minute, and has not ended
        await asyncio.wait_for(handlers.end_looking(memo=memo), PATIENCE)
        assert [looking.cancelled() for looking in memo.looking] == [True, True]
        assert memo.wakeups.overdue() == 0

    play(test)


def test_liveness_sees_a_look_at_the_webhook_that_hangs(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        played = Played()
        played.hold.clear()
        memo = memo_of(played, executor)
        monkeypatch.setattr(handlers, "OVERDUE", 0.05)
        await handlers.begin_looking(memo=memo)
        await until(lambda: memo.wakeups.overdue() > 0.05)
        with pytest.raises(kopf.PermanentError, match="late"):
            handlers.healthy(memo=memo)
        played.hold.set()
        await handlers.end_looking(memo=memo)

    play(test)


def test_an_operator_that_has_not_begun_ends_all_the_same(executor: ThreadPoolExecutor) -> None:
    play(lambda: handlers.end_looking(memo=memo_of(Played(), executor)))
