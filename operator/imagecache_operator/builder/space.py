# SPDX-License-Identifier: Apache-2.0
"""How much may still be written: the size that was asked for and the file system's free space, whichever is less.

`fetch.py` asks before each piece it writes, because a layer says its decompressed size nowhere. Volumes of simple
classes are folders on a node's disk: without the bound a layer that inflates for ever would fill the node. Which of
the two is at its end decides the reason, because a larger size is no help where the disk itself has no more.
"""

from __future__ import annotations

import threading

from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.errors import ImageError


class Space:
    """Bytes that are left; shared by all threads."""

    def __init__(self, capacity: int, used: int, free: int) -> None:
        self._allowed = max(0, capacity - used)
        self._free = free
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """Bytes that may still be written."""
        return min(self._allowed, self._free)

    def check(self, needed: int) -> None:
        """Raises ImageError (DoesNotFit or NoSpaceLeft) when `needed` bytes, which all images take at least, are too
        many."""
        if needed > self._allowed:
            raise ImageError(
                Reason.DOES_NOT_FIT,
                f"The images need more than {in_words(needed)}, and {in_words(self._allowed)} of imageCacheSize are "
                "left: raise imageCacheSize or list fewer images.",
            )
        if needed > self._free:
            raise ImageError(
                Reason.NO_SPACE_LEFT,
                f"The images need more than {in_words(needed)}, and the volume's file system has only "
                f"{in_words(self._free)} left: make room on its disk, raise imageCacheSize or list fewer images.",
            )

    def take(self, count: int) -> None:
        """Reserves bytes before they are written. Raises ImageError (DoesNotFit or NoSpaceLeft), taking nothing."""
        with self._lock:
            if count > self._allowed:
                raise ImageError(
                    Reason.DOES_NOT_FIT,
                    "The image's layers do not fit on the volume: raise imageCacheSize or list fewer images.",
                )
            if count > self._free:
                raise ImageError(
                    Reason.NO_SPACE_LEFT,
                    "The volume's file system has less room than imageCacheSize allows, and the image's layers do not "
                    "fit: make room on its disk, raise imageCacheSize or list fewer images.",
                )
            self._allowed -= count
            self._free -= count

    def give_back(self, count: int) -> None:
        """Bytes of a file that was removed again."""
        with self._lock:
            self._allowed += count
            self._free += count


def in_words(count: int) -> str:
    """A number of bytes for a person: `1.9 GiB`."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
