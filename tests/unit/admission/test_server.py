# SPDX-License-Identifier: Apache-2.0
"""The HTTPS server over the loopback, with real certificates, which are swapped while it answers."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.hazmat.primitives.serialization import load_pem_private_key as load_key
from imagecache_operator.admission.certificates import Certificates
from imagecache_operator.admission.server import LARGEST_BODY, Intervals, serve
from imagecache_operator.admission.store import Store

from tests.support.tls import Authority
from tests.unit.admission.test_review import review
from tests.unit.planning.offers import GIB, TRAIN, cache, pod

SOON = Intervals(missing=0.01, present=0.01)
HOST = "127.0.0.1"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def put(authority: Authority, folder: Path, version: str) -> int:
    """A new pair as kubelet mounts a Secret: behind a link that is swapped at once. Its serial number."""
    certificate, key = authority.issue([HOST], folder / f"..{version}-issued")
    real = folder / f"..{version}"
    real.mkdir()
    shutil.copy(certificate, real / "tls.crt")
    shutil.copy(key, real / "tls.key")
    link = folder / "..data-new"
    link.symlink_to(real.name)
    link.replace(folder / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    return x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number


class Caller:
    """The API server's side: it trusts one authority, and asks over a new connection each time."""

    def __init__(self, port: int, authority: Authority, metrics_port: int) -> None:
        self.url = f"https://{HOST}:{port}"
        self.metrics_url = f"http://{HOST}:{metrics_port}"
        self._port = port
        self._context = ssl.create_default_context(cafile=str(authority.ca_file))

    async def ask(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        method = "GET" if body is None else "POST"
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=self._context, force_close=True)) as session,
            session.request(method, self.url + path, data=body) as answer,
        ):
            return answer.status, await answer.text()

    async def metrics(self, path: str = "/metrics") -> tuple[int, str]:
        """What is served without TLS; (0, "") while nobody listens."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self.metrics_url + path) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientConnectorError:
            return 0, ""

    async def raw(self, sent: bytes, tls: bool) -> bytes:
        """What comes back for these bytes, until the other side has had enough."""
        reader, writer = await asyncio.open_connection(HOST, self._port, ssl=self._context if tls else None)
        writer.write(sent)
        if writer.can_write_eof():
            writer.write_eof()
        try:
            return await reader.read()
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    async def abandon(self, sent: bytes) -> None:
        """Hang up after these bytes."""
        _, writer = await asyncio.open_connection(HOST, self._port, ssl=self._context)
        writer.write(sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def serial(self) -> int | None:
        """Of the certificate that is served; None while nobody listens."""
        try:
            _, writer = await asyncio.open_connection(HOST, self._port, ssl=self._context)
        except ConnectionRefusedError:
            return None
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(der).serial_number


async def until(wanted: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await wanted():
            await asyncio.sleep(0.01)


def known(*caches: dict[str, Any]) -> Store:
    store = Store()
    store.namespaces.replace([{"metadata": {"name": "team-a", "uid": "1", "labels": {"tier": "gold"}}}])
    store.caches.replace(list(caches))
    return store


def run(folder: Path, authority: Authority, store: Store, talk: Callable[[Caller], Awaitable[None]]) -> None:
    """`talk` with the server, which then ends by SIGTERM as in a Pod."""

    async def main() -> None:
        port, metrics_port = free_port(), free_port()
        server = asyncio.create_task(serve(
            store, Certificates(folder), port, metrics_port, host=HOST, intervals=SOON,
        ))
        try:
            await talk(Caller(port, authority, metrics_port))
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            async with asyncio.timeout(20):
                await server

    asyncio.run(main())


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "authority")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tls"
    made.mkdir()
    return made


def test_pods_that_ask_and_pods_of_namespaces_that_ask(authority: Authority, folder: Path) -> None:
    serial = put(authority, folder, "1")

    async def talk(caller: Caller) -> None:
        async def answering() -> bool:
            return await caller.serial() == serial

        await until(answering)
        asks, silent = json.dumps(review(pod(TRAIN))).encode(), json.dumps(review(pod(TRAIN, asks=None))).encode()
        for path, body, patched in [
            ("/mutate", asks, True), ("/mutate", silent, False), ("/mutate/auto", silent, True),
            ("/mutate?timeout=2s", asks, True), ("/mutate/auto?timeout=2s", silent, True),
        ]:
            status, text = await caller.ask(path, body)
            assert (status, "patch" in json.loads(text)["response"]) == (200, patched), path
        assert await caller.ask("/healthz") == (200, "ok\n")

    run(folder, authority, known(cache("ml", TRAIN)), talk)


def test_before_the_caches_are_known_pods_pass_and_probes_fail(authority: Authority, folder: Path) -> None:
    serial, store = put(authority, folder, "1"), Store()

    async def talk(caller: Caller) -> None:
        async def answering() -> bool:
            return await caller.serial() == serial

        await until(answering)
        assert await caller.ask("/healthz") == (503, "caches and namespaces are not known yet\n")
        status, text = await caller.ask("/mutate", json.dumps(review(pod(TRAIN))).encode())
        assert (status, sorted(json.loads(text)["response"])) == (200, ["allowed", "uid"])
        store.caches.replace([])
        assert (await caller.ask("/healthz"))[0] == 503, "namespaces are not known"
        store.namespaces.replace([])
        assert (await caller.ask("/healthz"))[0] == 200

    run(folder, authority, store, talk)


def test_garbage_is_told_and_hurts_nobody(
    authority: Authority, folder: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    serial = put(authority, folder, "1")

    async def talk(caller: Caller) -> None:
        async def answering() -> bool:
            return await caller.serial() == serial

        await until(answering)
        assert await caller.ask("/mutate", b"[" * 100_000) == (400, "The body is not JSON.\n")
        assert (await caller.ask("/mutate", b" " * (LARGEST_BODY + 1)))[0] == 413
        assert (await caller.ask("/mutate", b"{}" + b" " * (LARGEST_BODY - 2)))[0] == 400
        assert (await caller.ask("/mutate"))[0] == 405
        assert (await caller.ask("/nothing"))[0] == 404
        for sent in (b"GET / HTTP/1.1\r\n\r\n", b"\x00" * 300):
            await caller.raw(sent, tls=False)
        for sent in (b"\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"POST /mutate HTTP/1.1\r\nContent-Length: x\r\n\r\n",
                     b"GET /" + b"a" * 100_000):
            assert (await caller.raw(sent, tls=True))[:13].endswith(b" 400 "), sent[:60]
        head = b"POST /mutate HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        packed = await caller.raw(head + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", tls=True)
        assert packed.endswith(b"The body is not JSON.\n")
        chunks = await caller.raw(head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", tls=True)
        assert chunks[:13].endswith(b" 400 ")
        await caller.abandon(head + b"Content-Length: 300\r\n\r\nabc")
        assert (await caller.ask("/mutate", json.dumps(review(pod(TRAIN))).encode()))[0] == 200

    run(folder, authority, known(), talk)
    assert "Traceback" not in caplog.text


def test_a_certificate_is_waited_for_and_a_new_one_is_served_without_a_restart(
    authority: Authority, folder: Path,
) -> None:
    async def talk(caller: Caller) -> None:
        assert await caller.serial() is None
        serials = []
        for version in ("1", "2", "3"):
            serials.append(put(authority, folder, version))

            async def renewed() -> bool:
                return await caller.serial() == serials[-1]

            await until(renewed)
        assert len(set(serials)) == 3

    run(folder, authority, known(), talk)


def test_a_pair_that_does_not_fit_changes_nothing(
    authority: Authority, folder: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    serial = put(authority, folder, "1")
    certificates = Certificates(folder)
    assert certificates.load()
    foreign, _ = authority.issue([HOST], folder / "foreign")
    kept = (folder / "tls.crt").read_bytes()

    async def talk(caller: Caller) -> None:
        async def answering() -> bool:
            return await caller.serial() == serial

        await until(answering)
        shutil.copy(foreign, folder / "..1" / "tls.crt")
        assert certificates.load(), "the earlier one is served on"

        async def complained() -> bool:
            return "cannot be used: KEY_VALUES_MISMATCH" in caplog.text

        await until(complained)
        assert await caller.serial() == serial
        (folder / "..1" / "tls.crt").write_bytes(kept)
        assert await caller.serial() == serial

    run(folder, authority, known(), talk)


def broken_pairs(authority: Authority, folder: Path) -> dict[str, tuple[bytes, bytes]]:
    certificate, key = (path.read_bytes() for path in authority.issue([HOST], folder))
    locked = load_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    return {
        "empty": (b"", b""), "no PEM": (b"x", b"y"), "key alone": (key, key), "locked": (certificate, locked),
        "half": (certificate[: len(certificate) // 2], key),
    }


@pytest.mark.parametrize("kind", ["empty", "no PEM", "key alone", "locked", "half"])
def test_a_broken_pair_is_told_without_what_is_in_it(
    kind: str, authority: Authority, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture,
) -> None:
    certificate, key = broken_pairs(authority, tmp_path / "issued")[kind]
    (folder / "tls.crt").write_bytes(certificate)
    (folder / "tls.key").write_bytes(key)
    assert not Certificates(folder).load()
    assert "cannot be used: " in caplog.text
    assert "BEGIN" not in caplog.text


def test_files_that_are_links_to_other_names_are_read(authority: Authority, folder: Path, tmp_path: Path) -> None:
    certificate, key = authority.issue([HOST], tmp_path / "issued")
    (folder / "tls.crt").symlink_to(certificate)
    assert not Certificates(folder).load()
    (folder / "tls.key").symlink_to(key)
    assert Certificates(folder).load()


def values(text: str) -> dict[str, float]:
    """The samples that are not 0, but for those that are about time."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines if float(value) and "seconds" not in name}


