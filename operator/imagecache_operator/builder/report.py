# SPDX-License-Identifier: Apache-2.0
"""What the builder says while it runs and when it ends: JSON lines on stdout, and the termination message.

The operator reads the last line of the type `progress` through the API server, people read the lines of the type
`log`; the outcome goes into the file that the kubelet takes the termination message from. For a person at a terminal
`terminal.py` says the same in another way.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
import time
import traceback
from pathlib import Path
from typing import Protocol, TextIO

from imagecache_operator.api.report import Outcome, Progress
from imagecache_operator.api.text import printable
from imagecache_operator.builder.progress import Board, Rate

_SECONDS_BETWEEN = 1.0
_LONGEST_LOG = 1000


class Reporter(Protocol):
    """Where reports go, from any thread. A reader that went away must not end the build: neither method raises."""

    def log(self, level: str, message: str) -> None:
        """One sentence for a person."""

    def progress(self, progress: Progress) -> None:
        """How far everything is by now."""


class Lines:
    """Reports as JSON, an object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def log(self, level: str, message: str) -> None:
        self.write(json.dumps({"type": "log", "level": level, "message": message}))

    def progress(self, progress: Progress) -> None:
        self.write(progress.model_dump_json(by_alias=True, exclude_none=True))

    def write(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()


class LogLines(logging.Handler):
    """Log records as reports. Of an exception only its type and place are told: its text may hold a URL."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        message = printable(record.getMessage(), _LONGEST_LOG)
        if record.exc_info and record.exc_info[0]:
            frames = traceback.extract_tb(record.exc_info[2])
            places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
            message = f"{message}: {record.exc_info[0].__name__} at {printable(places, _LONGEST_LOG)}"
        self._reporter.log(record.levelname.lower(), message)


class ProgressLines:
    """Says how far everything is, at most once a second, and only when something changed."""

    def __init__(self, reporter: Reporter, board: Board) -> None:
        self._reporter = reporter
        self._board = board
        self._rate = Rate()
        self._said: Progress | None = None
        self._next = 0.0

    def tick(self) -> None:
        if time.monotonic() >= self._next:
            self.say()

    def say(self) -> None:
        """Now, however long ago the last line was."""
        now = self._board.snapshot()
        moment = time.monotonic()
        self._next = moment + _SECONDS_BETWEEN
        rate = self._rate.measure(now.bytes_done, moment)
        left = math.ceil((now.bytes_total - now.bytes_done) / rate) if rate else None
        now = now.model_copy(update={"rate": rate, "seconds_left": left})
        if now != self._said:
            self._said = now
            self._reporter.progress(now)


def write_termination_message(path: Path, outcome: Outcome) -> None:
    """Overwrites in place: in a Pod the file is a mount and cannot be replaced. Raises OSError."""
    path.write_text(outcome.to_termination_message(), encoding="utf-8")
