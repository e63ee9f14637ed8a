# SPDX-License-Identifier: Apache-2.0
"""The builder with one thing altered that benchmarks need and nobody else may have. `trial` runs it as a program:

`python -m tests.bench.altered ALTERATION --image …`, the builder's own options after the alteration.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from types import SimpleNamespace

from imagecache_operator.api.job import StoredAs
from imagecache_operator.builder import fetch, forms, layout
from imagecache_operator.builder.command import builder
from imagecache_operator.builder.fetch import Wire
from imagecache_operator.builder.forms import FORMS, Decompressed
from imagecache_operator.builder.layout import Layout, NewBlob
from imagecache_operator.builder.manifest import Descriptor
from imagecache_operator.builder.progress import Board

# From Python 3.12 on a process has one profiler, which mixes up threads.
PROFILED_WORKERS = 4 if sys.version_info < (3, 12) else 1


def without_hashing(_: str) -> None:
    """The floor: the same bytes to the same places, but nothing of a layer is hashed or compared."""
    for module in (fetch, layout):
        _replace(module, hashlib=SimpleNamespace(sha256=_NoDigest))
    _replace(Wire, verify=lambda wire, digest=None: None)
    _replace(NewBlob, publish=lambda blob, digest: blob.move_to(blob._layout.blob_path(digest)))
    FORMS[StoredAs.DECOMPRESSED] = _Trusting()


class _NoDigest:
    def update(self, data: bytes) -> None:
        pass

    def hexdigest(self) -> str:
        return ""


class _Trusting(Decompressed):
    def publish(self, layout: Layout, blob: NewBlob, layer: Descriptor, diff_id: str, tar_digest: str) -> bool:
        blob.publish(diff_id)
        return True


def zstd_level(level: str) -> None:
    """Another level than the builder's."""
    forms.ZSTD_LEVEL = int(level)


def killed_at(count: str) -> None:
    """It dies by SIGKILL as soon as that many bytes of layers have come."""
    add = Board.add

    def counted(board: Board, images: Collection[int], more: int) -> None:
        add(board, images, more)
        if board.snapshot().bytes_done >= int(count):
            signal.raise_signal(signal.SIGKILL)

    _replace(Board, add=counted)


def profiled(file: str) -> None:
    """It writes where its threads have spent processor time."""
    profiles: list[cProfile.Profile] = []
    run, leave = threading.Thread.run, os._exit

    def watched(thread: threading.Thread) -> None:
        profile = cProfile.Profile(time.thread_time)
        profiles.append(profile)
        profile.runcall(run, thread)

    def told(status: int) -> None:
        with open(file, "w") as stream:
            pstats.Stats(*profiles, stream=stream).strip_dirs().sort_stats("tottime").print_stats(14)
        leave(status)

    _replace(threading.Thread, run=watched)
    _replace(os, _exit=told)  # the way in which the builder ends


def _replace(owner: object, **members: object) -> None:
    for name, member in members.items():
        setattr(owner, name, member)


ALTERATIONS: dict[str, Callable[[str], None]] = {
    "without-hashing": without_hashing, "zstd-level": zstd_level, "killed-at": killed_at, "profiled": profiled,
}

if __name__ == "__main__":
    name, _, value = sys.argv.pop(1).partition("=")
    ALTERATIONS[name](value)
    builder()
