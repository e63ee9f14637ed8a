# SPDX-License-Identifier: Apache-2.0
"""Keeps somebody told of all objects of a kind (`follow`, and `follow_metadata` where metadata is enough: a list, then
a watch, then again), or of those that are new (`follow_new`: nothing is listed, and nothing is kept).

For programs that answer at once and may not ask the API server for each answer: `admission/webhook.py` runs the first
two in threads. The operator itself has kopf for this, but for the Pods of other people: `controller/pods.py`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from imagecache_operator.cluster.api import ClusterError, Object, Objects, Rejected, Unavailable

log = logging.getLogger(__name__)

# A dead connection is noticed soon after this; asking anew from the same version costs one request.
WATCH_SECONDS = 60
PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds, after the first, the second, … failure in a row
_GONE = 410
# A watch from here begins with everything that there is, as if it were new.
_EVERYTHING = "0"


class Watched(Protocol):
    """What it needs of an API server; `client.Client` has it."""

    def list_versioned(self, kind: str) -> tuple[Objects, str]:
        """All objects, and the version from which to watch."""

    def watch(self, kind: str, version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """What happens after that version."""


class WatchedMetadata(Protocol):
    """What `follow_new` needs of an API server; `client.Client` has it."""

    def watch_metadata(self, kind: str, version: str, seconds: int, selector: str) -> Iterator[tuple[str, Object]]:
        """What happens after that version, with nothing but metadata; bookmarks too."""


class ListedMetadata(Protocol):
    """What `follow_metadata` needs of an API server; `client.Client` has it."""

    def list_metadata_versioned(self, kind: str) -> tuple[Objects, str]:
        """The metadata of all objects, and the version from which to watch."""

    def watch_metadata(self, kind: str, version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """What happens after that version, with nothing but metadata."""


class Listener(Protocol):
    """Who is told. It is called from the thread that `follow` runs in."""

    def replace(self, objects: Objects) -> None:
        """These are all objects there are."""

    def changed(self, obj: Object) -> None:
        """This one is new, or another than before."""

    def deleted(self, obj: Object) -> None:
        """This one is gone."""


def follow(api: Watched, kind: str, listener: Listener, stop: threading.Event) -> None:
    """Runs until `stop`. While the API server cannot be reached nobody is told anything: the last state holds."""
    _follow(kind, api.list_versioned, api.watch, listener, stop)


def follow_metadata(api: ListedMetadata, kind: str, listener: Listener, stop: threading.Event) -> None:
    """The same with nothing but each object's metadata."""
    _follow(kind, api.list_metadata_versioned, api.watch_metadata, listener, stop)


def _follow(
    kind: str, listed: Callable[[str], tuple[Objects, str]],
    watched: Callable[[str, str, int], Iterator[tuple[str, Object]]], listener: Listener, stop: threading.Event,
) -> None:
    failures = 0
    while not stop.is_set():
        try:
            objects, version = listed(kind)
            listener.replace(objects)
            while not stop.is_set():
                version = _to_its_end(watched(kind, version, WATCH_SECONDS), version, listener, stop)
                failures = 0
                # A server that ends each watch at once is not asked without a pause. What happens now is told later.
                stop.wait(PAUSES[0])
        except ClusterError as error:
            _pause(kind, error, failures, stop)
            failures += 1


def follow_new(
    api: WatchedMetadata, kind: str, selector: str, told: Callable[[Object], None], stop: threading.Event,
) -> None:
    """Runs until `stop`. `told` of every object (its metadata) that the label selector finds now or later; of some more
    than once, after trouble. It is called from the thread that this runs in.

    It needs no right but to watch, and no memory that grows with the number of objects.
    """
    version, failures = _EVERYTHING, 0
    while not stop.is_set():
        try:
            for event, obj in api.watch_metadata(kind, version, WATCH_SECONDS, selector):
                if stop.is_set():
                    return
                _raise_error(event, obj)
                if event == "ADDED":
                    told(obj)
                elif event == "BOOKMARK":
                    # Versions of objects do not come in order at the beginning; a bookmark says that all before it
                    # was told. One comes before the server ends a watch.
                    version = _version(obj, version)
            failures = 0
            stop.wait(PAUSES[0])
        except ClusterError as error:
            if isinstance(error, (Rejected, _TooOld)):
                version = _EVERYTHING
            _pause(kind, error, failures, stop)
            failures += 1


def _pause(kind: str, error: ClusterError, failures: int, stop: threading.Event) -> None:
    pause = PAUSES[min(failures, len(PAUSES) - 1)]
    level = logging.DEBUG if isinstance(error, _TooOld) else logging.WARNING
    log.log(level, "%s cannot be watched, trying again in %.0f s: %s", kind, pause, error)
    stop.wait(pause)


class _TooOld(Unavailable):
    """The server does not know the version any more: only a list helps."""


def _to_its_end(
    watch: Iterator[tuple[str, Object]], version: str, listener: Listener, stop: threading.Event,
) -> str:
    """One watch. The version it has come to."""
    for event, obj in watch:
        if stop.is_set():
            break
        _raise_error(event, obj)
        version = _version(obj, version)
        if event in ("ADDED", "MODIFIED"):
            listener.changed(obj)
        elif event == "DELETED":
            listener.deleted(obj)
    return version


def _raise_error(event: str, obj: Object) -> None:
    if event == "ERROR":
        words = str(obj.get("message") or "the watch failed")
        raise _TooOld(words) if obj.get("code") == _GONE else Rejected(words)


def _version(obj: Object, before: str) -> str:
    return str((obj.get("metadata") or {}).get("resourceVersion") or before)
