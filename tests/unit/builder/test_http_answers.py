# SPDX-License-Identifier: Apache-2.0
"""Answers that are not what a registry should send: odd statuses, lengths, ranges, headers, bodies."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import Layout

from . import faulty as faults
from .conftest import QUICK, Run
from .discretion import discreet
from .faulty import OCI_MANIFEST, Fault, FaultyRegistry, Handler, SmallImage, sha256

MANIFEST = "/v2/team/app/manifests/1"
LONG = b"x" * 100_000
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([random.Random(9).randbytes(600_000)])


def _layer(image: SmallImage) -> str:
    return f"/v2/team/app/blobs/{image.layer_digests[0]}"


def _whole(head: str, end: bytes = b"") -> Fault:
    """The document after these headers, and what follows it; LENGTH is the document's."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.write(head.replace("LENGTH", str(len(data))).replace("\n", "\r\n").encode() + b"\r\n", data, end)
        handler.hang_up()

    return fault


def _chunked(cut: int | None = None, size: int = 7001, last: bytes = b"0\r\n\r\n") -> Fault:
    def fault(handler: Handler, data: bytes) -> None:
        handler.write(CHUNKS)
        data = data[:cut]
        for start in range(0, len(data), size):
            chunk = data[start:start + size]
            handler.write(b"%x;extension=1\r\n%b\r\n" % (len(chunk), chunk))
        if cut is None:
            handler.write(last)
        handler.hang_up()

    return fault


