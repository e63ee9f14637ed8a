# SPDX-License-Identifier: Apache-2.0
"""A volume with a file system of its own, as small as a test wants it, that can run full, turn read-only or vanish.

Called by tests of the builder. It is a tmpfs in a user and a mount namespace, so it needs neither root nor a loop
device: `unshare --user --map-root-user --mount` makes both for a process that holds them and does nothing else, and
whoever runs the test sees the volume through that process's root, `/proc/PID/root/…`. With the process all of it ends,
also when the test is killed. A Linux that forbids such namespaces is told how to allow them; the end-to-end tests show
the same on ext4, in a Pod.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HINT = (
    "These tests mount small file systems of their own, for which this machine must allow user namespaces: a Linux "
    "with util-linux; on Ubuntu 'sysctl kernel.apparmor_restrict_unprivileged_userns=0'; in a container "
    "'--security-opt seccomp=unconfined'"
)


class NoSmallVolumeError(Exception):
    """The file system cannot be mounted; the message says why, and what to do."""


@dataclass(frozen=True)
class SmallVolume:
    """`path` is the volume as this process reaches it, `_place` the same in the namespace of its holder."""

    path: Path
    _place: Path
    _holder: int

    @property
    def free(self) -> int:
        """Bytes."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def fill(self, leave: int = 0) -> Path:
        """Takes the room, all but `leave` bytes, with a file of somebody else's. Remove it to make room again."""
        foreign = self.path / "somebody-elses"
        with foreign.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free - leave)
        return foreign

    def resize(self, **options: int) -> None:
        """Options of tmpfs: `size` in bytes, `nr_inodes` for the number of files and folders."""
        self._run("mount", "-t", "tmpfs", "-o", f"remount,{_listed(options)}", "volume", str(self._place))

    def turn_read_only(self) -> None:
        """Nothing can be opened for writing any more; what is open can still be written to."""
        self._run("mount", "--bind", "-o", "ro", str(self._place), str(self._place))

    def turn_writable(self) -> None:
        self._run("umount", str(self._place))

    def vanish(self) -> None:
        """Unmounted, whoever uses it: in its place there is an empty folder."""
        self._run("umount", "--lazy", str(self._place))

    def _run(self, *command: str) -> None:
        entered = ("nsenter", "--preserve-credentials", "--user", "--mount", f"--target={self._holder}")
        done = subprocess.run([*entered, *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise NoSmallVolumeError(f"{' '.join(command)}: {done.stderr.strip()}")


@contextlib.contextmanager
def small_volume(place: Path, **options: int) -> Iterator[SmallVolume]:
    """A volume for as long as the block lasts, mounted on a new folder `place`. `options` as for `resize`."""
    place.mkdir()
    script = 'mount -t tmpfs -o "$1" volume "$2" && echo mounted && exec cat'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh",
               f"mode=755,{_listed(options)}", str(place)]
    try:
        holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
    except FileNotFoundError:
        raise NoSmallVolumeError(f"{_HINT}.") from None
    with holder:  # its input is closed at the end, which ends it
        if not holder.stdout or not holder.stdout.readline():
            said = holder.communicate()[1].strip()
            raise NoSmallVolumeError(f"{_HINT}. Here: {said}")
        yield SmallVolume(Path(f"/proc/{holder.pid}/root") / place.relative_to("/"), place, holder.pid)


def _listed(options: dict[str, int]) -> str:
    return ",".join(f"{name}={value}" for name, value in options.items())
