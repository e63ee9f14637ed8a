# SPDX-License-Identifier: Apache-2.0
"""How fast one thread does each step of the builder's work, on the benchmark's own layers. Called by `builder`.

What the steps take together is what no arrangement of them can go below; the rest of a run is the builder's own doing.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from imagecache_operator.api import reference
from imagecache_operator.builder.inflate import GZIP_LIBRARY, inflated
from imagecache_operator.builder.registry import PIECE, Registries

from tests.support.registry_process import RegistryProcess

from .dataset import MB, Dataset

T = TypeVar("T")

RECEIVE, HASH, INFLATE, HASH_TAR, WRITE = (
    "receive over TLS", "sha256 of what comes", f"inflate ({GZIP_LIBRARY}, zstandard)", "sha256 of the tar",
    "write to tmpfs",
)


class Stopwatch:
    """Processor time of this thread, by step. A step inside another counts for itself alone."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._steps: list[str] = []
        self._since = 0.0

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._charge()
        self._steps.append(name)
        try:
            yield
        finally:
            self._charge()
            self._steps.pop()

    def each(self, name: str, source: Iterable[T]) -> Iterator[T]:
        """The items of a source whose making is that step."""
        items = iter(source)
        while True:
            with self.step(name):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def _charge(self) -> None:
        now = time.thread_time()
        if self._steps:
            self.spent[self._steps[-1]] = self.spent.get(self._steps[-1], 0) + now - self._since
        self._since = now


def steps(dataset: Dataset, registry: RegistryProcess, place: Path) -> dict[str, float]:
    """Seconds of processor time for all layers: the builder's steps for `Decompressed`, in one thread."""
    watch, of = Stopwatch(), {d: name for name, digests in dataset.images.items() for d in digests}
    registries = Registries(threading.Event(), ca_file=str(registry.authority.ca_file))
    for layer in dataset.layers:
        image = reference.parse(f"{registry.address}/{of[layer.digest]}")
        digest, tar = hashlib.sha256(), hashlib.sha256()
        with registries.open_blob(image, layer.digest) as blob, tempfile.TemporaryFile(dir=place, buffering=0) as file:
            received = _hashed(watch, HASH, digest, watch.each(RECEIVE, blob))
            for piece in _hashed(watch, HASH_TAR, tar, watch.each(INFLATE, inflated(received))):
                with watch.step(WRITE):
                    file.write(piece)
        if f"sha256:{tar.hexdigest()}" != layer.diff_id:
            raise AssertionError(f"{layer.digest} is not what it was made of")
    return watch.spent


def as_text(dataset: Dataset, spent: Mapping[str, float]) -> str:
    sizes = {RECEIVE: dataset.compressed, HASH: dataset.compressed}
    lines = [f"{'one thread, all layers':<32}  seconds    MB/s"]
    for step, seconds in spent.items():
        lines.append(f"{step:<32} {seconds:8.2f} {sizes.get(step, dataset.raw) / MB / seconds:7.0f}")
    total = sum(spent.values())
    return "\n".join([*lines, f"{'together':<32} {total:8.2f} {dataset.raw / MB / total:7.0f}"])


def unpacking(files: Iterable[Path]) -> float:
    """Seconds of processor time in which one thread unpacks these layers, to nowhere."""
    return _seconds(inflated(_pieces(file)) for file in files)


def unpacking_with_zlib(files: Iterable[Path]) -> float:
    """The same of gzip layers, with the library that most programs have."""
    return _seconds(map(zlib.decompressobj(31).decompress, _pieces(file)) for file in files)


def _seconds(layers: Iterable[Iterable[bytes]]) -> float:
    began = time.thread_time()
    for layer in layers:
        for _ in layer:
            pass
    return time.thread_time() - began


def _hashed(watch: Stopwatch, step: str, digest: hashlib._Hash, pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        with watch.step(step):
            digest.update(piece)
        yield piece


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece
