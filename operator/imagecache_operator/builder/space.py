# SPDX-License-Identifier: Apache-2.0
"""How much may still be written: the size that was asked for and the file system's free space, whichever is less.

`fetch.py` asks before each piece it writes, because a layer says its decompressed size nowhere. Volumes of simple
classes are folders on a node's disk: without the bound a layer that inflates for ever would fill the node.
"""

from __future__ import annotations

import threading

from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.errors import ImageError


class Space:
    """Bytes that are left; shared by all threads."""

    def __init__(self, capacity: int, used: int, free: int) -> None:
        self._left = max(0, min(capacity - used, free))
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """Bytes that may still be written."""
        return self._left

    def take(self, count: int) -> None:
        """Reserves bytes before they are written. Raises ImageError (DoesNotFit), taking nothing."""
        with self._lock:
            if count > self._left:
                raise ImageError(
                    Reason.DOES_NOT_FIT,
                    "The image's decompressed layers do not fit on the volume: raise imageCacheSize "
                    "or list fewer images.",
                )
            self._left -= count

    def give_back(self, count: int) -> None:
        """Bytes of a file that was removed again."""
        with self._lock:
            self._left += count


def in_words(count: int) -> str:
    """A number of bytes for a person: `1.9 GiB`."""
    value, unit = float(count), "bytes"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
