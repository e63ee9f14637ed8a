# SPDX-License-Identifier: Apache-2.0
"""Which files of this machine the benchmarks' layers are made of, and how they are shared out. Called by `dataset`."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tests.support.layers import Files

Kind = Callable[[Path], bool]
PACKAGES = ("site-packages", "dist-packages")


def sources() -> list[Path]:
    """Folders of this machine with programs, libraries and sources, the likest to images first."""
    found = [Path("/usr/bin"), Path(sys.base_prefix), Path(sys.prefix), Path("/usr/lib")]
    if go := shutil.which("go"):
        done = subprocess.run([go, "env", "GOROOT", "GOMODCACHE"], capture_output=True, text=True, check=True)
        found += map(Path, done.stdout.splitlines())
    return [folder.resolve() for folder in found if folder.is_dir()]


def anything(_: Path) -> bool:
    return True


def runs(path: Path) -> bool:
    """A program or a shared library, or part of a Python package that has some: what most of an image's bytes are."""
    with path.open("rb") as file:
        if file.read(4) == b"\x7fELF":
            return True
    place = next((path.parts.index(name) for name in PACKAGES if name in path.parts), None)
    return place is not None and len(path.parts) > place + 2 and _has_libraries(Path(*path.parts[: place + 2]))


@functools.cache
def _has_libraries(package: Path) -> bool:
    return any(package.rglob("*.so"))


def portions(folders: Sequence[Path], sizes: Iterable[int], kinds: Sequence[Kind] = (anything,)) -> Iterator[Files]:
    """Files for one layer after another, each of about the next size; no file comes twice.

    Files of the first kind come first, those of all folders.
    """
    turns, taken = itertools.cycle(sizes), set[Path]()
    for kind, folder in itertools.product(kinds, folders):
        source = _files(folder, taken, kind)
        while portion := _portion(source, next(turns)):
            yield portion


def _files(folder: Path, taken: set[Path], kind: Kind) -> Iterator[tuple[Path, int]]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place, name)
            usable = not path.is_symlink() and path.is_file() and os.access(path, os.R_OK)
            if usable and path not in taken and kind(path):
                taken.add(path)
                yield path, path.stat().st_size


def _portion(source: Iterator[tuple[Path, int]], size: int) -> Files:
    """The next files that fit; none when there are not enough of them left to be worth a layer."""
    files: dict[str, Path] = {}
    room = size
    for path, length in source:
        if length <= room:
            files[str(path.relative_to("/"))] = path
            room -= length
        if room <= size // 20:
            break
    return files if room <= size // 2 else {}
