# SPDX-License-Identifier: Apache-2.0
"""Layers in every packing that registries hold, in broken ones, and in those that unpack for ever."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from imagecache_operator.api.job import StoredAs
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.layout import Layout

from .conftest import Run
from .content import OCI_TAR, Bench, descriptor, image_of, named, packed
from .faulty import FaultyRegistry, SmallImage, sha256

TAR = random.Random(5).randbytes(20_000) + bytes(60_000) + b"the end"
GZIP, ZSTD = f"{OCI_TAR}+gzip", f"{OCI_TAR}+zstd"
Pack = Callable[[bytes], bytes]
zstd = zstandard.ZstdCompressor(level=3, write_checksum=True).compress

# What Docker has for every instruction that changes no file: 1,024 zeros.
EMPTY_LAYER = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")


@pytest.fixture
def bench(faulty: FaultyRegistry, run: Run, volume: Path, output: io.StringIO) -> Bench:
    return Bench(faulty, run, volume, output)


def parts(pack: Pack, size: int = 7_000) -> Pack:
    """Packs piece by piece."""
    return lambda tar: b"".join(pack(tar[start : start + size]) for start in range(0, len(tar), size))


def skippable(content: bytes, kind: int = 0) -> bytes:
    """A frame that zstd passes over; zstd:chunked keeps its table of contents in such."""
    return struct.pack("<II", 0x184D2A50 + kind, len(content)) + content


def estargz_footer(offset: int) -> bytes:
    """An empty gzip member that says, in a field of its header, where the table of contents begins."""
    extra = b"SG" + struct.pack("<H", 22) + b"%016xSTARGZ" % offset
    return b"\x1f\x8b\x08\x04" + bytes(5) + b"\xff" + struct.pack("<H", len(extra)) + extra + packed(b"")[10:]


# How a tar is packed, and what the manifest calls it.
SOUND: dict[str, tuple[Pack, str]] = {
    "gzip": (packed, GZIP),
    "gzip that stores": (lambda tar: gzip.compress(tar, 0), GZIP),
    "gzip called zstd": (packed, ZSTD),
    "gzip called tar": (packed, OCI_TAR),
    "zstd": (zstd, ZSTD),
    "zstd called gzip": (zstd, GZIP),
    "zstd called tar": (zstd, OCI_TAR),
    "tar": (bytes, OCI_TAR),
    "tar called gzip": (bytes, GZIP),
    "tar called zstd": (bytes, ZSTD),
    "members": (parts(packed), GZIP),
    "tiny members": (parts(packed, 50), GZIP),
    "estargz": (lambda tar: parts(packed)(tar) + estargz_footer(5), GZIP),
    "empty members": (lambda tar: packed(tar) + packed(b"") * 1000, GZIP),
    "padding": (lambda tar: packed(tar) + bytes(9_000), GZIP),
    "frames": (parts(zstd), ZSTD),
    "skippable first": (lambda tar: skippable(b"x" * 70_000) + zstd(tar), ZSTD),
    "empty frame": (lambda tar: zstd(tar) + zstd(b""), ZSTD),
    "zstd:chunked": (lambda tar: parts(zstd)(tar) + skippable(b"contents", 13) + skippable(b"footer", 15), ZSTD),
}


def tar_of(what: str) -> bytes:
    """A tar of its own for each row: one that all have in common would be fetched in one packing only."""
    return TAR + what.encode()


@pytest.mark.parametrize("form", StoredAs)
def test_it_is_unpacked_by_what_it_is_not_by_what_it_is_called(form: StoredAs, bench: Bench) -> None:
    references = [
        bench.faulty.add(named(what), image_of(pack(tar_of(what)), tar_of(what), kind))
        for what, (pack, kind) in SOUND.items()
    ]
    bench.takes(*references, stored_as=form)
    if form is StoredAs.DECOMPRESSED:
        for reference, what in zip(references, SOUND, strict=True):
            assert bench.stored(reference)["layers"] == [descriptor(OCI_TAR, tar_of(what))]
    bench.faulty.requests.clear()
    bench.takes(*references, stored_as=form)
    assert not any("/blobs/" in path for path in bench.faulty.paths())


@pytest.mark.parametrize("form", StoredAs)
@pytest.mark.parametrize(("blob", "tar"), [
    (EMPTY_LAYER, bytes(1024)), (packed(b""), b""), (zstd(b""), b""), (skippable(b"x"), b""), (b"", b""),
    (b"x", b"x"), (b"\x1f", b"\x1f"), (b"\x28\xb5", b"\x28\xb5"),
], ids=["the empty layer", "gzip", "zstd", "skippable", "no bytes", "one byte", "half a magic", "half a zstd magic"])
def test_a_layer_with_next_to_nothing_in_it(blob: bytes, tar: bytes, form: StoredAs, bench: Bench) -> None:
    reference = bench.faulty.add("odd", image_of(blob, tar))
    bench.takes(reference, stored_as=form)
    if form is StoredAs.DECOMPRESSED:
        assert bench.stored(reference)["layers"] == [descriptor(OCI_TAR, tar)]


@pytest.mark.parametrize("form", StoredAs)
def test_an_image_without_layers(form: StoredAs, bench: Bench) -> None:
    empty, absent = SmallImage([]), SmallImage([])
    del absent.config["rootfs"]["diff_ids"]  # as Docker writes it
    absent.refresh()
    bench.takes(bench.faulty.add("empty", empty), bench.faulty.add("absent", absent), stored_as=form)


SPOILT: dict[str, Pack] = {
    "garbage": lambda tar: packed(tar) + b"garbage",
    "half a magic": lambda tar: packed(tar) + b"\x1f",
    "garbage after padding": lambda tar: packed(tar) + bytes(100) + b"x",
    "zstd after gzip": lambda tar: packed(tar) + zstd(b"x"),
    "cut": lambda tar: packed(tar)[:-1],
    "cut early": lambda tar: packed(tar)[:12],
    "wrong checksum": lambda tar: packed(tar)[:-8] + bytes(4) + packed(tar)[-4:],
    "wrong length": lambda tar: packed(tar)[:-4] + b"\1\2\3\4",
    "cut members": lambda tar: parts(packed)(tar)[:-300],
    "spoilt in the middle": lambda tar: packed(tar)[:5_000] + b"\xff" * 50 + packed(tar)[5_050:],
    "no gzip": lambda tar: b"\x1f\x8b" + tar,
    "a name without end": lambda tar: b"\x1f\x8b\x08\x08" + bytes(6) + b"a name without end " * 50_000 + tar[:1],
    "longer": lambda tar: packed(tar + b"x"),
    "shorter": lambda tar: packed(tar[:-1]),
    "garbage after zstd": lambda tar: zstd(tar) + b"garbage",
    "zeros after zstd": lambda tar: zstd(tar) + bytes(8),
    "gzip after zstd": lambda tar: zstd(tar) + packed(b"x"),
    "wrong zstd checksum": lambda tar: zstd(tar)[:-1] + bytes([zstd(tar)[-1] ^ 1]),
    "cut zstd": lambda tar: zstd(tar)[:900],
    "half a zstd checksum": lambda tar: zstd(tar)[:-2],
    "no zstd checksum": lambda tar: zstd(tar)[:-4],
    "cut frames": lambda tar: parts(zstd)(tar)[:-300],
    "no zstd": lambda tar: b"\x28\xb5\x2f\xfd" + b"\xff" * 99 + tar,
    "dictionary": lambda tar: b"\x28\xb5\x2f\xfd\x03\x58\x01\0\0\0\x01\0\0" + tar,
    "spoilt skippable": lambda tar: skippable(b"x")[:-1] + zstd(tar),
    "longer zstd": lambda tar: zstd(tar + b"x"),
    "longer tar": lambda tar: tar + b"x",
    "shorter tar": lambda tar: tar[:-1],
    "bzip2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.mark.parametrize("form", [StoredAs.DECOMPRESSED, StoredAs.ZSTD])
def test_what_does_not_hold_its_tar_is_damaged_as_published(form: StoredAs, bench: Bench, volume: Path) -> None:
    references = [
        bench.faulty.add(named(what), image_of(pack(tar_of(what)), tar_of(what))) for what, pack in SPOILT.items()
    ]
    words = ["damaged as published", "build and push it again"]
    bench.refuses_all(dict.fromkeys(references, words), Reason.DIGEST_MISMATCH, stored_as=form)
    assert not any(Layout(volume).has(sha256(tar_of(what))) for what in SPOILT)


def frame_with_window(log: int) -> bytes:
    """A zstd frame whose decompressor needs a window of 2 to the power of `log` bytes; one raw block of one byte."""
    return b"\x28\xb5\x2f\xfd\x00" + bytes([log - 10 << 3]) + (8 | 1).to_bytes(3, "little") + b"x"


@pytest.mark.parametrize("log", [27, 31, 41])
def test_a_giant_window_is_refused_by_name(log: int, bench: Bench) -> None:
    image = image_of(frame_with_window(log), b"x", ZSTD)
    bench.refuses(bench.faulty.add("bad", image), Reason.UNSUPPORTED, "window", "64 MiB", "without --long")


def test_the_largest_window_is_taken(bench: Bench) -> None:
    bench.takes(bench.faulty.add("odd", image_of(frame_with_window(26), b"x", ZSTD)))


@pytest.mark.parametrize("bomb", [
    packed(bytes(200_000_000)), packed(bytes(10_000_000)) * 1000, zstd(bytes(200_000_000)),
    zstd(bytes(100_000_000)) * 1000, zstd(bytes(100_000_000)) * 1000 + b"garbage",
], ids=["gzip", "members", "zstd", "frames", "frames and garbage"])
def test_what_unpacks_for_ever_stops_at_the_volumes_size(bomb: bytes, bench: Bench, volume: Path) -> None:
    reference = bench.faulty.add("bomb", image_of(bomb, b"whatever"))
    bench.refuses(reference, Reason.DOES_NOT_FIT, "raise imageCacheSize", capacity=20_000_000)
    assert Layout(volume).used() < 1_000_000


def test_the_same_layer_in_two_packings_is_stored_once(bench: Bench, volume: Path) -> None:
    images = [SmallImage([TAR], compress=pack) for pack in (packed, zstandard.compress, bytes, parts(packed))]
    bench.takes(*(bench.faulty.add(f"packed/{place}", image) for place, image in enumerate(images)))
    assert Layout(volume).used() < len(TAR) * 1.5
    fetched = {digest for image in images for digest in image.layer_digests if f"blobs/{digest}" in bench.asked()}
    assert len(fetched) == 1


def test_the_same_layer_twice_in_one_image(bench: Bench, volume: Path) -> None:
    image = SmallImage([TAR, b"between", TAR, TAR], compress=packed)
    reference = bench.faulty.add("twice", image)
    bench.takes(reference)
    assert [layer["digest"] for layer in bench.stored(reference)["layers"]] == image.diff_ids
    assert Layout(volume).used() < len(TAR) * 1.5
    assert bench.asked().count(f"blobs/{image.layer_digests[0]}") == 1


@pytest.mark.parametrize("form", StoredAs)
def test_every_name_of_one_image(form: StoredAs, bench: Bench, volume: Path) -> None:
    """By two tags, by digest, by tag and digest: stored once, each under the name that it was listed by."""
    image = SmallImage([TAR], compress=packed)
    by_tag, other = bench.faulty.add("app", image), bench.faulty.add("app", image, "2")
    digest = sha256(image.body)
    named = [by_tag, other, f"{by_tag.removesuffix(':1')}@{digest}", f"{by_tag}@{digest}"]
    bench.takes(*named, stored_as=form)
    first, *others = (bench.stored(reference) for reference in named)
    assert others == [first] * len(others)
    assert Layout(volume).used() < len(TAR) * 1.5
    assert bench.asked().count(f"blobs/{image.layer_digests[0]}") == 1
