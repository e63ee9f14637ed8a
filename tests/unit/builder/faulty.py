# SPDX-License-Identifier: Apache-2.0
"""A registry that misbehaves on command, over real HTTPS (or HTTP, without an authority), and small images for it.

A test says which request goes wrong and how; everything else is answered as a registry would.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import select
import socket
import socketserver
import ssl
import struct
import termios
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.tls import Authority

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"

Fault = Callable[["Handler", bytes], None]


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _gzip(data: bytes) -> bytes:
    """Without the time, so that the same layer twice has one digest."""
    return gzip.compress(data, mtime=0)


@dataclass
class SmallImage:
    """An image in memory. Change `manifest` or `config` and call `refresh` for one that lies."""

    layers: Sequence[bytes]
    compress: Callable[[bytes], bytes] = _gzip
    architecture: str = "amd64"
    config: dict[str, Any] = field(default_factory=dict)
    manifest: dict[str, Any] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        packed = [self.compress(layer) for layer in self.layers]
        self.blobs = {sha256(layer): layer for layer in packed}
        self.config = {
            "os": "linux", "architecture": self.architecture,
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in self.layers]},
        }
        kind = "application/vnd.oci.image.layer.v1.tar+gzip"
        self.manifest = {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "layers": [{"mediaType": kind, "digest": sha256(b), "size": len(b)} for b in packed],
        }
        self.refresh()

    def refresh(self) -> None:
        """Puts the config, as it is now, into the manifest."""
        body = json.dumps(self.config).encode()
        self.blobs[sha256(body)] = body
        self.manifest["config"] = {
            "mediaType": "application/vnd.oci.image.config.v1+json", "digest": sha256(body), "size": len(body),
        }

    @property
    def body(self) -> bytes:
        return json.dumps(self.manifest).encode()

    @property
    def diff_ids(self) -> list[str]:
        return list(self.config["rootfs"]["diff_ids"])

    @property
    def layer_digests(self) -> list[str]:
        return [layer["digest"] for layer in self.manifest["layers"]]


class FaultyRegistry:
    """`script` maps a request's path to the faults of its next requests; `requests` is what came, in order.

    `certificate` (its file, and its key's) is another than one for loopback that the authority has issued;
    `most_connections` is how many were open at one time.
    """

    def __init__(
        self, authority: Authority | None, folder: Path, host: str = "127.0.0.1",
        certificate: tuple[Path, Path] | None = None,
    ) -> None:
        self.documents: dict[str, tuple[str, bytes]] = {}
        self.script: dict[str, list[Fault]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.judge: Callable[[Handler], int] = lambda handler: 200
        self.demand: dict[str, str] = {}
        self.lock = threading.Lock()
        self.connections = self.most_connections = 0
        family = {"address_family": socket.AF_INET6 if ":" in host else socket.AF_INET}
        server = type("Server", (_Server,), family)
        self._server = server((host, 0), type("BoundHandler", (Handler,), {"registry": self}))
        if authority:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*(certificate or authority.issue(["127.0.0.1", "::1", "localhost"], folder)))
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False,
            )
        self.port: int = self._server.server_address[1]
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, name: str, image: SmallImage, tag: str = "1") -> str:
        """Puts the image there; returns its reference."""
        for digest, data in image.blobs.items():
            self.documents[f"/v2/{name}/blobs/{digest}"] = ("application/octet-stream", data)
        for key in (tag, sha256(image.body)):
            self.documents[f"/v2/{name}/manifests/{key}"] = (OCI_MANIFEST, image.body)
        return f"{self.address}/{name}:{tag}"

    def fail(self, path: str, *faults: Fault) -> None:
        self.script.setdefault(path, []).extend(faults)

    def guard(self, judge: Callable[[Handler], int], demand: dict[str, str]) -> None:
        """`judge` says with which status a request is answered, 200 for what it may have; `demand` goes with a 401."""
        self.judge, self.demand = judge, demand

    def paths(self) -> list[str]:
        return [path for path, _ in self.requests]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    server_bind = socketserver.TCPServer.server_bind  # HTTPServer's would look up a name for the address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Broken connections are the subject here, not news."""


class Handler(BaseHTTPRequestHandler):
    registry: FaultyRegistry
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        with self.registry.lock:
            self.registry.connections += 1
            self.registry.most_connections = max(self.registry.most_connections, self.registry.connections)

    def finish(self) -> None:
        with self.registry.lock:
            self.registry.connections -= 1
        super().finish()

    def do_POST(self) -> None:
        self.do_GET(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def do_GET(self, form: bytes = b"") -> None:
        path = self.path.partition("?")[0]
        with self.registry.lock:
            seen = {k.lower(): v for k, v in self.headers.items()} | ({"body": form.decode()} if form else {})
            self.registry.requests.append((self.path, seen))
            faults = self.registry.script.get(path, [])
            fault = faults.pop(0) if faults else None
        kind, data = self.registry.documents.get(path, ("", b""))
        status = self.registry.judge(self)
        if status != 200:
            self.answer(status, b"{}", self.registry.demand if status == 401 else {})
        elif fault:
            fault(self, data)
        elif not kind:
            self.answer(404, b"{}")
        else:
            self.whole_or_range(kind, data)

    def whole_or_range(self, kind: str, data: bytes) -> None:
        wanted = self.headers.get("Range")
        if not wanted:
            self.answer(200, data, {"Content-Type": kind})
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        self.answer(206, data[start:], {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if cut is None else body[:cut])

    def write(self, *parts: bytes) -> None:
        """Puts the bytes on the wire at once, as they are."""
        for part in parts:
            self.wfile.write(part)
            self.wfile.flush()

    def hang_up(self) -> None:
        """Nothing more comes on this connection."""
        self.close_connection = True

    def client_left(self, seconds: float) -> bool:
        """Whether the client closes the connection before so many seconds are over."""
        return bool(select.select([self.connection], [], [], seconds)[0])

    def log_message(self, *_: Any) -> None:
        """The test's output is for failures."""


def answers(status: int, headers: dict[str, str] | None = None, body: bytes = b"{}") -> Fault:
    return lambda handler, _: handler.answer(status, body, headers)


def redirects(target: str) -> Fault:
    return answers(307, {"Location": target}, b"")


def resets_after(count: int) -> Fault:
    """The connection ends with a TCP reset after that many bytes of the body."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.answer(200, data, cut=count)
        _wait_until_received(handler.connection)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.connection.close()
        handler.hang_up()

    return fault


def ends_after(count: int) -> Fault:
    """A clean end of the connection, too early."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.answer(200, data, {"Connection": "close"}, cut=count)
        handler.hang_up()

    return fault


def ignores_range() -> Fault:
    return lambda handler, data: handler.answer(200, data)


def sends(body: bytes) -> Fault:
    return lambda handler, _: handler.answer(200, body)


def raw(*parts: bytes) -> Fault:
    """These bytes instead of an answer, and the end of the connection."""

    def fault(handler: Handler, _: bytes) -> None:
        handler.write(*parts)
        handler.hang_up()

    return fault


def trickles(seconds: float) -> Fault:
    """Nearly silent: one byte, then nothing until the client gives up, or for that long."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.answer(200, data, cut=1)
        handler.client_left(seconds)
        handler.hang_up()

    return fault


def drips(first: bytes, drop: bytes, pause: float) -> Fault:
    """A drop, a pause, a drop, … for as long as the client listens; LENGTH in `first` is the document's."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.hang_up()
        handler.write(first.replace(b"LENGTH", b"%d" % len(data)))
        with contextlib.suppress(OSError):
            while not handler.client_left(pause):
                handler.write(drop)

    return fault


def demands_token(realm: str) -> Fault:
    value = f'Bearer realm="{realm}",service="registry",scope="repository:team/app:pull"'
    return answers(401, {"WWW-Authenticate": value})


def _wait_until_received(connection: socket.socket) -> None:
    """Bytes that the other side does not have yet would be thrown away by a reset."""
    end = time.monotonic() + 10
    while fcntl.ioctl(connection, termios.TIOCOUTQ, b"    ") != b"\0\0\0\0" and time.monotonic() < end:
        time.sleep(0.001)
