# SPDX-License-Identifier: Apache-2.0
"""Says what is going on, and for how long: used by every step of `up` and `down`.

A cold `up` compiles for a quarter of an hour, and who sees nothing for a minute assumes that it hangs.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

Say = Callable[[str], None]

HEARTBEAT = 10.0  # seconds between two signs of life of a long command


class ClusterError(Exception):
    """Something a person should read as it is: the CLI prints it without a traceback."""


class Progress:
    """Prefixes every line with the seconds since the start of `up` or `down`."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._start = time.monotonic()

    def note(self, text: str) -> None:
        self._say(f"[{time.monotonic() - self._start:6.1f} s] {text}")

    def run(
        self,
        text: str,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """Runs a command that may take long. Its output goes to `log`; the end of it is shown when it fails."""
        self.note(text)
        begin = time.monotonic()
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*_end_with_us(), *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=env, cwd=cwd
            )
            try:
                while True:
                    try:
                        status = process.wait(timeout=HEARTBEAT)
                        break
                    except subprocess.TimeoutExpired:
                        self.note(f"{text} … {time.monotonic() - begin:.0f} s so far")
            except BaseException:
                process.kill()  # Ctrl-C: do not leave a compiler behind that nobody waits for
                process.wait()
                raise
        if status != 0:
            raise ClusterError(f"{text}: failed with status {status}\n{tail(log)}\n(all of it: {log})")

    def wait_until(self, text: str, ready: Callable[[], bool], timeout: float, pause: float = 0.5) -> None:
        """Polls until `ready`; for things that other processes finish in their own time."""
        begin = last = time.monotonic()
        while not ready():
            now = time.monotonic()
            if now - begin > timeout:
                raise ClusterError(f"{text}: not so after {timeout:.0f} s")
            if now - last > HEARTBEAT:
                last = now
                self.note(f"waiting until {text} … {now - begin:.0f} s so far")
            time.sleep(pause)


def _end_with_us() -> list[str]:
    """A prefix for commands: even when this process is killed outright, they end too.

    An orphaned `kind create cluster` that fails later would clean up by name, and delete its successor's nodes.
    """
    return ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []


def tail(log: Path, lines: int = 40) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
