# SPDX-License-Identifier: Apache-2.0
"""The proxy that cuts the operator off passes everything on as it is, and from the cut on no write at all.

Judged by a real HTTPS server on loopback, which keeps what arrived.
"""

from __future__ import annotations

import gzip
import queue
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.cutting_proxy import ApiServer, Cut, CuttingProxy, Moment, Request
from tests.support.tls import Authority

PODS = "/api/v1/namespaces/imagecache-system/pods"
SECONDS = 20.0


@dataclass(frozen=True)
class Arrived:
    line: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Upstream:
    server: ApiServer
    arrived: queue.Queue[Arrived] = field(default_factory=queue.Queue)
    answer_writes: threading.Event = field(default_factory=threading.Event)
    watched: queue.Queue[bytes] = field(default_factory=queue.Queue)  # what a watch says; b"" breaks it off

    def lines(self) -> list[str]:
        """What has arrived and was not asked for yet."""
        return [self.arrived.get().line for _ in range(self.arrived.qsize())]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: Upstream

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.upstream.arrived.put(Arrived(f"{self.command} {self.path}", dict(self.headers), body))
        if "watch=true" in self.path:
            self.watch()
            return
        if self.command != "GET":
            self.upstream.answer_writes.wait(SECONDS)
        self.send_response(409 if self.command == "PUT" else 201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Warning", '299 - "said by the server"')
        self.send_header("Content-Encoding", "gzip")
        echo = gzip.compress(b"echo:" + body)
        self.send_header("Content-Length", str(len(echo)))
        self.end_headers()
        self.wfile.write(echo)

    def watch(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while part := self.upstream.watched.get(timeout=SECONDS):
            self.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        self.close_connection = True  # and no last chunk: for the client that is a break, not an end

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def upstream(authority: Authority, tmp_path: Path) -> Iterator[Upstream]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue(["127.0.0.1"], tmp_path / "tls"))

    class OfThisTest(Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), OfThisTest) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        trust = ssl.create_default_context(cafile=str(authority.ca_file))
        OfThisTest.upstream = Upstream(ApiServer(f"https://127.0.0.1:{server.server_address[1]}", trust))
        OfThisTest.upstream.answer_writes.set()
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield OfThisTest.upstream
        server.shutdown()
        thread.join()


def send(proxy: CuttingProxy, method: str, path: str, body: bytes = b"", **headers: str) -> HTTPConnection:
    """The request is on its way when this returns. Its answer, if one comes: `getresponse`."""
    connection = HTTPConnection(proxy.url.removeprefix("http://"), timeout=SECONDS)
    connection.request(method, path, body or None, headers)
    return connection


def status(connection: HTTPConnection) -> int:
    return connection.getresponse().status


def never(moment: Moment) -> bool:
    return False


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_everything_is_passed_on_as_it_is(upstream: Upstream, method: str) -> None:
    path = f"{PODS}/a%2Fb?labelSelector=a%3Db%2Cc%3Dd&limit=500&fieldManager=x"
    body = b"" if method == "GET" else b'{"kind": "Pod"}'
    with CuttingProxy(upstream.server, never) as proxy:
        headers = {"Authorization": "Bearer secret", "Content-Type": "application/apply-patch+yaml"}
        answer = send(proxy, method, path, body, **headers).getresponse()
        assert answer.status == (409 if method == "PUT" else 201)
        assert (answer.headers["Content-Encoding"], gzip.decompress(answer.read())) == ("gzip", b"echo:" + body)
        assert answer.headers["Warning"] == '299 - "said by the server"'
        assert answer.headers["Content-Type"] == "application/json"
    arrived = upstream.arrived.get()
    assert (arrived.line, arrived.body) == (f"{method} {path}", body)
    assert headers.items() <= arrived.headers.items()
    assert f"https://{arrived.headers['Host']}" == upstream.server.url
    assert upstream.lines() == []


def test_a_watch_is_passed_on_as_it_comes(upstream: Upstream) -> None:
    with CuttingProxy(upstream.server, never) as proxy:
        watch = send(proxy, "GET", f"{PODS}?watch=true").getresponse()
        for part in (b"first\n", b"second\n"):
            upstream.watched.put(part)
            assert watch.read1() == part
            assert status(send(proxy, "POST", PODS)) == 201  # others pass while it is open
        upstream.watched.put(b"")
        with pytest.raises((HTTPException, ConnectionError)):
            watch.read1()


