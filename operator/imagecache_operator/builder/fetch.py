# SPDX-License-Identifier: Apache-2.0
"""Brings one layer from its registry to the volume, in one pass: bytes → digest → the form's packing → digest → file.

`build.py` runs it in several threads. Both digests are kept, so that an error can say who lies: the registry about
the bytes, or the image about what is in them.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import dataclass
from functools import partial

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import Reference
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.forms import Form
from imagecache_operator.builder.inflate import Damaged
from imagecache_operator.builder.layout import Layout, NewBlob
from imagecache_operator.builder.manifest import Descriptor
from imagecache_operator.builder.patience import Patience, Trouble
from imagecache_operator.builder.progress import Board
from imagecache_operator.builder.registry import BlobStream, Registries
from imagecache_operator.builder.space import Space

# What no other registry can help with.
_SPOILS_WHAT_IS_THERE = frozenset({Reason.DIGEST_MISMATCH, Reason.DOES_NOT_FIT, Reason.NO_SPACE_LEFT})
_ABOUT_THE_VOLUME = frozenset({Reason.DOES_NOT_FIT, Reason.NO_SPACE_LEFT, Reason.CANCELLED})


@dataclass(frozen=True)
class Source:
    """One place to get a layer from. `image` is the place in the job of the image that names it."""

    image: int
    reference: Reference
    layer: Descriptor


@dataclass(frozen=True)
class Layer:
    """A layer that the volume needs, and everybody who can deliver it; the form's `key` makes it one."""

    key: str
    diff_id: str
    sources: tuple[Source, ...]

    @property
    def size(self) -> int:
        """Compressed bytes."""
        return self.sources[0].layer.size

    @property
    def images(self) -> frozenset[int]:
        return frozenset(source.image for source in self.sources)

    def without(self, images: Collection[int]) -> Layer | None:
        """The layer as the other images need it; None if none of them does."""
        sources = tuple(source for source in self.sources if source.image not in images)
        return Layer(self.key, self.diff_id, sources) if sources else None


class WrongBytes(ImageError):
    """The registry sent other bytes than the digest asks for. Proxies do that for a moment: one more try."""


class Fetcher:
    """Fetches layers, in any thread."""

    def __init__(self, registries: Registries, layout: Layout, form: Form, space: Space, board: Board) -> None:
        self._registries = registries
        self._layout = layout
        self._form = form
        self._space = space
        self._board = board

    def fetch(self, layer: Layer) -> dict[int, ImageError]:
        """Afterwards the layer is on the volume, or the error of each of its images is returned."""
        errors: dict[tuple[str, str, int], ImageError] = {}
        for source in layer.sources:
            key = _key(source)
            if key in errors:
                continue
            try:
                self._fetch_from(source, layer)
            except ImageError as error:
                if error.reason in _ABOUT_THE_VOLUME:
                    return dict.fromkeys(layer.images, error)
                errors[key] = error.detached()
            else:
                return {}
        return {source.image: errors[_key(source)] for source in layer.sources}

    def _fetch_from(self, source: Source, layer: Layer) -> None:
        try:
            self._try(source, layer)
        except WrongBytes:
            self._try(source, layer)

    def _try(self, source: Source, layer: Layer) -> None:
        form = self._form
        with self._layout.new_blob(source.layer.digest if form.resumable else None) as blob:
            count = partial(self._board.add, layer.images)
            # What is written as it comes is hashed as it is written, together with what an earlier try has left.
            wire = Wire(self._registries, source, count, start=blob.size, hashes=not form.resumable)
            self._space.take(blob.size)
            try:
                tar = hashlib.sha256()
                self._stream(wire, source, blob, tar.update)
                wire.verify(blob.digest if form.resumable else None)
                if not form.publish(self._layout, blob, source.layer, layer.diff_id, f"sha256:{tar.hexdigest()}"):
                    raise _damaged(source, "holds something else than the image's config promises")
            except BaseException as error:
                if not isinstance(error, ImageError) or error.reason in _SPOILS_WHAT_IS_THERE:
                    blob.forget()
                self._space.give_back(blob.size)
                self._board.add(layer.images, -wire.counted)
                raise

    def _stream(self, wire: Wire, source: Source, blob: NewBlob, tar: Callable[[bytes], object]) -> None:
        with contextlib.closing(wire.pieces()) as pieces:
            damage = ""
            try:
                for piece in self._form.packed(pieces, tar):
                    self._space.take(len(piece))
                    blob.write(piece)
            except Damaged as error:
                damage = str(error)  # not the error, which would keep this frame, and the decompressor, in a circle
            for _ in pieces:  # to the end, so that the digest can tell whose fault the damage is
                pass
        if damage:
            wire.verify()
            raise _damaged(source, f"cannot be decompressed ({damage})")


def _key(source: Source) -> tuple[str, str, int]:
    """What another try would fail of too. One of two manifests may be wrong about the layer's size."""
    return source.reference.name, source.layer.digest, source.layer.size


class Wire:
    """A layer's bytes as they come from the registry from byte `start` on, over as many connections as it takes."""

    def __init__(
        self, registries: Registries, source: Source, count: Callable[[int], None], *, start: int, hashes: bool,
    ) -> None:
        self.received = start
        self.counted = min(start, source.layer.size)  # what `count` was told
        count(self.counted)
        self._registries = registries
        self._source = source
        self._count = count
        self._digest = hashlib.sha256()
        self._hashes = hashes

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

    def verify(self, digest: str | None = None) -> None:
        """After the last piece; `digest` is that of all bytes if somebody else has hashed them. Raises WrongBytes."""
        if (digest or f"sha256:{self._digest.hexdigest()}") != self._source.layer.digest:
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
            self.counted += len(new)
            self._count(len(new))
            if self.received > size:
                raise self._wrong(f"more than {size} bytes")
            if self._hashes:
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
