# SPDX-License-Identifier: Apache-2.0
"""Whatever a layer's bytes are: they are unpacked as others unpack them, or refused, in pieces of bounded size, and it
makes no difference how the network cuts them up."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.inflate import PIECE, Damaged, inflated

from .fuzz import changed_bytes, many

Pack = Callable[[bytes], bytes]

_RAW = st.binary(max_size=300) | st.builds(lambda seed, zeros: random.Random(seed).randbytes(200) + bytes(zeros),
                                           st.integers(0, 99), st.integers(0, 3000))
_LEVELS = st.integers(1, 9)


def _gzip(level: int) -> Pack:
    return lambda data: gzip.compress(data, level, mtime=0)


def _zstd(level: int, checksum: bool, content_size: bool) -> Pack:
    return zstandard.ZstdCompressor(level, write_checksum=checksum, write_content_size=content_size).compress


def _in_parts(pack: Pack, size: int) -> Pack:
    return lambda data: b"".join(pack(data[start : start + size]) for start in range(0, len(data), size))


_GZIP = st.builds(_gzip, _LEVELS) | st.builds(_in_parts, st.builds(_gzip, _LEVELS), st.integers(50, 500))
_FRAME = st.builds(_zstd, _LEVELS, st.booleans(), st.booleans())
_ZSTD = _FRAME | st.builds(_in_parts, _FRAME, st.integers(50, 500))
_HEADS = st.sampled_from([
    b"", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"\x5f\x2a\x4d\x18\xff\xff\xff\xff",
])


@st.composite
def _damaged(draw: st.DrawFn, packs: st.SearchStrategy[Pack]) -> bytes:
    return changed_bytes(draw, draw(packs)(draw(_RAW)))


def _pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Cut up in these sizes, over and over."""
    at = turn = 0
    while at < len(data):
        yield data[at : at + sizes[turn % len(sizes)]]
        at, turn = at + sizes[turn % len(sizes)], turn + 1


def _outcome(data: bytes, sizes: list[int]) -> bytes | None:
    """The tar, or None where it is refused."""
    tar = b""
    try:
        for piece in inflated(_pieces(data, sizes)):
            assert 0 < len(piece) <= max(PIECE, *sizes)
            tar += piece
    except (Damaged, ImageError):
        return None
    return tar


_SIZES = st.lists(st.integers(1, 200), min_size=1, max_size=4)


@many()
@given(_RAW, _GZIP | _ZSTD, _SIZES)
def test_what_is_sound_comes_out(raw: bytes, pack: Pack, sizes: list[int]) -> None:
    assert _outcome(pack(raw), sizes) == raw


@many()
@given(_damaged(_GZIP | _ZSTD) | st.builds(lambda head, rest: head + rest, _HEADS, st.binary(max_size=200)), _SIZES)
def test_how_it_is_cut_up_makes_no_difference(data: bytes, sizes: list[int]) -> None:
    assert _outcome(data, sizes) == _outcome(data, [1]) == _outcome(data, [len(data) + 1])


@many()
@given(_damaged(_GZIP))
def test_gzip_means_what_it_means_elsewhere(data: bytes) -> None:
    """Python's own decompressor, which is another program, is the judge; it alone minds flags that gzip keeps for
    later, and cannot say what is not gzip at all."""
    found = _outcome(data, [64])
    if data.startswith(b"\x1f\x8b") and not (len(data) > 3 and any(flags & 0xE0 for flags in _flags(data))):
        assert found == _by_python(data)


@many()
@given(_damaged(_ZSTD))
@example(b"\x28\xb5\x2f\xfd\0\0\x30\0\0")  # lacks six bytes of a block, as many as another frame's header has
def test_zstd_means_what_it_means_elsewhere(data: bytes) -> None:
    """A frame is whole or refused, also where all that it holds has come out."""
    found = _outcome(data, [64])
    if data.startswith(b"\x28\xb5\x2f\xfd") and found is not None:
        assert found == _frame_by_frame(data)


LONG: dict[str, tuple[bytes, bytes | None]] = {
    "members": (gzip.compress(b"") * 200_000, b""),
    "small members": (gzip.compress(b"a") * 100_000, b"a" * 100_000),
    "frames": (zstandard.compress(b"") * 400_000, b""),
    "skippable frames": (b"\x50\x2a\x4d\x18\0\0\0\0" * 1_000_000, b""),
    "a name without end": (b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * 30_000_000, None),
    "empty blocks": (gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 4_000_000, None),
    "padding": (gzip.compress(b"a") + bytes(30_000_000), b"a"),
    "half magics": (b"\x1f" * 30_000_000, b"\x1f" * 30_000_000),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", LONG)
def test_nothing_takes_for_ever(what: str) -> None:
    data, tar = LONG[what]
    assert _outcome(data, [256 * 1024]) == tar


def _flags(data: bytes) -> Iterator[int]:
    """The flags of everything that may be a gzip member's header."""
    at = data.find(b"\x1f\x8b")
    while at >= 0:
        yield data[at + 3] if at + 3 < len(data) else 0
        at = data.find(b"\x1f\x8b", at + 1)


def _by_python(data: bytes) -> bytes | None:
    tar = b""
    while True:
        member = zlib.decompressobj(wbits=31)
        try:
            tar += member.decompress(data)
        except zlib.error:
            return None
        if not member.eof:
            return None
        data = member.unused_data
        if not data.strip(b"\0"):
            return tar


def _frame_by_frame(data: bytes) -> bytes | None:
    tar = b""
    while data:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            tar += frame.decompress(data)
        except zstandard.ZstdError:
            return None
        if not frame.eof:
            return None
        data = frame.unused_data
    return tar
