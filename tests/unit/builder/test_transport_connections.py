# SPDX-License-Identifier: Apache-2.0
"""The way to a registry and the pace on it: nobody there, silence, drops, and how many connections are open."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check

from tests.support.tls import Authority

from . import faulty as faults
from .conftest import QUICK, Run
from .discretion import discreet
from .faulty import Fault, FaultyRegistry, Handler, SmallImage

BRIEF = dataclasses.replace(QUICK, connect=0.3, stall=0.3, failures_in_a_row=2)
PACED = dataclasses.replace(QUICK, slowest=2000, slowest_over=0.3, failures_in_a_row=2)


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([random.Random(3).randbytes(600_000)])


def _layer(image: SmallImage, place: int = 0) -> str:
    return f"/v2/team/app/blobs/{image.layer_digests[place]}"


@contextlib.contextmanager
def _nobody() -> Iterator[str]:
    yield "127.0.0.1:1"


@contextlib.contextmanager
def _full() -> Iterator[str]:
    """A listener that accepts nobody, with as many before its door as it lets wait: the kernel drops what comes."""
    with socket.socket() as listener, contextlib.ExitStack() as waiting:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            guest = waiting.enter_context(socket.socket())
            guest.setblocking(False)
            guest.connect_ex(listener.getsockname())
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def _silent() -> Iterator[str]:
    """A connection, and then not a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def _rude() -> Iterator[str]:
    """A connection that is closed again at once."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def close_all() -> None:
            with contextlib.suppress(OSError):
                while True:
                    listener.accept()[0].close()

        closing = threading.Thread(target=close_all)
        closing.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        closing.join()


@pytest.mark.parametrize(("server", "reason", "words"), [
    (_nobody, Reason.REGISTRY_UNAVAILABLE, "Nobody answers at the registry {}."),
    (_full, Reason.TIMEOUT, "The registry {} does not answer in time."),
    (_silent, Reason.TIMEOUT, "The registry {} does not answer in time."),
    (_rude, Reason.REGISTRY_UNAVAILABLE, "connection to the registry {} failed."),
])
def test_a_host_that_cannot_be_reached(
    server: Callable[[], contextlib.AbstractContextManager[str]], reason: Reason, words: str, run: Run,
) -> None:
    with server() as address:
        (result,) = run(f"{address}/team/app:1", limits=BRIEF).images
    assert result.reason is reason
    assert words.format(address) in result.message


def test_a_name_that_does_not_exist(run: Run) -> None:
    (result,) = run("registry.invalid/team/app:1", limits=BRIEF).images  # RFC 6761 keeps .invalid free of names
    assert result.reason is Reason.DNS_FAILED
    assert result.message == "The name of the registry registry.invalid cannot be resolved: check its spelling."


def test_silence_in_mid_layer_is_not_the_end(
    faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    def falls_silent(handler: Handler, data: bytes) -> None:
        handler.answer(200, data, cut=400_000)
        handler.client_left(60)
        handler.hang_up()

    faulty.fail(_layer(image), falls_silent)
    assert run(faulty.add("team/app", image), limits=dataclasses.replace(QUICK, stall=0.3)).succeeded
    assert check(volume) == []
    asked = [headers.get("range") for path, headers in faulty.requests if path == _layer(image)]
    assert asked == [None, "bytes=262144-"]


@pytest.mark.parametrize("path", ["manifest", "layer"])
@pytest.mark.parametrize(("fault", "limits", "words"), [
    (faults.trickles(60), BRIEF, "does not answer in time"),
    (faults.drips(b"", b"", 60), BRIEF, "does not answer in time"),
    (faults.drips(b"HTTP/1.1 200 OK\r\nContent-Length: LENGTH\r\n\r\n", b"drop", 0.01), PACED, "sends too slowly"),
    (faults.drips(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.01), PACED, "sends too slowly"),
    (faults.drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n", 0.01), PACED, "too slowly"),
], ids=["silence in the body", "silence", "drops", "drops of headers", "drops in chunks"])
def test_whoever_keeps_a_worker_waiting_is_left(
    path: str, fault: Fault, limits: object, words: str, faulty: FaultyRegistry, run: Run, volume: Path,
    image: SmallImage,
) -> None:
    bad = _layer(image) if path == "layer" else "/v2/team/app/manifests/1"
    faulty.fail(bad, *[fault] * 9)
    other = faulty.add("team/other", SmallImage([b"other"]))
    outcome = run(faulty.add("team/app", image), other, limits=limits)
    assert [i.reason for i in outcome.images] == [Reason.TIMEOUT, None]
    assert words in outcome.images[0].message
    assert faulty.paths().count(bad) == 2
    assert check(volume) == []


def test_a_thin_line_is_served(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    """Slow, but not too slow, for several times as long as the pace is measured."""
    image = SmallImage([random.Random(5).randbytes(100_000)])

    def slow(handler: Handler, data: bytes) -> None:
        handler.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
        for start in range(0, len(data), 2000):
            handler.write(data[start:start + 2000])
            handler.client_left(0.02)

    faulty.fail(_layer(image), slow)
    assert run(faulty.add("team/app", image), limits=PACED).succeeded
    assert check(volume) == []
    assert faulty.paths().count(_layer(image)) == 1


def test_an_address_may_be_of_ipv6(
    authority: Authority, run: Run, volume: Path, image: SmallImage, tmp_path: Path,
) -> None:
    registry = FaultyRegistry(authority, tmp_path / "six", host="::1")
    try:
        assert run(registry.add("team/app", image)).succeeded
    finally:
        registry.close()
    assert check(volume) == []
    assert registry.address == f"[::1]:{registry.port}"


@pytest.mark.parametrize(("limit", "most"), [(None, 3), (2, 2), (1, 1)])
def test_a_registry_gets_so_many_connections(
    limit: int | None, most: int, faulty: FaultyRegistry, run: Run, volume: Path,
) -> None:
    """Layers that come only when as many are asked for as may be: fewer never pass, more would be counted."""
    image = SmallImage([random.Random(seed).randbytes(1000) for seed in range(6)])
    together = threading.Barrier(most)

    def waits(handler: Handler, data: bytes) -> None:
        together.wait(20)
        handler.answer(200, data)

    for place in range(6):
        faulty.fail(_layer(image, place), waits)
    limits = dataclasses.replace(QUICK, connections=limit)
    assert run(faulty.add("team/app", image), limits=limits).succeeded
    assert check(volume) == []
    assert faulty.most_connections == most


@pytest.mark.timeout(60)
def test_connections_are_given_back_whatever_happens(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    """With one connection for all, one that stays behind would hold up everything that comes after it."""
    elsewhere.documents["/token"] = ("application/json", b'{"token": "for-all"}')
    elsewhere.fail("/token", faults.answers(500), faults.ends_after(1))
    elsewhere.documents["/blob"] = ("", b"")
    faulty.fail(
        "/v2/team/app/manifests/1", faults.demands_token(f"https://{elsewhere.address}/token"), faults.answers(503),
        faults.redirects("/v2/team/app/manifests/1"), faults.raw(b"nonsense"), faults.answers(429),
    )
    faulty.fail(
        _layer(image), faults.redirects(f"https://{elsewhere.address}/gone"), faults.ends_after(300_000),
        faults.answers(416), faults.resets_after(300_000), faults.answers(206, {"Content-Range": "bytes 1-2/3"}),
    )
    limits = dataclasses.replace(QUICK, connections=1, failures_in_a_row=20)
    missing = f"{faulty.address}/team/app:missing"
    outcome = run(faulty.add("team/app", image), missing, limits=limits)
    assert [i.reason for i in outcome.images] == [None, Reason.NOT_FOUND]
    assert check(volume) == []
