# SPDX-License-Identifier: Apache-2.0
"""The loops that make passes, and what wakes them: with a reconciler that the test plays, in a real event loop."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

import aiohttp
import kopf
import pytest
from imagecache_operator.cluster.api import Conflict, Rejected, Unavailable
from imagecache_operator.controller import handlers
from imagecache_operator.controller.counters import PassResult
from imagecache_operator.controller.reconciler import Pass

from .bodies import UID, child
from .played import HOUR, PATIENCE, RESTS, Flag, Played, memo_of, play, start, until


def test_many_wakeups_during_a_pass_are_one_more_pass(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        played, stopped = Played(), Flag()
        memo = memo_of(played, executor)
        played.hold.clear()
        task = start(memo, stopped)
        await until(lambda: played.begun == 1)
        for _ in range(20):
            memo.wakeups.wake(UID)
        played.hold.set()
        await until(lambda: played.ended == 2)
        await asyncio.sleep(0.1)  # a third one would come now
        assert played.begun == 2
        stopped.set()
        await task

    play(test)


def test_a_sleeping_cache_wakes_at_once(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        played, stopped = Played(), Flag()
        memo = memo_of(played, executor)
        task = start(memo, stopped)
        for count in (1, 2, 3):
            await until(lambda: played.ended == count)  # noqa: B023 - awaited within this turn
            memo.wakeups.wake("somebody-else")
            memo.wakeups.wake(UID)
        stopped.set()
        await task

    play(test)


def test_a_pass_comes_again_when_it_said_so(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        played, stopped = Played(Pass(timedelta(0)), Pass(timedelta(milliseconds=20)), RESTS), Flag()
        task = start(memo_of(played, executor), stopped)
        await until(lambda: played.ended == 3)
        stopped.set()
        await task

    play(test)


def test_the_ends_of_passes_are_counted(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        played, stopped = Played(Unavailable("down", 0), Pass(timedelta(0)), RESTS), Flag()
        memo = memo_of(played, executor)
        task = start(memo, stopped)
        await until(lambda: played.ended == 3)
        for trouble in (Rejected("forbidden"), ValueError("a bug of ours")):
            played.answers, before = [trouble], played.ended
            memo.wakeups.wake(UID)
            await until(lambda: played.ended == before + 1)  # noqa: B023 - awaited within this turn
        stopped.set()
        await task
        sample = partial(memo.counters.registry.get_sample_value, "imagecache_passes_total")
        assert {r: sample({"result": r}) for r in PassResult} == {
            "done": 2, "unavailable": 1, "rejected": 1, "failed": 1,
        }

    play(test)


def test_what_is_counted_is_served_and_a_port_that_is_taken_ends_the_start(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        first, second = memo_of(Played(), executor), memo_of(Played(), executor)
        with socket.socket() as probe:
            probe.bind(("", 0))
            first.metrics_port = second.metrics_port = probe.getsockname()[1]
        await handlers.begin_metrics(first)
        with pytest.raises(kopf.PermanentError, match="the metrics cannot be served: "):
            await handlers.begin_metrics(second)
        url = f"http://127.0.0.1:{first.metrics_port}/metrics"
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert 'imagecache_passes_total{result="done"} 0.0' in (await answer.text()).splitlines()
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        await handlers.end_metrics(first)
        await handlers.begin_metrics(second)
        await handlers.end_metrics(second)

    play(test)


def test_the_stop_flag_ends_a_sleep_at_once(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        played, stopped = Played(), Flag()
        memo = memo_of(played, executor)
        task = start(memo, stopped)
        await until(lambda: played.ended == 1)
        stopped.set()
        await asyncio.wait_for(task, PATIENCE)
        assert memo.wakeups.overdue() == 0
        memo.wakeups.wake(UID)  # nobody sleeps there any more
        assert played.begun == 1

    play(test)


def test_the_daemon_leaves_a_deletion_to_its_handler(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        played = Played(Pass(HOUR, deleting=True))
        await asyncio.wait_for(start(memo_of(played, executor), Flag()), PATIENCE)
        assert played.ended == 1

    play(test)


@pytest.mark.parametrize("trouble", [Unavailable("no connection"), Conflict("changed"), Unavailable("busy", 0)])
def test_after_trouble_the_daemon_looks_again_by_itself(trouble: Exception, executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        played, stopped = Played(trouble, trouble, RESTS), Flag()
        task = start(memo_of(played, executor), stopped)
        await until(lambda: played.ended == 3)
        assert not task.done()
        stopped.set()
        await task

    play(test)


@pytest.mark.parametrize(("trouble", "at_least", "at_most"), [
    (Unavailable("slow down", 40), 40, 60),
    (Unavailable("down"), 0.5, 0.75),
    (Rejected("forbidden"), 60, 90),
    (ValueError("a bug of ours"), 60, 90),
], ids=["Retry-After", "down", "refused", "bug"])
def test_how_long_it_waits_after_trouble(
    trouble: Exception, at_least: float, at_most: float, executor: ThreadPoolExecutor,
) -> None:
    async def test() -> None:
        played, stopped = Played(trouble, RESTS), Flag()
        memo = memo_of(played, executor)
        with memo.wakeups.sleeper(UID) as sleeper:
            task = start(memo, stopped)
            begin = time.monotonic()
            await until(lambda: sleeper.due is not None and sleeper.due > begin + at_least - 0.1)
            late = time.monotonic() - begin
            assert sleeper.due is not None
            assert sleeper.due - begin <= at_most + late
            memo.wakeups.wake(UID)  # it is alive: a change is seen at once
            await until(lambda: played.ended == 2)
            assert sleeper.failures == 0
        stopped.set()
        await task

    play(test)


def test_trouble_that_lasts_is_asked_about_less_and_less() -> None:
    delays = [handlers._delay_after(Unavailable("down"), failures) for failures in range(1, 12)]
    assert 0.5 <= delays[0] <= 0.75
    assert all(30 <= d <= 90 for d in delays[7:])
    assert delays[0] < delays[3] < delays[7]


def test_removing_goes_on_until_nothing_is_left(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        going = Pass(timedelta(milliseconds=1), deleting=True)
        played = Played(going, Unavailable("down"), going, Pass(HOUR, deleting=True, gone=True))
        await asyncio.wait_for(handlers.remove(name="ml", uid=UID, memo=memo_of(played, executor)), PATIENCE)
        assert played.ended == 4

    play(test)


def test_a_child_that_goes_wakes_the_removal(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        played = Played(Pass(HOUR, deleting=True), Pass(HOUR, deleting=True, gone=True))
        memo = memo_of(played, executor)
        task = asyncio.create_task(handlers.remove(name="ml", uid=UID, memo=memo))
        await until(lambda: played.ended == 1)
        handlers.wake_owner(type="DELETED", body=child(), memo=memo)
        await asyncio.wait_for(task, PATIENCE)

    play(test)


def test_daemon_and_removal_never_pass_at_once(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        played, stopped = Played(Pass(HOUR, deleting=True, gone=True)), Flag()
        memo = memo_of(played, executor)
        played.hold.clear()
        living = start(memo, stopped)
        removing = asyncio.create_task(handlers.remove(name="ml", uid=UID, memo=memo))
        await until(lambda: played.begun == 1)
        await asyncio.sleep(0.1)  # the other one would begin now
        assert played.begun == 1
        played.hold.set()
        await asyncio.gather(living, removing)
        assert (played.ended, played.most_at_once) == (2, 1)

    play(test)


def test_the_end_of_one_wakes_those_who_wait_for_it(executor: ThreadPoolExecutor) -> None:
    async def test() -> None:
        waiting, resting, stopped = Played(Pass(HOUR, waits_for_others=True)), Played(), Flag()
        memo, other = memo_of(waiting, executor), memo_of(resting, executor)
        other.wakeups = memo.wakeups
        tasks = [start(memo, stopped, "waits"), start(other, stopped, "rests")]
        await until(lambda: waiting.ended == resting.ended == 1)
        gone = Played(Pass(HOUR, deleting=True, gone=True))
        leaving = memo_of(gone, executor)
        leaving.wakeups = memo.wakeups
        await handlers.remove(name="old", uid="old", memo=leaving)
        await until(lambda: waiting.ended == 2)
        handlers.wake_owner(type="MODIFIED", body=child(phase="Succeeded"), memo=memo)
        await until(lambda: waiting.ended == 3)
        await asyncio.sleep(0.05)
        assert resting.begun == 1
        stopped.set()
        await asyncio.gather(*tasks)

    play(test)


def test_liveness_sees_a_pass_that_hangs(executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        played, stopped = Played(), Flag()
        memo = memo_of(played, executor)
        assert handlers.healthy(memo=memo) == "0.0 s late"
        played.hold.clear()
        task = start(memo, stopped)
        await until(lambda: memo.wakeups.overdue() > 0.05)
        monkeypatch.setattr(handlers, "OVERDUE", 0.05)
        with pytest.raises(kopf.PermanentError, match="late"):
            handlers.healthy(memo=memo)
        played.hold.set()
        await until(lambda: memo.wakeups.overdue() == 0)
        assert handlers.healthy(memo=memo) == "0.0 s late"
        stopped.set()
        await task

    play(test)
