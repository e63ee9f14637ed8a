# SPDX-License-Identifier: Apache-2.0
"""Where things that took long to make are kept, so that a fresh clone makes nothing again.

Used by everything that builds (`binaries`, the images) and by `life` for the files of each cluster.
Three promises: a name carries a stamp of all its inputs, so stale things are never picked up; a result appears by
one rename, so a killed build never looks complete; one process at a time changes anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .progress import Progress

HERE = Path(__file__).resolve().parent


def home() -> Path:
    """The root of everything kept between runs. Read on each call: tests point XDG_CACHE_HOME elsewhere."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = Path(base) / "imagecache-operator"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def stamp(*inputs: str | bytes | Path) -> str:
    """A short hash of texts, files and folders: equal stamps mean the result may be used again."""
    digest = hashlib.sha256()
    for item in inputs:
        if isinstance(item, Path):
            for file in sorted(p for p in (item.rglob("*") if item.is_dir() else [item]) if p.is_file()):
                digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
        else:
            digest.update((item.encode() if isinstance(item, str) else item) + b"\0")
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill; it takes the name `target` only if the block ends well."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed: we hold the lock, so it is dead
    partial.mkdir(parents=True)
    try:
        yield partial
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def lock(progress: Progress) -> Iterator[None]:
    """One `up` or `down` at a time. The kernel drops the lock with the process, so it can't be left behind."""
    with (home() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.note("waiting for another `up` or `down` on this machine to finish")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
