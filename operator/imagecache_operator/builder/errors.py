# SPDX-License-Identifier: Apache-2.0
"""The one error of the builder, and how text from outside is made fit for a log line.

Every module of the builder raises `ImageError`; `build.py` turns it into the image's outcome.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.text import printable, without_its_middle

_LONGEST_MESSAGE = 400


class ImageError(Exception):
    """One image cannot be cached: a reason for machines, and a sentence for a person that says what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        # Where a message is too long, a name makes it so.
        self.message = printable(without_its_middle(message, _LONGEST_MESSAGE), _LONGEST_MESSAGE)

    def detached(self) -> Self:
        """Itself, for whoever keeps it: without the frames that it came through, and what is behind it. They hold
        whole documents, pieces of layers, windows of decompressors."""
        self.__context__ = None
        return self.with_traceback(None)


def cancelled() -> ImageError:
    """The error of whatever was under way when the builder was told to stop."""
    return ImageError(Reason.CANCELLED, "The builder was told to stop before this image was complete.")


def of_the_volume(error: OSError, root: Path) -> ImageError:
    """What the file system of the volume at `root` refuses, and where on it: what is in the way must be found."""
    place = os.path.relpath(error.filename2 or error.filename or root, root)
    where = "" if place == "." or place.startswith("..") else f" at {place}"
    return ImageError(Reason.INTERNAL, f"The volume cannot be used: {os.strerror(error.errno or 0)}{where}.")
