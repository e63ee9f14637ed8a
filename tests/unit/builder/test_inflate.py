# SPDX-License-Identifier: Apache-2.0
"""Decompression: all members and frames, bounded pieces, nothing after the end."""

from __future__ import annotations

import contextlib
import gzip
import random
import sys
from collections.abc import Callable, Iterator

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder import inflate
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.inflate import PIECE, Damaged, inflated

RAW = random.Random(7).randbytes(300_000) + bytes(5_000_000) + b"end"
SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def _in_parts(compress: Callable[[bytes], bytes]) -> bytes:
    return b"".join(compress(part) for part in _pieces(RAW, 700_000))


@pytest.mark.parametrize("size", [1021, 262_144, 10**9])
@pytest.mark.parametrize("packed", [
    gzip.compress(RAW), _in_parts(gzip.compress), gzip.compress(RAW) + bytes(10_000), RAW,
    zstandard.compress(RAW), _in_parts(zstandard.compress), SKIPPABLE + zstandard.compress(RAW) + SKIPPABLE,
], ids=["gzip", "members", "padded", "plain", "zstd", "frames", "skippable"])
def test_everything_comes_out_in_bounded_pieces(packed: bytes, size: int) -> None:
    pieces = list(inflated(_pieces(packed, size)))
    assert b"".join(pieces) == RAW
    assert max(map(len, pieces)) <= max(PIECE, size)


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_bomb_comes_out_in_bounded_pieces(compress: Callable[[bytes], bytes]) -> None:
    assert max(map(len, inflated(iter([compress(bytes(300_000_000))])))) <= PIECE


@pytest.mark.parametrize("missing", [[], ["isal"], ["isal", "zlib_ng"]])
def test_any_gzip_library_does(missing: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for library in missing:
        monkeypatch.setitem(sys.modules, library, None)
    name, member, error = inflate._fastest_gzip()
    assert name not in missing
    assert name == "zlib" or len(missing) < 2
    monkeypatch.setattr(inflate, "_gzip_member", member)
    monkeypatch.setattr(inflate, "_GzipError", error)
    assert b"".join(inflated(_pieces(_in_parts(gzip.compress), 5000))) == RAW
    with pytest.raises(Damaged):
        list(inflated(iter([gzip.compress(b"abc")[:-1] + b"\xff"])))


@pytest.mark.parametrize("packed", [
    gzip.compress(RAW)[:-1], gzip.compress(RAW)[:100], gzip.compress(RAW) + b"junk", gzip.compress(RAW) + b"\x1f",
    gzip.compress(RAW) + bytes(500) + b"x", b"\x1f\x8b" + b"x" * 50, zstandard.compress(RAW) + b"junk",
    gzip.compress(RAW)[:-8] + b"12345678",
], ids=["cut", "cut early", "junk", "half a header", "junk after padding", "no gzip", "junk after zstd", "wrong sum"])
@pytest.mark.parametrize("size", [1, 1021, 10**9])
def test_what_is_damaged_is_told(packed: bytes, size: int) -> None:
    with pytest.raises(Damaged):
        list(inflated(_pieces(packed, size)))


@pytest.mark.parametrize("size", [1, 1021, 10**9])
@pytest.mark.parametrize("checksum", [True, False])
def test_a_zstd_frame_that_is_cut_anywhere_is_told(checksum: bool, size: int) -> None:
    """Also where nothing but the end mark or the checksum is missing, and all of the tar has come out."""
    packed = zstandard.ZstdCompressor(write_checksum=checksum).compress(b"a tar " * 50)
    for length in range(4, len(packed)):
        with pytest.raises(Damaged):
            list(inflated(_pieces(packed[:length], size)))
    assert b"".join(inflated(_pieces(packed, size))) == b"a tar " * 50


def test_a_window_that_is_too_large_is_refused_by_name() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = stream.compress(RAW) + stream.flush()
    with pytest.raises(ImageError) as refusal:
        list(inflated(iter([packed])))
    assert refusal.value.reason is Reason.UNSUPPORTED


@given(st.sampled_from([b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18"]), st.binary(max_size=200))
def test_it_raises_nothing_but_its_own_errors(head: bytes, rest: bytes) -> None:
    with contextlib.suppress(Damaged, ImageError):
        list(inflated(iter([head + rest])))
