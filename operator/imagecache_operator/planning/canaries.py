# SPDX-License-Identifier: Apache-2.0
"""Whether nodes can start Pods from a cache as they are meant to: tried, before any Pod is injected, by a Pod of ours
on one node of each pool. `serving.py` asks, once the server answers.

What injection rests on is how kubelets and container runtimes behave, and whether nodes reach the server; neither can
be seen from here. One pool where it fails is enough to keep the cache from being injected, because nobody knows on
which node a Pod will land. A trial that has failed is made again, later and later, on the pool's next node. One that
has passed holds for as long as the server has its address.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.serving import CanaryStatus
from imagecache_operator.planning import kubelets
from imagecache_operator.planning.children import canary
from imagecache_operator.planning.decision import AT_ONCE, SOON, Manifest, ObjectRef
from imagecache_operator.planning.observed import Canary, Pool
from imagecache_operator.planning.view import View

AGAIN, LATEST = timedelta(minutes=1), timedelta(minutes=10)
LONGEST_WORDS = 400


@dataclass(frozen=True)
class Trials:
    """What trials have shown, and what is to be done for more of it. `reason` is that of the condition Served, `words`
    its message, empty where all is well; `again_in` None: nothing is due."""

    results: tuple[CanaryStatus, ...]
    reason: Because = Because.SERVING
    words: str = ""
    create: tuple[Manifest, ...] = ()
    delete: tuple[ObjectRef, ...] = ()
    again_in: timedelta | None = None


@dataclass(frozen=True)
class _OfPool:
    """One pool's part of it."""

    pool: Pool
    result: CanaryStatus | None
    waits: str = ""
    create: tuple[Manifest, ...] = ()
    delete: tuple[ObjectRef, ...] = ()
    again_in: timedelta | None = None


def trials(view: View, address: str, *, password: bool) -> Trials:
    """Of the server at that address, which answers."""
    if kubelets.why_no_injection(view.settings.injection, view.observed.kubelets):
        return Trials((), delete=view.canary_pods)
    known = {result.pool: result for result in results(view, address)}
    parts = [
        _of_pool(view, pool, _pods_of(view, pool, address), known.get(pool.words), address, password=password)
        for pool in view.observed.pools
    ]
    current = {(address, pool.words) for pool in view.observed.pools}
    surplus = (
        ObjectRef("Pod", pod.name) for pod in view.observed.canaries
        if (pod.address, pod.pool) not in current and not pod.deleting
    )
    reason, words = _verdict(parts)
    due = [part.again_in for part in parts if part.again_in is not None]
    return Trials(
        results=tuple(part.result for part in parts if part.result),
        reason=reason, words=words,
        create=tuple(pod for part in parts for pod in part.create),
        delete=(*surplus, *(ref for part in parts for ref in part.delete)),
        again_in=min(due) if due else SOON if reason is Because.CANARY_PENDING else None,
    )


def results(view: View, address: str) -> tuple[CanaryStatus, ...]:
    """What earlier passes have put down of the server at that address."""
    server = view.observed.cache.status.server
    return server.canaries if server is not None and server.address == address else ()


def _verdict(parts: list[_OfPool]) -> tuple[Because, str]:
    failed = [part.result for part in parts if part.result and not part.result.passed]
    if failed:
        first = failed[0]
        return Because.CANARY_FAILED, f"Node {first.node} ({first.pool}) cannot start Pods from it: {first.message}"
    if any(part.result for part in parts):
        return Because.SERVING, ""
    words = next((part.waits for part in parts if part.waits), "Waiting for a node that is ready, to try it")
    return Because.CANARY_PENDING, words


def _pods_of(view: View, pool: Pool, address: str) -> list[Canary]:
    """Those on their way out do not count where nobody sees to it that they go: their nodes are lost."""
    return [
        pod for pod in view.observed.canaries
        if (pod.address, pod.pool) == (address, pool.words) and not (pod.deleting and pod.node not in pool.ready)
    ]


def _of_pool(
    view: View, pool: Pool, pods: list[Canary], result: CanaryStatus | None, address: str, *, password: bool,
) -> _OfPool:
    if not pods:
        if not pool.ready or (result and result.passed):
            return _OfPool(pool, result)
        if result and (wait := result.tried_at + _pause(result.failures) - view.now) > AT_ONCE:
            return _OfPool(pool, result, again_in=wait)
        node = pool.ready[(result.failures if result else 0) % len(pool.ready)]
        made = canary.manifest(
            view.observed.cache, pool, node, address, view.observed.home_uid, view.settings, password=password,
        )
        return _OfPool(pool, result, f"Node {node} begins to try it", create=(made,), again_in=SOON)
    pod = pods[0]
    if pod.deleting:
        return _OfPool(pool, result, f"Waiting until Pod {pod.name} is removed", again_in=SOON)
    gone = (ObjectRef("Pod", pod.name),)
    if pod.node not in pool.ready and not pod.passed:
        # Of a node that is lost nothing is to be expected: another one tries.
        return _OfPool(pool, result, f"Node {pod.node} is not ready any more", delete=gone, again_in=SOON)
    if result and (result.passed or pod.created <= result.tried_at):
        return _OfPool(pool, result, delete=gone, again_in=SOON)  # what it has shown is in status
    overdue = view.now - pod.created > view.settings.canary_deadline
    if pod.over or overdue:
        return _OfPool(pool, _result(view, pool, pod, result), again_in=AT_ONCE)
    waits = f"Waiting for node {pod.node} to try it" + (f": {pod.waiting_for}" if pod.waiting_for else "")
    return _OfPool(pool, result, waits, again_in=SOON)


def _result(view: View, pool: Pool, pod: Canary, before: CanaryStatus | None) -> CanaryStatus:
    if pod.passed:
        return CanaryStatus(pool=pool.words, node=pod.node, passed=True, tried_at=view.now)
    seconds = view.settings.canary_deadline.total_seconds()
    return CanaryStatus(
        pool=pool.words, node=pod.node, passed=False, failures=(before.failures if before else 0) + 1,
        message=(pod.waiting_for or f"Pod {pod.name} has not ended after {seconds:.0f} s")[:LONGEST_WORDS],
        tried_at=view.now,
    )


def _pause(failures: int) -> timedelta:
    return min(AGAIN * (1 << min(failures - 1, 10)), LATEST)
