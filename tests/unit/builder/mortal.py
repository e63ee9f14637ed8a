# SPDX-License-Identifier: Apache-2.0
"""Runs the builder in a process of its own that meets a signal at a chosen moment. Called by the tests of what a
killed, a stopped and a halted builder leave on the volume.

A moment is a touch of the volume: a file opened, a folder made, a name moved or removed, a piece written, a file or
folder brought to the disk. Choosing by time instead would, on a fast or slow machine, hit the builder's start or its
end only. Just before a touch the process sends itself the signal, and leaves the touch's letter in a trace: its
length is how far the builder came, its last letter what it was about to do.

As a program: `mortal.py TRACE SIGNAL FIRST LAST --output VOLUME …`, with a signal before each touch from FIRST to LAST.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imagecache_operator import names
from imagecache_operator.api.job import BuildJob
from imagecache_operator.api.report import Outcome

from tests.support.tls import Authority

ROOT = Path(__file__).resolve().parents[3]
WRITE, SYNC, RENAME = "w", "s", "r"
_TOUCHES = {"open": "o", "os.mkdir": "m", "os.rename": RENAME, "os.remove": "x"}

GRACE = 30.0  # seconds until a test gives up; as many as a Pod has to end


@dataclass(frozen=True)
class Attempt:
    """A builder that runs, or has ended."""

    process: subprocess.Popen[bytes]
    trace: Path
    message: Path

    @property
    def touches(self) -> str:
        return self.trace.read_text() if self.trace.exists() else ""

    @property
    def outcome(self) -> Outcome:
        return Outcome.from_termination_message(self.message.read_text())

    def ended(self) -> int:
        """The exit status, or minus the signal that ended it. Raises TimeoutExpired when it does not end."""
        return self.process.wait(GRACE)

    def halted(self) -> bool:
        """True as soon as it stands still at a chosen moment, False when it has ended instead."""
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            return True
        self.process.returncode = os.waitstatus_to_exitcode(status)
        return False

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class Mortal:
    """One job on one volume, for as many attempts as it takes. `folder` is for traces and termination messages;
    `options` are the builder's, `wrapped` is a command that runs a command."""

    job: BuildJob
    volume: Path
    authority: Authority
    folder: Path
    options: Sequence[str] = ()
    wrapped: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, number: int = 0, moment: int = 0) -> Attempt:
        """An attempt that gets the signal before that touch (0: never), from its start to its end."""
        with self.started(number, moment, moment) as attempt:
            attempt.ended()
            return attempt

    @contextlib.contextmanager
    def started(self, number: int = 0, first: int = 0, last: int = 0) -> Iterator[Attempt]:
        """An attempt that gets the signal before each touch from `first` to `last`. Not alive after the block."""
        own = Path(tempfile.mkdtemp(dir=self.folder))
        trace, message = own / "trace", own / "message"
        command = [
            *self.wrapped, sys.executable, "-m", "tests.unit.builder.mortal", str(trace), str(number), str(first),
            str(last), "--output", str(self.volume), "--termination-log", str(message), *self.options,
        ]
        environment = {
            "PATH": os.environ["PATH"], "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}",
            names.ENV_CA_FILE: str(self.authority.ca_file), names.ENV_JOB: json.dumps(self.job.to_json_dict()),
            **self.environment,
        }
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
        try:
            yield Attempt(process, trace, message)
        finally:
            process.kill()
            process.wait()


def main() -> None:
    """The program: the builder with the rest of the command line."""
    from imagecache_operator.builder.command import builder

    trace = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    number, first, last = (int(argument) for argument in sys.argv[2:5])
    del sys.argv[1:5]
    volume = sys.argv[sys.argv.index("--output") + 1]
    write, lock = os.write, threading.Lock()
    count = 0

    def touched(letter: str) -> None:
        nonlocal count
        with lock:
            count += 1
            write(trace, letter.encode())
            if not first <= count <= last:
                return
            if number == signal.SIGTERM:
                os.kill(os.getpid(), number)  # as kubelet does: the kernel gives it to the main thread
            else:
                signal.raise_signal(number)  # this thread does not get one step further

    def heard(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _TOUCHES and str(arguments[0]).startswith(volume):
            touched(_TOUCHES[event])

    def counted(call: Callable[..., Any], letter: str) -> Callable[..., Any]:
        def real(*arguments: Any) -> Any:
            touched(letter)
            return call(*arguments)

        return real

    sys.addaudithook(heard)
    # No audit event tells of these two; the builder uses them for its files only.
    os.write, os.fsync = counted(os.write, WRITE), counted(os.fsync, SYNC)
    builder()


if __name__ == "__main__":
    main()
