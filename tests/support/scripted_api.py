# SPDX-License-Identifier: Apache-2.0
"""An API server that says what a test has written down: the lists and watches of ImageCaches, one after the other.

For what a real one does only when it is in trouble: versions that are too old, watches that break off in the middle of
a line; and for programs that need no more of a cluster. Watches are chunked like the real ones. When the script is
over, the last list stays, and watches stay open. Beside them it has namespaces, of which nothing new ever happens.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from imagecache_operator.cluster import watching
from kubernetes import client


@dataclass(frozen=True)
class Answer:
    """To one request: `body` to a list, `chunks` to a watch; `cut` breaks the connection after them."""

    status: int = 200
    body: Any = None
    chunks: tuple[bytes, ...] = ()
    cut: bool = False


def listed(version: str, *objects: dict[str, Any]) -> Answer:
    return Answer(body={"metadata": {"resourceVersion": version}, "items": list(objects)})


def event(kind: str, obj: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": obj}).encode() + b"\n"


def watched(*events: bytes, cut: bool = False) -> Answer:
    return Answer(chunks=events, cut=cut)


@dataclass
class ScriptedApi:
    """`lists` and `watches` are answered in this order; `asked` are the versions that watches began from, `selectors`
    what all of them selected, `accepted` what these and lists accepted. `namespaces` are their labels by name; nobody
    may read those in `forbidden`. `instead` is the answer to a list of them, where there is one."""

    lists: list[Answer]
    watches: list[Answer]
    url: str = ""
    asked: list[str] = field(default_factory=list)
    selectors: set[str] = field(default_factory=set)
    accepted: set[str] = field(default_factory=set)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    instead: Answer | None = None
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def configuration(self) -> client.Configuration:
        return client.Configuration(host=self.url)

    @property
    def kubeconfig(self) -> str:
        """The text of a file for KUBECONFIG."""
        return json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url}}], "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        })

    def namespace(self, name: str) -> Answer:
        if name in self.forbidden:
            return Answer(403, {"message": f'namespaces "{name}" is forbidden: User "ann" cannot get resource'})
        if name not in self.namespaces:
            return Answer(404, {"message": f'namespaces "{name}" not found'})
        return Answer(body=self._namespace(name))

    def all_namespaces(self) -> Answer:
        return self.instead or listed("1", *map(self._namespace, self.namespaces))

    def _namespace(self, name: str) -> dict[str, Any]:
        return {"metadata": {"name": name, "uid": f"uid-of-{name}", "labels": self.namespaces[name]}}

    def next_list(self) -> Answer:
        return self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]

    def next_watch(self, version: str) -> Answer | None:
        self.asked.append(version)
        return self.watches.pop(0) if self.watches else None


@contextmanager
def running(lists: list[Answer], *watches: Answer) -> Iterator[ScriptedApi]:
    script = ScriptedApi(lists, list(watches))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, query = urlsplit(self.path).path, parse_qs(urlsplit(self.path).query)
            if path.startswith("/api/v1/namespaces/"):
                self._whole(script.namespace(path.rpartition("/")[2]))
                return
            namespaces = path == "/api/v1/namespaces"
            if not namespaces:
                script.accepted.add(self.headers["Accept"])
            if "watch" not in query:
                self._whole(script.all_namespaces() if namespaces else script.next_list())
                return
            script.selectors.update(query.get("labelSelector", [""]))
            answer = None if namespaces else script.next_watch(query["resourceVersion"][0])
            if answer is not None and answer.status != 200:
                self._whole(answer)
                return
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if answer is None:
                self.wfile.flush()
                script.over.wait(60)
                self.close_connection = True
                return
            for chunk in answer.chunks:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk))
            if answer.cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def _whole(self, answer: Answer) -> None:
            body = json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield script
    finally:
        script.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def in_a_thread(
    api: ScriptedApi, monkeypatch: pytest.MonkeyPatch, follow: Callable[[threading.Event], object],
) -> Iterator[None]:
    """`follow` runs, with short pauses after trouble, until it is told to stop; and then it has to."""
    monkeypatch.setattr(watching, "PAUSES", (0.01, 0.02))
    stop = threading.Event()
    thread = threading.Thread(target=follow, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        api.over.set()
        thread.join(20)
        assert not thread.is_alive(), "it ends with the watch that it is in"
