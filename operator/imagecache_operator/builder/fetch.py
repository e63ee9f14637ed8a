# SPDX-License-Identifier: Apache-2.0
"""Brings one layer from its registry to the volume: bytes → digest → inflate → digest → file, in one pass.

`build.py` runs it in several threads. Both digests are kept, so that an error can say who lies: the registry about
the bytes, or the image about what is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import Reference
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.inflate import Damaged, inflated
from imagecache_operator.builder.layout import Layout, NewBlob
from imagecache_operator.builder.manifest import Descriptor
from imagecache_operator.builder.patience import Patience, Trouble
from imagecache_operator.builder.progress import Board
from imagecache_operator.builder.registry import BlobStream, Registries
from imagecache_operator.builder.space import Space

# What no other registry can help with.
_ABOUT_THE_VOLUME = frozenset({Reason.DOES_NOT_FIT, Reason.NO_SPACE_LEFT, Reason.CANCELLED})


@dataclass(frozen=True)
class Source:
    """One place to get a layer from. `image` is the place in the job of the image that names it."""

    image: int
    reference: Reference
    layer: Descriptor


@dataclass(frozen=True)
class Layer:
    """A tar that the volume needs, by its digest, and everybody who can deliver it, in any compression."""

    diff_id: str
    sources: tuple[Source, ...]

    @property
    def size(self) -> int:
        """Compressed bytes."""
        return self.sources[0].layer.size

    @property
    def images(self) -> frozenset[int]:
        return frozenset(source.image for source in self.sources)


class WrongBytes(ImageError):
    """The registry sent other bytes than the digest asks for. Proxies do that for a moment: one more try."""


class Fetcher:
    """Fetches layers, in any thread."""

    def __init__(self, registries: Registries, layout: Layout, space: Space, board: Board) -> None:
        self._registries = registries
        self._layout = layout
        self._space = space
        self._board = board

    def fetch(self, layer: Layer) -> dict[int, ImageError]:
        """Afterwards the layer is on the volume, or the error of each of its images is returned."""
        errors: dict[tuple[str, str], ImageError] = {}
        for source in layer.sources:
            key = source.reference.name, source.layer.digest
            if key in errors:
                continue
            try:
                self._fetch_from(source, layer)
            except ImageError as error:
                if error.reason in _ABOUT_THE_VOLUME:
                    return dict.fromkeys(layer.images, error)
                errors[key] = error
            else:
                return {}
        return {s.image: errors[s.reference.name, s.layer.digest] for s in layer.sources}

    def _fetch_from(self, source: Source, layer: Layer) -> None:
        try:
            self._try(source, layer)
        except WrongBytes:
            self._try(source, layer)

    def _try(self, source: Source, layer: Layer) -> None:
        wire = Wire(self._registries, source, lambda count: self._board.add(layer.images, count))
        with self._layout.new_blob() as blob:
            try:
                self._stream(wire, source, blob)
                if blob.digest != layer.diff_id:
                    raise _damaged(source, "holds something else than the image's config promises")
                blob.publish(layer.diff_id)
            except BaseException:
                self._space.give_back(blob.size)
                self._board.add(layer.images, -wire.received)
                raise

    def _stream(self, wire: Wire, source: Source, blob: NewBlob) -> None:
        with contextlib.closing(wire.pieces()) as pieces:
            damage = None
            try:
                for piece in inflated(pieces):
                    self._space.take(len(piece))
                    blob.write(piece)
            except Damaged as error:
                damage = error
            for _ in pieces:  # to the end, so that the digest can tell whose fault the damage is
                pass
        wire.verify()
        if damage:
            raise _damaged(source, f"cannot be decompressed ({damage})")


class Wire:
    """A layer's bytes as they come from the registry, over as many connections as it takes."""

    def __init__(self, registries: Registries, source: Source, count: Callable[[int], None]) -> None:
        self.received = 0
        self._registries = registries
        self._source = source
        self._count = count
        self._digest = hashlib.sha256()

    def pieces(self) -> Generator[bytes, None, None]:
        """All bytes in order, none twice: after a break it goes on where it broke. Raises ImageError."""
        patience = Patience(self._registries.limits, self._registries.stop)
        while self.received < self._source.layer.size:
            try:
                with self._registries.open_blob(
                    self._source.reference, self._source.layer.digest, self.received,
                ) as stream:
                    for piece in self._new_bytes(stream):
                        patience.progressed()
                        yield piece
                if self.received < self._source.layer.size:
                    raise Trouble(
                        Reason.REGISTRY_UNAVAILABLE,
                        f"The registry {self._source.reference.host} ends a layer of "
                        f"{self._source.reference.path} too early.",
                    )
            except Trouble as trouble:
                patience.wait(trouble)

    def verify(self) -> None:
        """After the last piece. Raises WrongBytes."""
        if f"sha256:{self._digest.hexdigest()}" != self._source.layer.digest:
            raise self._wrong("other bytes")

    def _new_bytes(self, stream: BlobStream) -> Iterator[bytes]:
        size = self._source.layer.size
        if stream.length is not None and stream.start + stream.length != size:
            raise self._wrong(f"{stream.start + stream.length} bytes instead of {size}")
        known = self.received - stream.start  # not 0 when a registry without ranges starts again
        for piece in stream:
            if known >= len(piece):
                known -= len(piece)
                continue
            new, known = piece[known:], 0
            self.received += len(new)
            self._count(len(new))
            if self.received > size:
                raise self._wrong(f"more than {size} bytes")
            self._digest.update(new)
            yield new

    def _wrong(self, what: str) -> WrongBytes:
        reference, digest = self._source.reference, self._source.layer.digest
        return WrongBytes(
            Reason.DIGEST_MISMATCH,
            f"The registry {reference.host} sends {what} for the layer {digest[:19]}… of {reference.path}: "
            "what it holds is damaged, or something between changes it; push the image again.",
        )


def _damaged(source: Source, what: str) -> ImageError:
    return ImageError(
        Reason.DIGEST_MISMATCH,
        f"The image {source.reference.canonical} is damaged as published: its layer {source.layer.digest[:19]}… "
        f"{what}; build and push it again.",
    )