def test_an_open_watch_breaks_when_the_proxy_closes(upstream: Upstream) -> None:
    with CuttingProxy(upstream.server, never) as proxy:
        watch = send(proxy, "GET", f"{PODS}?watch=true").getresponse()
        upstream.watched.put(b"first\n")
        assert watch.read1() == b"first\n"
    with pytest.raises((HTTPException, ConnectionError)):
        watch.read1()
    upstream.watched.put(b"")


@pytest.mark.parametrize("cut", Cut)
def test_no_write_passes_from_the_cut_on(upstream: Upstream, cut: Cut) -> None:
    with CuttingProxy(upstream.server, lambda m: (m.cut, m.write.method) == (cut, "PATCH")) as proxy:
        assert status(send(proxy, "POST", PODS)) == 201
        assert not proxy.is_cut.is_set()
        chosen = send(proxy, "PATCH", f"{PODS}/a")
        assert proxy.is_cut.wait(SECONDS)
        later = send(proxy, "DELETE", f"{PODS}/a")
        assert status(send(proxy, "GET", f"{PODS}/a")) == 201, "reads do no harm"
    for unanswered in (chosen, later):
        with pytest.raises((HTTPException, ConnectionError)):
            unanswered.getresponse()
    arrived = [f"PATCH {PODS}/a"] if cut is Cut.AFTER else []
    assert upstream.lines() == [f"POST {PODS}", *arrived, f"GET {PODS}/a"]
    assert proxy.cut == Moment(cut, Request("PATCH", "pods"), changed=cut is Cut.AFTER)
    assert proxy.writes == [Request("POST", "pods"), Request("PATCH", "pods")]
    assert proxy.requests == [*proxy.writes, Request("GET", "pods")]


def test_it_asks_before_and_after_each_write(upstream: Upstream) -> None:
    asked: list[Moment] = []

    def choose(moment: Moment) -> bool:
        asked.append(moment)
        return False

    with CuttingProxy(upstream.server, choose) as proxy:
        for method in ("POST", "GET", "PUT"):
            send(proxy, method, PODS).getresponse()
    post, put = Request("POST", "pods"), Request("PUT", "pods")
    assert asked == [
        Moment(Cut.BEFORE, post), Moment(Cut.AFTER, post, changed=True),
        Moment(Cut.BEFORE, put), Moment(Cut.AFTER, put, changed=False),  # a conflict, says the server
    ]


def test_writes_pass_one_at_a_time(upstream: Upstream) -> None:
    upstream.answer_writes.clear()
    with CuttingProxy(upstream.server, never) as proxy:
        first = send(proxy, "POST", f"{PODS}?first")
        assert upstream.arrived.get(timeout=SECONDS).line == f"POST {PODS}?first"
        second = send(proxy, "POST", f"{PODS}?second")
        assert status(send(proxy, "GET", PODS)) == 201
        assert upstream.lines() == [f"GET {PODS}"], "the second write waits"
        upstream.answer_writes.set()
        assert (status(first), status(second)) == (201, 201)
    assert upstream.lines() == [f"POST {PODS}?second"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_server_that_does_not_answer_is_said_so(authority: Authority, method: str) -> None:
    trust = ssl.create_default_context(cafile=str(authority.ca_file))
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as gone:
        address = f"https://127.0.0.1:{gone.server_address[1]}"
    with CuttingProxy(ApiServer(address, trust), never) as proxy:
        assert status(send(proxy, method, PODS)) == 502


def test_a_server_of_another_authority_is_not_believed(upstream: Upstream, tmp_path: Path) -> None:
    other = ssl.create_default_context(cafile=str(Authority.create(tmp_path).ca_file))
    with CuttingProxy(ApiServer(upstream.server.url, other), never) as proxy:
        assert status(send(proxy, "GET", PODS)) == 502
    assert upstream.lines() == []


@pytest.mark.parametrize(("path", "resource"), [
    ("/api/v1/nodes", "nodes"),
    ("/api/v1/namespaces/kube-system", "namespaces"),
    (PODS, "pods"),
    (f"{PODS}/a", "pods"),
    (f"{PODS}/a/log", "pods/log"),
    ("/apis/imagecache.dev/v1alpha1/imagecaches", "imagecaches"),
    ("/apis/imagecache.dev/v1alpha1/imagecaches/ml/status", "imagecaches/status"),
    ("/apis/apps/v1/namespaces/x/deployments/y/scale", "deployments/scale"),
    ("/version", ""),
])
def test_requests_are_told_apart_by_resource(path: str, resource: str) -> None:
    assert Request.of("GET", path) == Request("GET", resource)
