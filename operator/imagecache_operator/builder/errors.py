# SPDX-License-Identifier: Apache-2.0
"""The one error of the builder, and how text from outside is made fit for a log line.

Every module of the builder raises `ImageError`; `build.py` turns it into the image's outcome.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from imagecache_operator.api.reasons import Reason

_LONGEST_TEXT = 120
_LONGEST_MESSAGE = 400


class ImageError(Exception):
    """One image cannot be cached: a reason for machines, and a sentence for a person that says what to do."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = _without_its_middle(message)

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


def _without_its_middle(message: str) -> str:
    """Where a message is too long a name makes it so: it begins with whose fault it is and ends with what to do."""
    if len(message) > _LONGEST_MESSAGE:
        half = _LONGEST_MESSAGE // 2
        message = f"{message[:half]}…{message[1 - half:]}"
    return printable(message, _LONGEST_MESSAGE)


def printable(text: object, longest: int = _LONGEST_TEXT) -> str:
    """`text` on one line without control characters, shortened: safe to show wherever it came from."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text)[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"
