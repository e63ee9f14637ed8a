# SPDX-License-Identifier: Apache-2.0
"""kopf's side: which events wake which ImageCache, the two loops that make its passes, and two for what is about all of
them: the webhook, and who may use which cache.

No decisions here. One async daemon for each ImageCache is its only writer while it lives; kopf starts none for an
object that is already being deleted, so a deletion handler makes the same passes there until nothing is left.
`controller/operator.py` registers these functions.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

import kopf
from aiohttp import web

from imagecache_operator import names
from imagecache_operator.api.imagecache import Phase
from imagecache_operator.cluster.api import ClusterError, Rejected, Unavailable
from imagecache_operator.controller.access import Access
from imagecache_operator.controller.counters import Counters, PassResult
from imagecache_operator.controller.injection import Injection
from imagecache_operator.controller.pods import PodWatch
from imagecache_operator.controller.reconciler import Pass, Reconciler
from imagecache_operator.controller.wakeups import Sleeper, Wakeups
from imagecache_operator.exposition import expose

log = logging.getLogger(__name__)

FIRST_DELAY = 0.5
LONGEST_DELAY = 60.0
# A pass takes well under a second, and a call to the API server at most 25; past this, something hangs.
OVERDUE = 180.0
# Among the UIDs of ImageCaches: the sleepers of the looks at the webhook and at passwords.
INJECTION = "injection"
ACCESS = "access"
# A crowd of caches or namespaces comes as many events: they share a look.
BETWEEN_LOOKS = 2.0


@dataclass
class Memo:
    """What the handlers need; travels by kopf's memo, so there are no globals."""

    reconciler: Reconciler
    executor: Executor
    injection: Injection
    access: Access
    wakeups: Wakeups = field(default_factory=Wakeups)
    counters: Counters = field(default_factory=Counters)
    pods: PodWatch | None = None
    metrics_port: int = 0
    looking: list[asyncio.Task[None]] = field(default_factory=list)
    namespaces: dict[str, int] = field(default_factory=dict)
    metrics: web.AppRunner | None = None


async def live(name: str, uid: str, stopped: Any, memo: Memo, **_: Any) -> None:
    """The daemon: passes for as long as the ImageCache lives and this process runs."""
    with memo.wakeups.sleeper(uid) as sleeper:
        ending = asyncio.ensure_future(stopped.wait())
        try:
            while not stopped:
                done = await _pass_over(memo, sleeper, name, uid)
                if done.deleting:
                    return  # `remove` goes on from here
                await _sleep(sleeper, done.again_in, ending)
        finally:
            ending.cancel()


async def remove(name: str, uid: str, memo: Memo, **_: Any) -> None:
    """The deletion: passes until nothing is left. kopf takes our finalizer away when this returns."""
    with memo.wakeups.sleeper(uid) as sleeper:
        while not (done := await _pass_over(memo, sleeper, name, uid)).gone:
            await _sleep(sleeper, done.again_in, None)
    memo.wakeups.wake_waiting()


async def begin_looking(memo: Memo, **_: Any) -> None:
    """With the operator begin the looks at the webhook's certificate and registration, and at passwords."""
    for name, look in ((INJECTION, memo.injection.run_once), (ACCESS, memo.access.run_once)):
        memo.looking.append(asyncio.create_task(_keep_looking(memo, name, look)))


async def end_looking(memo: Memo, **_: Any) -> None:
    """And they end with it; what is registered stays, for the webhook runs on."""
    for looking in memo.looking:
        looking.cancel()
    await asyncio.gather(*memo.looking, return_exceptions=True)


async def begin_watching_pods(memo: Memo, **_: Any) -> None:
    """Pods that start from a cache wake it, at most once an hour."""
    if memo.pods:
        loop = asyncio.get_running_loop()
        memo.pods.start(lambda uid: loop.call_soon_threadsafe(memo.wakeups.wake, uid))


async def end_watching_pods(memo: Memo, **_: Any) -> None:
    """Nobody is woken any more."""
    if memo.pods:
        memo.pods.stop()


async def begin_metrics(memo: Memo, **_: Any) -> None:
    """Serve what is counted, where a port is given. Where that is taken, the operator does not start."""
    if not memo.metrics_port:
        return
    try:
        memo.metrics = await expose(memo.counters.registry, memo.metrics_port)
    except OSError as error:
        raise kopf.PermanentError(f"the metrics cannot be served: {error}") from error


async def end_metrics(memo: Memo, **_: Any) -> None:
    """The port is free again."""
    if memo.metrics:
        await memo.metrics.cleanup()


async def _keep_looking(memo: Memo, name: str, look: Callable[[], Pass]) -> None:
    with memo.wakeups.sleeper(name) as sleeper:
        while True:
            done = await _pass(memo, sleeper, name, look)
            await asyncio.sleep(BETWEEN_LOOKS)
            await _sleep(sleeper, done.again_in, None)