def test_what_it_answers_is_counted_and_served_without_tls(authority: Authority, folder: Path) -> None:
    async def talk(caller: Caller) -> None:
        async def exposed() -> bool:
            return (await caller.metrics())[0] == 200

        await until(exposed)  # with no certificate yet
        assert values((await caller.metrics())[1]) == {}
        serial = put(authority, folder, "1")

        async def answering() -> bool:
            return await caller.serial() == serial

        await until(answering)
        for asks in ("ml", "ml", "nobody", "none"):
            await caller.ask("/mutate", json.dumps(review(pod(TRAIN, asks=asks))).encode())
        await caller.ask("/mutate", b"no review")
        _, text = await caller.metrics()
        assert values(text) == {
            'imagecache_pods_total{result="hit"}': 2, 'imagecache_pods_total{result="miss"}': 1,
            'imagecache_pods_total{result="left_alone"}': 1, 'imagecache_misses_total{reason="no_such_cache"}': 1,
            "imagecache_matched_bytes_total": 2 * GIB,
        }
        assert "imagecache_admission_seconds_count 4.0" in text.splitlines()
        for path in ("/", "/healthz", "/mutate"):
            assert (await caller.metrics(path))[0] == 404, path
        assert (await caller.ask("/metrics"))[0] == 404

    run(folder, authority, known(cache("ml", TRAIN)), talk)
