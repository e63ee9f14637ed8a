# SPDX-License-Identifier: Apache-2.0
"""A forward proxy as companies have them, on loopback, for `test_transport_proxy.py`: by HTTP or TLS, with or without
a password, willing or not."""

from __future__ import annotations

import contextlib
import http.client
import select
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.tls import Authority


class Proxy:
    """Opens tunnels and forwards plain requests; `routes` says where a host really is. `asked` is what came."""

    def __init__(self, authority: Authority | None = None, folder: Path | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.routes: dict[str, str] = {}
        self.wants: str | None = None
        self.refusal = 0
        self.open = threading.Event()  # else it only listens
        self.open.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        if authority and folder:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*authority.issue(["127.0.0.1"], folder))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.open.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    proxy: Proxy
    protocol_version = "HTTP/1.1"

    def do_CONNECT(self) -> None:
        if not self._may():
            return
        with socket.create_connection(self._place(self.path)) as there:
            self.send_response(200)
            self.end_headers()
            self._pump(there)
        self.close_connection = True

    def do_GET(self) -> None:
        if not self._may():
            return
        host, _, path = self.path.removeprefix("http://").partition("/")
        there = http.client.HTTPConnection(*self._place(host))
        there.request("GET", f"/{path}", headers=dict(self.headers.items()))
        answer = there.getresponse()
        self._reply(answer.status, answer.read(), answer.getheader("Content-Type", ""))
        there.close()

    def _may(self) -> bool:
        self.proxy.asked.append((self.command, self.path))
        self.proxy.open.wait(20)
        if self.proxy.wants and self.headers.get("Proxy-Authorization") != self.proxy.wants:
            self._reply(407)
        elif self.proxy.refusal:
            self._reply(self.proxy.refusal)
        else:
            return True
        return False

    def _reply(self, status: int, body: bytes = b"", kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def _place(self, host: str) -> tuple[str, int]:
        name, _, port = self.proxy.routes.get(host, host).rpartition(":")
        return name, int(port)

    def _pump(self, there: socket.socket) -> None:
        here = self.connection
        with contextlib.suppress(OSError):
            while True:
                pending = isinstance(here, ssl.SSLSocket) and here.pending()
                for source in [here] if pending else select.select([here, there], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    (there if source is here else here).sendall(data)

    def log_message(self, *_: Any) -> None:
        """The test's output is for failures."""