@pytest.mark.parametrize("fault", [
    _chunked(),
    _chunked(last=b"0\r\nTrailer: x\r\n\r\n"),
    _whole("HTTP/1.1 200 OK\nConnection: close\n"),
    _whole("HTTP/1.0 200 OK\n"),
    _whole("HTTP/1.1 200\nContent-Length: LENGTH\n"),
    _whole("HTTP/1.1 200 OK\nContent-Length: LENGTH, LENGTH\n"),
    _whole("HTTP/1.1 200 OK\nContent-Length: -5\nConnection: close\n"),
    _whole("HTTP/1.1 100 Continue\n\nHTTP/1.1 200 OK\nContent-Length: LENGTH\n"),
    _whole("HTTP/1.1 102 Processing\n\nHTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.1 200 OK\nContent-Length: LENGTH\n"),
    _whole("HTTP/1.1 200 OK\nContent-Length: LENGTH\nX: " + "x" * 60_000 + "\n"),
    _whole("HTTP/1.1 200 OK\nContent-Length: LENGTH\nDocker-Content-Digest: nonsense\n"),
], ids=[
    "chunked", "trailer", "until the end", "HTTP/1.0", "no phrase", "length twice", "negative length", "100",
    "102 and 103", "a long header", "no digest",
])
def test_an_unusual_answer_is_understood(
    fault: Fault, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    for path in (MANIFEST, _layer(image), f"/v2/team/app/blobs/{image.manifest['config']['digest']}"):
        faulty.fail(path, fault)
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert len(faulty.requests) == 3


def _endless(first: bytes, again: bytes) -> Fault:
    return faults.drips(first, again, 0)


@pytest.mark.parametrize("path", ["manifest", "layer"])
@pytest.mark.parametrize(("fault", "words"), [
    (faults.raw(), "The connection to the registry {} failed."),
    (faults.raw(b"HTTP/1.1 200 OK\r\nContent-Le"), "The connection to the registry {} failed."),
    (faults.raw(b"SSH-2.0-OpenSSH_9.6\r\n"), "something that is not HTTP"),
    (faults.raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "something that is not HTTP"),
    (faults.raw(b"\x00" * 1000 + b"\r\n"), "something that is not HTTP"),
    (faults.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), "not HTTP"),
    (faults.raw(b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 200 + b"\r\n"), "headers without end"),
    (_endless(b"HTTP/1.1 200 OK\r\nX: ", LONG), "headers without end"),
    (_endless(b"HTTP/1.1 200 OK\r\n", b"X: x\r\n"), "headers without end"),
    (_endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "headers without end"),
    (_endless(b"", b"HTTP/1.1 103 Early Hints\r\nX: " + b"x" * 1000 + b"\r\n\r\n"), "headers without end"),
    (_endless(CHUNKS + b"0\r\n", b"X: " + LONG[:9000] + b"\r\n"), "headers without end"),
    (_endless(CHUNKS + b"5;", LONG), "headers without end"),
    (faults.raw(CHUNKS + b"number\r\n"), "The connection to the registry {} failed."),
], ids=[
    "nothing", "half a head", "SSH", "HTTP/2", "zeros", "two lengths", "200 headers", "endless header",
    "endless headers", "endless 100", "endless 103", "endless trailer", "endless chunk", "no chunk",
])
def test_what_makes_no_sense_is_left(
    path: str, fault: Fault, words: str, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    bad = _layer(image) if path == "layer" else MANIFEST
    faulty.fail(bad, *[fault] * QUICK.failures_in_a_row)
    outcome = run(faulty.add("team/app", image), faulty.add("team/other", SmallImage([b"other"])))
    assert [i.reason for i in outcome.images] == [Reason.REGISTRY_UNAVAILABLE, None]
    assert words.format(faulty.address) in outcome.images[0].message
    assert faulty.paths().count(bad) == QUICK.failures_in_a_row
    assert check(volume) == []


@pytest.mark.parametrize("fault", [
    _chunked(300_000), faults.ends_after(300_000),
    lambda handler, data: _whole("HTTP/1.1 200 OK\nConnection: close\n")(handler, data[:300_000]),
], ids=["chunks", "length", "neither"])
def test_a_layer_that_breaks_off_is_gone_on_with(
    fault: Fault, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    faulty.fail(_layer(image), fault)
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert len([path for path in faulty.paths() if path == _layer(image)]) == 2
    assert "range" in faulty.requests[-1][1]


@pytest.mark.parametrize("fault", [_chunked(100), faults.ends_after(100)], ids=["chunks", "length"])
@pytest.mark.parametrize("what", ["manifest", "config"])
def test_a_document_that_breaks_off_is_asked_for_again(
    what: str, fault: Fault, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    faulty.fail(MANIFEST if what == "manifest" else f"/v2/team/app/blobs/{image.manifest['config']['digest']}", fault)
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert len(faulty.requests) == 4


def _longer(fault: Fault) -> Fault:
    return lambda handler, data: fault(handler, data + b"and more")


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("fault", [
    faults.sends(b"x" * 10), faults.sends(LONG * 9), _longer(_chunked()),
    _longer(_whole("HTTP/1.1 200 OK\nConnection: close\n")), _whole("HTTP/1.1 200 OK\nContent-Length: 7\n"),
    _whole("HTTP/1.1 200 OK\nContent-Length: 99999999999\n"),
    faults.answers(200, {"Content-Encoding": "gzip"}, b"other bytes"),
], ids=["shorter", "longer", "more chunks", "more until the end", "short length", "long length", "other bytes"])
def test_a_layer_of_another_length_is_the_registrys_fault(
    fault: Fault, once: bool, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    """What a proxy did once is forgiven."""
    faulty.fail(_layer(image), *[fault] * (1 if once else 9))
    outcome = run(faulty.add("team/app", image), faulty.add("team/other", SmallImage([b"other"])))
    assert [i.reason for i in outcome.images] == [None if once else Reason.DIGEST_MISMATCH, None]
    assert once or outcome.images[0].message.startswith(f"The registry {faulty.address} sends")
    assert Layout(volume).has(image.diff_ids[0]) is once
    assert check(volume) == []
    assert faulty.paths().count(_layer(image)) == 2


@pytest.mark.parametrize(("fault", "goes_on"), [
    (faults.answers(206), True),
    (faults.answers(206, {"Content-Range": "bytes 5-9/10"}, b"12345"), True),
    (faults.answers(206, {"Content-Range": "bytes 299999-600202/600203"}, LONG), True),
    (faults.answers(206, {"Content-Range": "bytes 300000-5/600203"}, b""), True),
    (faults.answers(206, {"Content-Range": "lines 300000-399999/600203"}, LONG), True),
    (faults.answers(206, {"Content-Type": "multipart/byteranges; boundary=x"}, b"--x\r\n"), True),
    (faults.answers(206, {"Content-Range": "bytes 300000-399999/" + "9" * 40}, LONG), True),
    (faults.answers(206, {"Content-Range": "bytes 300000-399999/5"}, LONG), False),
    (faults.answers(206, {"Content-Range": "bytes 300000-600202/600203"}, LONG * 4), False),
    (faults.answers(503), True),
    (faults.answers(416), False), (faults.ignores_range(), False), (faults.sends(b""), False),
], ids=[
    "none", "another", "one byte off", "backwards", "lines", "several", "huge", "another size", "more", "busy",
    "no such range", "the whole", "nothing",
])
def test_an_odd_answer_to_a_range_is_not_mixed_in(
    fault: Fault, goes_on: bool, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    """Where nothing of it was taken, the layer goes on; else it begins anew."""
    faulty.fail(_layer(image), faults.ends_after(300_000), fault)
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    asked = [headers.get("range") for path, headers in faulty.requests if path == _layer(image)]
    assert asked[:2] == [None, "bytes=300000-"]
    assert (asked[2:] == ["bytes=300000-"]) is goes_on


def test_a_part_may_be_smaller_than_asked_for(
    faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    def part(handler: Handler, data: bytes) -> None:
        start = int(handler.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        piece = data[start:start + 50_000]
        total = len(data) if start < 400_000 else "*"
        handler.answer(206, piece, {"Content-Range": f"bytes {start}-{start + len(piece) - 1}/{total}"})

    faulty.fail(_layer(image), faults.ends_after(300_000), *[part] * 20)
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert len([path for path in faulty.paths() if path == _layer(image)]) == 8


@pytest.mark.parametrize("path", ["manifest", "layer"])
@pytest.mark.parametrize("status", [101, 201, 202, 204, 206, 300, 301, 302, 304, 305, 306, 400, 402, 405, 406, 410, 418,
                                    451])
def test_a_status_that_nobody_asked_for_is_told(
    path: str, status: int, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    bad = _layer(image) if path == "layer" else MANIFEST
    faulty.fail(bad, faults.answers(status))
    outcome = run(faulty.add("team/app", image), faulty.add("team/other", SmallImage([b"other"])))
    assert [i.reason for i in outcome.images] == [Reason.REGISTRY_UNAVAILABLE, None]
    assert outcome.images[0].message == f"The registry {faulty.address} answers {status} for team/app."
    assert faulty.paths().count(bad) == 1
    assert check(volume) == []


@pytest.mark.parametrize(("path", "status", "reason", "words"), [
    ("manifest", 401, Reason.UNAUTHORIZED, "the image is private or its name is misspelt"),
    ("manifest", 403, Reason.DENIED, "denies access to team/app"),
    ("manifest", 404, Reason.NOT_FOUND, "has no image {}/team/app:1: check name and tag"),
    ("layer", 401, Reason.UNAUTHORIZED, "does not give team/app to everybody"),
    ("layer", 403, Reason.DENIED, "denies access to team/app"),
    ("layer", 404, Reason.NOT_FOUND, "has lost a part of team/app: push the image again"),
])
def test_a_refusal_is_final_and_has_its_reason(
    path: str, status: int, reason: Reason, words: str, faulty: FaultyRegistry, run: Run, volume: Path,
    image: SmallImage,
) -> None:
    bad = _layer(image) if path == "layer" else MANIFEST
    faulty.fail(bad, *[faults.answers(status)] * 5)
    outcome = run(faulty.add("team/app", image), faulty.add("team/other", SmallImage([b"other"])))
    assert [i.reason for i in outcome.images] == [reason, None]
    assert words.format(faulty.address) in outcome.images[0].message
    assert faulty.paths().count(bad) == 1
    assert check(volume) == []


@pytest.mark.parametrize("once", [True, False])
def test_a_manifest_that_differs_from_its_digest_header(
    once: bool, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    """A HEAD, which others send first, would have named that digest too; the builder trusts bytes only."""
    other = {"Docker-Content-Digest": sha256(b"other"), "Content-Type": OCI_MANIFEST}
    faulty.fail(MANIFEST, *[faults.answers(200, other, image.body)] * (1 if once else QUICK.failures_in_a_row))
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is (None if once else Reason.DIGEST_MISMATCH)
    assert result.digest == (sha256(image.body) if once else None)
    assert once or "sends another manifest for team/app than its digest asks for" in result.message
    assert check(volume) == []


@pytest.mark.parametrize("what", ["manifest", "config"])
@pytest.mark.parametrize("once", [True, False])
def test_other_bytes_than_a_digest_asks_for(
    what: str, once: bool, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    reference = faulty.add("team/app", image).removesuffix(":1") + f"@{sha256(image.body)}"
    bad = f"manifests/{sha256(image.body)}" if what == "manifest" else f"blobs/{image.manifest['config']['digest']}"
    faulty.fail(f"/v2/team/app/{bad}", *[faults.sends(b"{}")] * (1 if once else QUICK.failures_in_a_row))
    (result,) = run(reference).images
    assert result.reason is (None if once else Reason.DIGEST_MISMATCH)
    assert once or f"sends another {what} for team/app than its digest asks for" in result.message
    assert check(volume) == []
