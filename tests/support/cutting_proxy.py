# SPDX-License-Identifier: Apache-2.0
"""A proxy before the API server that cuts a client off at one chosen write: before it, or after it.

A signal from outside cannot hit a process between two of its requests. So the proxy stops there: from the cut on no
write passes, and the chosen one is never answered. For the API server the client is dead at that point, and whoever
runs it has all the time to make that true. tests/e2e/building/test_killed_at_each_write.py has a proxy for each life of
the operator.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn, Self

import aiohttp
import yaml
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

START_SECONDS = 10.0
CLOSE_SECONDS = 0.02  # for answers that are on their way; then connections break
WRITES = ("POST", "PUT", "PATCH", "DELETE")
# Headers that are not passed on (RFC 9110, 7.6.1). All others are as they were, the length too: nothing is decoded.
OF_ONE_CONNECTION = ("Host", "Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade")


@dataclass(frozen=True)
class ApiServer:
    """Where it listens, and by whose certificates it is believed. Rights are the client's own: headers pass."""

    url: str
    trust: ssl.SSLContext

    @classmethod
    def of(cls, kubeconfig: Path) -> Self:
        cluster = yaml.safe_load(kubeconfig.read_text())["clusters"][0]["cluster"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        return cls(cluster["server"], ssl.create_default_context(cadata=authority))


@dataclass(frozen=True, order=True)
class Request:
    """What kind of request it is: the method, and the resource with its subresource, as RBAC rules name it."""

    method: str
    resource: str

    @classmethod
    def of(cls, method: str, path: str) -> Self:
        root, *parts = path.strip("/").split("/")
        parts = parts[2 if root == "apis" else 1:]  # without the group and the version
        if parts[:1] == ["namespaces"] and len(parts) > 2:
            parts = parts[2:]
        return cls(method, "/".join([*parts[:1], *parts[2:3]]))

    @property
    def is_write(self) -> bool:
        return self.method in WRITES

    def __str__(self) -> str:
        return f"{self.method} {self.resource}"


class Cut(Enum):
    BEFORE = "before"  # the write does not reach the API server
    AFTER = "after"  # it does, and its answer reaches nobody


@dataclass(frozen=True)
class Moment:
    """Where a client can be cut off. Each write has two of them."""

    cut: Cut
    write: Request
    changed: bool = False  # whether the API server has done what was asked; before that, nobody knows

    def __str__(self) -> str:
        return f"{self.cut.value} {self.write}"


Choose = Callable[[Moment], bool | None]


class CuttingProxy:
    """Listens on loopback while its block lasts. `choose` is asked at every moment, in their order, until it cuts.

    Writes pass one at a time: what was made before the cut is a fact, however many threads the client has.
    """

    def __init__(self, server: ApiServer, choose: Choose) -> None:
        self.requests: list[Request] = []  # all that came, in order; of the writes, the last one is the one cut at
        self.cut: Moment | None = None
        self.is_cut = threading.Event()
        self.url = ""
        self._server = server
        self._choose = choose
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="cutting-proxy")
        self._opened: Future[str] = Future()
        self._closing: Callable[[], object]

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.is_write]

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = self._opened.result(START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing()
        self._thread.join()

    async def _serve(self) -> None:
        loop, closing = asyncio.get_running_loop(), asyncio.Event()
        self._closing = lambda: loop.call_soon_threadsafe(closing.set)
        self._turn = asyncio.Lock()
        unhurried = aiohttp.ClientTimeout(total=None, sock_connect=START_SECONDS)
        async with aiohttp.ClientSession(auto_decompress=False, timeout=unhurried) as self._client:
            runner = web.ServerRunner(web.Server(self._forward, access_log=None), shutdown_timeout=CLOSE_SECONDS)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0]
            self._opened.set_result(f"http://{host}:{port}")
            await closing.wait()
            await runner.cleanup()

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        kind = Request.of(request.method, request.path)
        body = await request.read()
        if not kind.is_write:
            self.requests.append(kind)
            return await self._read(request)
        await self._turn.acquire()
        self.requests.append(kind)
        before = Moment(Cut.BEFORE, kind)
        if self._choose(before):
            return await self._end(before)
        answer = await self._write(request, body)
        after = Moment(Cut.AFTER, kind, changed=answer.status < 300)
        if self._choose(after):
            return await self._end(after)
        self._turn.release()
        return answer

    async def _end(self, moment: Moment) -> NoReturn:
        """Here the chosen write waits until the proxy closes, and all others behind it: the turn is not given back."""
        self.cut = moment
        self.is_cut.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody sets this event")

    async def _write(self, request: web.BaseRequest, body: bytes) -> web.StreamResponse:
        """A write's answer, read to its end: only then is it certain that the write was made."""
        try:
            async with await self._ask(request, body) as answer:
                return web.Response(status=answer.status, headers=_passed_on(answer.headers), body=await answer.read())
        except aiohttp.ClientError as error:
            return _bad_gateway(error)

    async def _read(self, request: web.BaseRequest) -> web.StreamResponse:
        """A read's answer, passed on as it comes: a watch has no end."""
        try:
            answer = await self._ask(request, b"")
        except aiohttp.ClientError as error:
            return _bad_gateway(error)
        async with answer:
            passed = web.StreamResponse(status=answer.status, headers=_passed_on(answer.headers))
            try:
                await passed.prepare(request)
                async for chunk in answer.content.iter_any():
                    await passed.write(chunk)
            except (aiohttp.ClientError, ConnectionError):
                # One of the two ends is gone, and the other one has to see a broken connection, not an end.
                if request.transport is not None:
                    request.transport.close()
            return passed

    async def _ask(self, request: web.BaseRequest, body: bytes) -> aiohttp.ClientResponse:
        return await self._client.request(
            request.method, URL(self._server.url + request.raw_path, encoded=True), data=body or None,
            headers=_passed_on(request.headers), ssl=self._server.trust, allow_redirects=False,
        )


def _passed_on(headers: Mapping[str, str]) -> CIMultiDict[str]:
    return CIMultiDict((name, value) for name, value in headers.items() if name.title() not in OF_ONE_CONNECTION)


def _bad_gateway(error: aiohttp.ClientError) -> web.Response:
    return web.Response(status=502, text=f"the API server cannot be reached: {error}")
