# SPDX-License-Identifier: Apache-2.0
"""Something happens in the middle of a layer. Called by tests of what becomes of a volume under a builder's hands.

The registry is the one who knows where the middle is: it sends a part, waits until the builder has written it, lets
the thing happen, and sends the rest. So no test depends on time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from imagecache_operator.builder.layout import OWN_FOLDER

from .faulty import Handler

PATIENCE = 30.0  # seconds until a test gives up


class Interruption:
    """A fault of `FaultyRegistry`: `act` after `cut` bytes of a layer, as soon as `written` bytes are on the volume."""

    def __init__(self, volume: Path, act: Callable[[], object], cut: int = 600_000, written: int = 200_000) -> None:
        self.happened = False
        self._volume = volume
        self._act = act
        self._cut = cut
        self._written = written

    def __call__(self, handler: Handler, data: bytes) -> None:
        handler.answer(200, data, cut=self._cut)
        handler.wfile.flush()
        until(lambda: half_written(self._volume) >= self._written)
        self._act()
        self.happened = True
        handler.wfile.write(data[self._cut:])


def half_written(volume: Path) -> int:
    """Bytes of the largest file that has no name yet."""
    return max((file.stat().st_size for file in (volume / OWN_FOLDER / "tmp").iterdir()), default=0)


def until(holds: Callable[[], bool]) -> None:
    """Returns when it holds. Raises AssertionError when it does not, in a time that is more than enough."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
