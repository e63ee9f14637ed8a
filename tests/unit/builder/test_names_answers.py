# SPDX-License-Identifier: Apache-2.0
"""Registries and token services whose headers and errors would be a path, a header, a second line: nothing of them
reaches a file, a request, a log or the report, and every one of them ends with a reason."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from imagecache_operator.api.credentials import Credential, Credentials
from imagecache_operator.api.reasons import Reason

from .conftest import Run
from .content import Bench, named, packed
from .faulty import OCI_MANIFEST, Fault, FaultyRegistry, SmallImage, raw

# What a server may put on the wire: any bytes, and a line that goes on after a line break and a blank.
TEXTS = {
    "parent": b"../../../../etc/passwd",
    "absolute": b"/etc/passwd",
    "nul": b"a\0b",
    "folded": b"a\r\n X-Injected: yes",
    "second header": b"a\r\nX-Injected: yes",
    "bare line feed": b"a\n X-Injected: yes",
    "second answer": b"a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "escapes": b"\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b0m\x7f",
    "bidi": "\u202egpj.exe\u2066\u2069".encode(),
    "no utf-8": b"\xff\xfe\xc3\x28",
    "quotes": b'"a\\"b\\',
    "json": b'"}],"x":["',
    "brackets": b"https://[::1",
    "odd brackets": b"http://[]http://%",
    "no brackets": b"https://]:70000/",
    "port": b"https://127.0.0.1:99999999999/",
    "userinfo": b"https://user:pass@127.0.0.1@[x]/",
    "file": b"file:///etc/passwd",
    "number": b"9" * 5_000,
    "date": b"Mon, 01 Jan 99999 00:00:00 GMT",
    "commas": b",=," * 5_000,
    "long": b"x" * 60_000,
    "megabyte": b"x" * 1_000_000,
}


@pytest.fixture
def bench(faulty: FaultyRegistry, run: Run, volume: Path, output: io.StringIO) -> Bench:
    return Bench(faulty, run, volume, output)


def answer(status: int, *headers: bytes, body: bytes = b"") -> Fault:
    return raw(b"HTTP/1.1 %d " % status, b"\r\n".join([b"No", *headers, b"Content-Length: %d" % len(body), b"", body]))


ANSWERS: dict[str, Callable[[bytes], Fault]] = {
    "phrase": lambda text: raw(b"HTTP/1.1 404 " + text + b"\r\nContent-Length: 0\r\n\r\n"),
    "status": lambda text: raw(b"HTTP/1.1 " + text + b"\r\n\r\n"),
    "protocol": lambda text: raw(text + b" 200 OK\r\n\r\n"),
    "header": lambda text: answer(404, text + b": x"),
    "error 400": lambda text: answer(400, body=text),
    "error 403": lambda text: answer(403, b"Content-Type: application/json", body=b'{"errors": [' + text + b"]}"),
    "error 404": lambda text: answer(404, b"X-Reason: " + text, body=text),
    "error 429": lambda text: answer(429, b"Retry-After: " + text, body=text),
    "error 500": lambda text: answer(500, b"Server: " + text, body=text),
    "redirect": lambda text: answer(307, b"Location: " + text),
    "redirect below": lambda text: answer(307, b"Location: /v2/" + text),
    "redirect elsewhere": lambda text: answer(307, b"Location: https://127.0.0.1:1/" + text),
    "challenge": lambda text: answer(401, b"WWW-Authenticate: " + text),
    "scheme": lambda text: answer(401, b"WWW-Authenticate: " + text + b' realm="https://127.0.0.1:1/"'),
    "basic": lambda text: answer(401, b'WWW-Authenticate: Basic realm="' + text + b'"'),
    "realm": lambda text: answer(401, b'WWW-Authenticate: Bearer realm="' + text + b'",service="s"'),
    "realm unquoted": lambda text: answer(401, b"WWW-Authenticate: Bearer realm=" + text),
    "length": lambda text: raw(b"HTTP/1.1 200 OK\r\nContent-Length: " + text + b"\r\n\r\n{}"),
    "encoding": lambda text: raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: " + text + b"\r\n\r\n{}"),
    "chunk": lambda text: raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + text + b"\r\n{}"),
    "body": lambda text: answer(200, b"Content-Type: " + OCI_MANIFEST.encode(), body=text),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_a_registry_that_answers_so(what: str, bench: Bench) -> None:
    references = {}
    for name, text in TEXTS.items():
        references[name] = f"{bench.faulty.address}/{named(name)}:1"
        bench.faulty.fail(f"/v2/{named(name)}/manifests/1", *[ANSWERS[what](text)] * 20)
    _check(bench, references)


@pytest.mark.parametrize("header", ["Content-Type", "Docker-Content-Digest", "Content-Encoding", "Content-Range", "X"])
def test_an_image_beside_odd_headers(header: str, bench: Bench) -> None:
    """The document is right; whether the image is taken depends on what the header means."""
    image = SmallImage([b"a layer"], compress=packed)
    references = {}
    for name, text in TEXTS.items():
        references[name] = bench.faulty.add(named(name), image)
        fault = answer(200, f"{header}: ".encode() + text, body=image.body)
        bench.faulty.fail(f"/v2/{named(name)}/manifests/1", *[fault] * 20)
    _check(bench, references, may_succeed=True)


@pytest.mark.parametrize("part", ["service", "scope", "path of the realm", "query of the realm"])
def test_what_goes_to_the_token_service(part: str, bench: Bench) -> None:
    references = {}
    for name, text in TEXTS.items():
        references[name] = f"{bench.faulty.address}/{named(name)}:1"
        realm = f"https://{bench.faulty.address}/token".encode()
        demand = {
            "service": b'realm="%b",service="%b"' % (realm, text),
            "scope": b'realm="%b",service="s",scope="%b"' % (realm, text),
            "path of the realm": b'realm="%b/%b"' % (realm, text),
            "query of the realm": b'realm="%b?a=%b"' % (realm, text),
        }[part]
        fault = answer(401, b"WWW-Authenticate: Bearer " + demand)
        bench.faulty.fail(f"/v2/{named(name)}/manifests/1", *[fault] * 20)
    bench.faulty.documents["/token"] = ("application/json", b'{"token": "t"}')
    _check(bench, references)


@pytest.mark.parametrize("answer_of", [
    lambda text: json.dumps({"token": text.decode("latin-1")}).encode(),
    lambda text: json.dumps({"access_token": [text.decode("latin-1")]}).encode(),
    lambda text: json.dumps({"token": "t", "expires_in": text.decode("latin-1")}).encode(), lambda text: text,
    lambda text: b'{"token": "t", "expires_in": ' + b"9" * 4_000 + b"}",
    lambda text: b'{"token": "t", "expires_in": NaN, "issued_at": "' + text + b'"}',
], ids=["token", "access token", "life", "anything", "long life", "no life"])
def test_what_comes_from_the_token_service(answer_of: Callable[[bytes], bytes], bench: Bench) -> None:
    references = {}
    for name, text in TEXTS.items():
        references[name] = f"{bench.faulty.address}/{named(name)}:1"
        realm = f"https://{bench.faulty.address}/{named(name)}".encode()
        fault = answer(401, b'WWW-Authenticate: Bearer realm="%b"' % realm)
        bench.faulty.fail(f"/v2/{named(name)}/manifests/1", *[fault] * 20)
        bench.faulty.documents[f"/{named(name)}"] = ("application/json", answer_of(text))
    _check(bench, references)


def _check(bench: Bench, references: dict[str, str], may_succeed: bool = False) -> None:
    login = Credential(match=bench.faulty.address, source="team:regcred", username="me", password="hunter2")
    waiting = list(references.items())
    while some := dict(waiting[:18]):
        waiting = waiting[18:]
        results = bench.build(*some.values(), credentials=Credentials(entries=(login,)))
        for name, result in zip(some, results, strict=True):
            assert result.reason is not Reason.INTERNAL, (name, result)
            assert result.reason or may_succeed, name
            assert not _shows(result.message, TEXTS[name]), (name, result)
    for path, headers in bench.faulty.requests:
        assert "x-injected" not in headers
        assert path.isascii()
        assert path.isprintable()


def _shows(message: str, text: bytes) -> bool:
    """Whether a person would read there what the server wants them to read."""
    return any(word in message for word in ("owned", "passwd", "Injected", "gpj", "hunter2", "x" * 130)) or (
        text.decode("latin-1") in message and len(text) > 3
    )
