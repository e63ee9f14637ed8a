# SPDX-License-Identifier: Apache-2.0
"""Follows the Pods that the webhook has marked, all over the cluster: those that were not served get an event, those
that were tell that their cache is used. `planning/usage.py` decides; `controller/handlers.py` starts and ends it.

Two watches of metadata, each in a thread of its own. kopf has watches too, but would keep something of every Pod, and
wants the right to list them. Here nothing is kept but one time for each cache.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Protocol

from imagecache_operator import names
from imagecache_operator.cluster import reading
from imagecache_operator.cluster.api import Api, ClusterError, Object
from imagecache_operator.cluster.watching import WatchedMetadata, follow_new
from imagecache_operator.controller import events
from imagecache_operator.controller.reconciler import utc_now
from imagecache_operator.planning import usage
from imagecache_operator.planning.decision import Event

log = logging.getLogger(__name__)

# After a mistake of ours, which the next Pod need not lead to.
PAUSE = 60.0


class PodApi(Api, WatchedMetadata, Protocol):
    """What it needs of an API server; `cluster.client.Client` has it."""


class NotInjected:
    """Posts the events. Called from one thread."""

    def __init__(self, api: Api, clock: Callable[[], datetime] = utc_now) -> None:
        self._api = api
        self._clock = clock
        self._allowance = usage.Allowance()
        self._silent = False

    def told(self, obj: Object) -> None:
        """There is such a Pod."""
        pod, now = reading.marked_pod(obj), self._clock()
        event = usage.not_injected(pod, now)
        if event is None:
            return
        allowance = self._allowance.spent(now)
        if allowance is None:
            if not self._silent:
                log.warning("too many Pods that were not injected: not all of them get an event")
            self._silent = True
            return
        self._allowance, self._silent = allowance, False
        try:
            self._api.create(_event_manifest(pod, event, now))
        except ClusterError as error:
            # A namespace that is going takes none. To try again would hold up the events of all others for one that
            # never comes; the Pod says the same itself.
            log.info("an event of Pod %s/%s could not be posted: %s", pod.namespace, pod.name, error)


class Uses:
    """When caches were last used. Told by one thread, asked by others, which see one whole state or the next."""

    def __init__(self) -> None:
        self._newest: dict[str, datetime] = {}

    def told(self, obj: Object, wake: Callable[[str], object]) -> None:
        """There is such a Pod. `wake` is called where a pass over its cache may have something to write."""
        pod = reading.marked_pod(obj)
        before = self._newest.get(pod.cache_uid)
        self._newest = usage.remembered(self._newest, pod)
        newest = self._newest.get(pod.cache_uid)
        if usage.last_used(before, newest) != before:
            wake(pod.cache_uid)

    def newest(self, cache_uid: str) -> datetime | None:
        """When the newest Pod was made that starts from that cache; None where none is known."""
        return self._newest.get(cache_uid)


class PodWatch:
    """Both watches, from `start` to `stop`."""

    def __init__(self, api: PodApi, uses: Uses) -> None:
        self._api = api
        self._uses = uses
        self._stop = threading.Event()

    def start(self, wake: Callable[[str], object]) -> None:
        """`wake` is called, from a thread, with the UID of a cache that a pass should look at."""
        listeners: dict[str, Callable[[Object], None]] = {
            names.LABEL_NOT_INJECTED: NotInjected(self._api).told,
            names.LABEL_INJECTED_FROM: partial(self._uses.told, wake=wake),
        }
        for label, listener in listeners.items():
            # Daemons: at the end, a watch that waits for its next event is not waited for.
            threading.Thread(target=self._run, args=(label, listener), name=f"watch {label}", daemon=True).start()

    def stop(self) -> None:
        """Nobody is told anything any more."""
        self._stop.set()

    def _run(self, label: str, listener: Callable[[Object], None]) -> None:
        while not self._stop.is_set():
            try:
                follow_new(self._api, "Pod", label, listener, self._stop)
            except Exception:
                if self._stop.is_set():
                    return
                # A bug of ours: neither the caches nor the other watch may suffer for it.
                log.exception("the watch of Pods with the label %s has ended; again in %.0f s", label, PAUSE)
                self._stop.wait(PAUSE)


def _event_manifest(pod: usage.MarkedPod, event: Event, now: datetime) -> Object:
    about = {"apiVersion": "v1", "kind": "Pod", "namespace": pod.namespace, "name": pod.name, "uid": pod.uid}
    return events.manifest(event, event.key, pod.namespace, about, now)
