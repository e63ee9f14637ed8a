# SPDX-License-Identifier: Apache-2.0
"""How far every image is, and how fast. The threads of `fetch.py` count here, `report.py` says it once a second."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection

from imagecache_operator.api.report import ImageProgress, ImageState, Progress

_WINDOW = 10.0  # seconds: calm enough to read, short enough to notice within moments that nothing comes any more
_SHORTEST = 0.5  # what came in less time than that says nothing about a rate


class Board:
    """Compressed bytes of the layers that have to be fetched. A shared layer counts once for each image that has
    it, and once in the sums."""

    def __init__(self, images: int) -> None:
        self._lock = threading.Lock()
        self._states = [ImageState.WAITING] * images
        self._done = [0] * images
        self._total = [0] * images
        self._all_done = 0
        self._all_total = 0

    def expect(self, images: Collection[int], count: int) -> None:
        """A layer of `count` bytes, of these images, will be fetched."""
        with self._lock:
            self._all_total += count
            for image in images:
                self._total[image] += count

    def add(self, images: Collection[int], count: int) -> None:
        """`count` bytes of a layer came in; a negative number takes back those of a try that failed."""
        with self._lock:
            self._all_done += count
            for image in images:
                self._done[image] += count

    def set_state(self, image: int, state: ImageState) -> None:
        with self._lock:
            self._states[image] = state

    def snapshot(self) -> Progress:
        """What is now."""
        with self._lock:
            return Progress(
                images=tuple(
                    ImageProgress(state=state, bytes_done=done, bytes_total=total)
                    for state, done, total in zip(self._states, self._done, self._total, strict=True)
                ),
                bytes_done=self._all_done,
                bytes_total=self._all_total,
            )


class Rate:
    """Bytes a second over the last ten seconds. Not shared between threads."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def measure(self, done: int, now: float) -> int | None:
        """The rate after `done` bytes in all, `now` in seconds of any clock; None while it is too early to tell."""
        if not done:
            self._seen.clear()  # manifests are read first: the time before the first byte is not the layers' slowness
        self._seen.append((now, done))
        while now - self._seen[0][0] > _WINDOW:
            self._seen.popleft()
        since, before = self._seen[0]
        if now - since < _SHORTEST:
            return None
        return max(0, round((done - before) / (now - since)))  # bytes of a try that failed are taken back
