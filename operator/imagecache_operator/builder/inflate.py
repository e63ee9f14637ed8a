# SPDX-License-Identifier: Apache-2.0
"""Turns a layer as the registry sends it (gzip, zstd or plain) into its tar, in pieces of bounded size.

`fetch.py` runs it between socket and file. The form is told by the first bytes, as in containerd: media types are
wrong often enough, and the tar's own digest decides in the end anyway. One piece of input may stand for gigabytes
(a bomb), so every step asks for a bounded piece of output.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, cast

import zstandard

from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.errors import ImageError

PIECE = 1024 * 1024  # bytes of output a step: large enough to leave the interpreter rarely, small beside a Pod's memory

# The decompressor keeps that much of a layer in memory, in each thread. zstd's strongest ordinary level needs 8 MiB;
# a frame may legally ask for gigabytes.
MAX_ZSTD_WINDOW = 64 * 1024 * 1024

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"  # after a first byte 0x50 to 0x5f


_END = b"the end " * 20  # long enough to look nothing like its own compressed form


class Damaged(Exception):
    """The compressed data cannot be read. Whose fault that is, only the digests can tell."""


def _fastest_gzip() -> tuple[str, Callable[[], Any], Any]:
    try:
        from isal import isal_zlib

        return "isal", lambda: isal_zlib.decompressobj(wbits=31), isal_zlib.IsalError
    except ImportError:
        pass
    try:
        from zlib_ng import zlib_ng

        return "zlib-ng", lambda: zlib_ng.decompressobj(wbits=31), zlib_ng.error
    except ImportError:
        return "zlib", lambda: zlib.decompressobj(wbits=31), zlib.error


GZIP_LIBRARY, _gzip_member, _GzipError = _fastest_gzip()


def inflated(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The tar in pieces of at most `PIECE` bytes, or as long as the input's own pieces where it is plain.

    Raises Damaged for data that cannot be read, ImageError (Unsupported) for a zstd window that is too large, and
    whatever `pieces` raises.
    """
    source = iter(pieces)
    head = b""
    for piece in source:
        head += piece
        if len(head) >= 4:
            break
    whole = itertools.chain([head], source)
    if head.startswith(_GZIP):
        return _gunzipped(whole)
    if is_zstd(head):
        return _unzstd(whole)
    return (piece for piece in whole if piece)


def is_zstd(head: bytes) -> bool:
    """Whether data that begins so is zstd; `head` is its first four bytes or more."""
    return head.startswith(_ZSTD) or (head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5)


def _gunzipped(source: Iterator[bytes]) -> Iterator[bytes]:
    """All members, one after another: some tools (estargz, pigz in blocks) write thousands of them."""
    member = _gzip_member()
    started = False  # whether the current member has seen input
    after = b""  # what follows the last complete member
    for piece in source:
        data = after + piece
        after = b""
        while data:
            if not started and not _GZIP.startswith(data[:2]):
                _check_padding(data, source)
                return
            if not started and len(data) < 2:
                after = data
                break
            started = True
            try:
                out = member.decompress(data, PIECE)
            except _GzipError as error:
                raise Damaged(str(error)) from None
            if out:
                yield out
            if member.eof:
                data, member, started = member.unused_data, _gzip_member(), False
            else:
                data = member.unconsumed_tail
                # Output may still be inside the decompressor although all input is consumed.
                while not data and len(out) == PIECE and (out := member.decompress(b"", PIECE)):
                    yield out
                if member.eof:
                    data, member, started = member.unused_data, _gzip_member(), False
    if started or after:
        raise Damaged("the data ends in the middle")


def _check_padding(rest: bytes, source: Iterator[bytes]) -> None:
    """Zeros after the last member are padding of block devices and tapes; anything else is no part of a layer."""
    for piece in itertools.chain([rest], source):
        if piece.strip(b"\0"):
            raise Damaged("there is something else after the compressed data")


def _unzstd(source: Iterator[bytes]) -> Iterator[bytes]:
    """All frames. Of one that ends too early the library says nothing, so a frame of ours follows the last one: only
    where all before it are whole, the output ends with what is in it. It follows byte by byte, because a piece that is
    a whole frame is taken for one even in the middle of another's header. It has a checksum, because a frame that ends
    in the middle of a block would take our header for the block's rest, and what follows for a block of its own."""
    mark = zstandard.ZstdCompressor(write_checksum=True).compress(_END)
    file = cast(IO[bytes], _File(itertools.chain(source, (bytes([byte]) for byte in mark))))
    reader = zstandard.ZstdDecompressor(max_window_size=MAX_ZSTD_WINDOW).stream_reader(
        file, read_size=256 * 1024, read_across_frames=True,
    )
    held = b""  # as much as may be the end
    while True:
        try:
            out = reader.read(PIECE)
        except zstandard.ZstdError as error:
            if "not enough memory" in str(error):  # of this process: no fault of the layer
                raise MemoryError from None
            if "too much memory" in str(error):
                raise ImageError(
                    Reason.UNSUPPORTED,
                    f"A layer was compressed with a zstd window of more than {MAX_ZSTD_WINDOW >> 20} MiB: "
                    "compress the image with a lower level or without --long.",
                ) from None
            raise Damaged(str(error)) from None
        if not out:
            break
        held += out
        if piece := held[:-len(_END)]:
            yield piece
        held = held[-len(_END):]
    if held != _END:
        raise Damaged("the data ends in the middle")


class _File:
    """Pieces behind the one method that zstandard calls on a file. Its `read` returns up to `size` bytes."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._rest = memoryview(piece)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)