async def _pass_over(memo: Memo, sleeper: Sleeper, name: str, uid: str) -> Pass:
    done = await _pass(memo, sleeper, name, partial(memo.reconciler.run_once, name, uid))
    memo.counters.saw(uid, done)
    return done


async def _pass(memo: Memo, sleeper: Sleeper, name: str, run: Callable[[], Pass]) -> Pass:
    """One pass. Trouble with the API server ends as a pass that asks for another one after a back-off."""
    async with sleeper.lock:
        sleeper.woken.clear()
        sleeper.due = time.monotonic()  # for as long as it goes on, so that one that hangs is seen
        try:
            done = await asyncio.get_running_loop().run_in_executor(memo.executor, run)
        except ClusterError as error:
            memo.counters.passed(PassResult.REJECTED if isinstance(error, Rejected) else PassResult.UNAVAILABLE)
            sleeper.failures += 1
            delay = _delay_after(error, sleeper.failures)
            log.warning("%s: %s; looking again in %.1f s", name, error, delay)
            return Pass(again_in=timedelta(seconds=delay))
        except Exception:
            # A bug of ours. The daemon must outlive it: kopf would not start another one for this object.
            memo.counters.passed(PassResult.FAILED)
            log.exception("%s: the pass failed; looking again in %.0f s", name, LONGEST_DELAY)
            return Pass(again_in=timedelta(seconds=LONGEST_DELAY))
        memo.counters.passed(PassResult.DONE)
        sleeper.failures = 0
        sleeper.waits_for_others = done.waits_for_others
        return done


def _delay_after(error: ClusterError, failures: int) -> float:
    if isinstance(error, Rejected):
        return LONGEST_DELAY
    delay = min(FIRST_DELAY * 2.0 ** min(failures - 1, 10), LONGEST_DELAY)
    if isinstance(error, Unavailable) and error.retry_after is not None:
        delay = max(delay, error.retry_after)
    # Jitter: a hundred daemons that failed together must not come back together.
    return delay * random.uniform(1.0, 1.5)  # noqa: S311


async def _sleep(sleeper: Sleeper, again_in: timedelta, ending: asyncio.Future[Any] | None) -> None:
    seconds = again_in.total_seconds()
    sleeper.due = time.monotonic() + seconds
    woken = asyncio.create_task(sleeper.woken.wait())
    try:
        await asyncio.wait(
            {woken, ending} if ending else {woken}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED,
        )
    finally:
        woken.cancel()


def wake_cache(type: str | None, body: kopf.Body, memo: Memo, **_: Any) -> None:
    """An ImageCache has changed: wake it where somebody else than us has changed it, and the look at passwords where
    it may be about one that is served."""
    meta, status = body.metadata, body.status
    if type != "MODIFIED" or status.get("phase") != Phase.CREATING:
        memo.wakeups.wake(ACCESS)
    retry = meta.annotations.get(names.ANNOTATION_RETRY)
    if type == "DELETED":
        memo.wakeups.wake_waiting()
    elif (
        meta.get("deletionTimestamp")
        or meta.get("generation") != status.get("observedGeneration")
        or (retry and retry != status.get("handledRetry"))
    ):
        memo.wakeups.wake(str(body.metadata.uid))


def wake_owner(type: str | None, body: kopf.Body, memo: Memo, **_: Any) -> None:
    """A child has changed: wake its ImageCache, and whoever waits for a builder to end."""
    memo.wakeups.wake(body.metadata.labels.get(names.LABEL_CACHE, ""))
    if type == "DELETED" or body.status.get("phase") in ("Succeeded", "Failed"):
        memo.wakeups.wake_waiting()


def wake_access(type: str | None, body: kopf.Body, memo: Memo, **_: Any) -> None:
    """A namespace has come, gone, or has other labels: who may use which cache may have changed with it. Whatever else
    people write to their namespaces is not worth a look at all of them."""
    meta = body.metadata
    matters = hash((meta.uid, frozenset(meta.labels.items()), "deletionTimestamp" in meta))
    if type == "DELETED":
        memo.namespaces.pop(str(meta.name), None)
    elif memo.namespaces.get(str(meta.name)) == matters:
        return
    else:
        memo.namespaces[str(meta.name)] = matters
    memo.wakeups.wake(ACCESS)


def healthy(memo: Memo, **_: Any) -> str:
    """The liveness probe: fails when a pass that is due does not happen."""
    late = memo.wakeups.overdue()
    if late > OVERDUE:
        raise kopf.PermanentError(f"a pass is {late:.0f} s late")
    return f"{late:.1f} s late"
