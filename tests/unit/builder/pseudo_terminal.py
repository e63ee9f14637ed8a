# SPDX-License-Identifier: Apache-2.0
"""A terminal of a chosen size, and what a person sees in it. For tests of what programs show to people.

The terminal is the kernel's, so programs find it with all its properties; only the screen is drawn here, from the few
control sequences that a display of lines needs. Any other one fails the test.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

SECONDS = 60.0
_TOKEN = re.compile(r"\x1b\[([?0-9;]*)([a-zA-Z])|(\r)|(\n)|([^\x1b\r\n])")


class PseudoTerminal:
    """A context manager: at its end the program, if it still runs, is killed."""

    def __init__(self, columns: int, rows: int = 24) -> None:
        self.columns = columns
        self.output = ""
        self._bytes = b""
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PseudoTerminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
        else:
            os.close(self._theirs)
        os.close(self._ours)

    def run(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        """Starts the program in this terminal."""
        end = self._theirs
        environment = {"TERM": "xterm-256color", **env}
        self._process = subprocess.Popen(command, env=environment, stdin=end, stdout=end, stderr=end)
        os.close(end)

    def interrupt(self) -> None:
        """As Ctrl-C does."""
        assert self._process
        self._process.send_signal(signal.SIGINT)

    def read_until(self, words: str) -> None:
        """Returns when the words have come."""
        end = time.monotonic() + SECONDS
        while words not in self.output:
            assert self._read(end), f"the terminal ended without {words!r}: {self.output!r}"

    def finish(self) -> int:
        """Reads all that comes; the program's exit status."""
        end = time.monotonic() + SECONDS
        while self._read(end):
            pass
        return self._process.wait(SECONDS) if self._process else 0

    @property
    def screen(self) -> list[str]:
        """The lines as they stand in the end, with those that have scrolled away."""
        lines, x, y = [""], 0, 0
        for parameters, letter, back, line_feed, character in _TOKEN.findall(self.output):
            if character:
                if x == self.columns:
                    x, y = 0, y + 1
                    lines += [""] * (y + 1 - len(lines))
                lines[y] = lines[y][:x].ljust(x) + character + lines[y][x + 1:]
                x += 1
            elif back:
                x = 0
            elif line_feed:
                y += 1
                lines += [""] * (y + 1 - len(lines))
            elif letter == "A":
                y -= int(parameters or 1)
                assert y >= 0, "above the first line"
            elif letter == "K":
                assert parameters == "2"
                lines[y] = ""
            else:
                assert letter == "m" or (letter in "hl" and parameters == "?25"), f"unknown: {parameters}{letter}"
        shown = [line.rstrip() for line in lines]
        while shown and not shown[-1]:
            shown.pop()
        return shown

    @property
    def colours(self) -> set[str]:
        """The parameters of sequences that set a colour."""
        found = re.findall(r"\x1b\[([0-9;]*)m", self.output)
        return {p for p in found if re.search(r"(^|;)(3[0-8]|4[0-8]|9[0-7]|10[0-7])(;|$)", p)}

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"nothing more came in time: {self.output!r}"
        try:
            piece = os.read(self._ours, 65536)
        except OSError:  # the last one closed the other side
            return False
        self._bytes += piece
        self.output = self._bytes.decode(errors="replace")
        return bool(piece)
