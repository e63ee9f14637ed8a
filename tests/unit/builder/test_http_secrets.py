# SPDX-License-Identifier: Apache-2.0
"""No password, token or signature is told by anybody: what `discretion.py` hears, and the builder as a process with
all its outputs."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagecache_operator import names
from imagecache_operator.api.credentials import Credential
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.check import check

from tests.support.tls import Authority

from . import faulty as faults
from .conftest import Run
from .discretion import discreet, secret, told
from .faulty import FaultyRegistry, SmallImage

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.mark.parametrize("text", [
    f"GET /blob?signature={secret('storage')} failed",
    "Basic " + base64.b64encode(f"ann:{secret('ann')}".encode()).decode(),
    "Authorization: Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2ln",
    "http://ann:%73%33cret-of-ann@proxy:3128", "the password is hunter2",
])
def test_a_secret_is_heard_in_every_form(text: str) -> None:
    assert told([text], [Credential(match="a", source="b", username="ann", password="hunter2")])
    assert told(["The registry does not take the credentials of a:ann."]) == []


def test_a_process_tells_no_secret_on_any_of_its_outputs(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, authority: Authority, volume: Path, tmp_path: Path,
) -> None:
    """Everything goes wrong where a secret is at hand: a proxy, a storage, a registry and its token service."""
    pulled = {name: SmallImage([name.encode() * 1000]) for name in ("good", "signed", "circle", "garbage", "later")}
    signed, circle = (f"/v2/{name}/blobs/{pulled[name].layer_digests[0]}" for name in ("signed", "circle"))
    storage = f"https://{elsewhere.address}/blob?X-Amz-Signature={secret('storage')}"
    elsewhere.documents["/token"] = ("application/json", json.dumps({"token": secret("service")}).encode())
    faulty.guard(lambda h: 200 if h.headers.get("Authorization") == f"Bearer {secret('service')}" else 401, {
        "WWW-Authenticate": f'Bearer realm="https://{elsewhere.address}/token?account={secret("realm")}",service="s"',
    })
    faulty.fail(signed, *[faults.redirects(storage)] * 9)
    faulty.fail(circle, *[faults.redirects(f"{circle}?s={secret('circle')}")] * 99)
    faulty.fail("/v2/garbage/manifests/1", *[faults.raw(secret("garbage").encode())] * 9)
    faulty.fail("/v2/later/manifests/1", *[faults.answers(429, {"Retry-After": "7200"})] * 9)
    ann = base64.b64encode(f"ann:{secret('ann')}".encode()).decode()
    logins = tmp_path / "config.json"
    logins.write_text(json.dumps({"auths": {faulty.address: {"auth": ann}}}))
    message = tmp_path / "message"
    images = [*(faulty.add(name, image) for name, image in pulled.items()), "registry.example/behind/proxy:1"]
    done = subprocess.run(
        [sys.executable, "-m", "imagecache_operator.builder.command", "--output", str(volume), "--retries", "1",
         "--auth-file", str(logins), "--termination-log", str(message), "--platform", "linux/amd64",
         *(part for image in images for part in ("--image", image))],
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"),
            names.ENV_CA_FILE: str(authority.ca_file), "HTTPS_PROXY": f"http://ann:{secret('proxy')}@127.0.0.1:1",
        },
        capture_output=True, text=True, check=False,
    )
    outcome = Outcome.from_termination_message(message.read_text())
    assert [image.reason is None for image in outcome.images] == [True, *[False] * 5], done
    entries = [Credential(match="", source="", username="ann", password=secret("ann"))]
    assert told([done.stdout, done.stderr, message.read_text()], entries) == []
    shown = {path.partition("?")[2] for path, _ in elsewhere.requests}
    assert any(secret("storage") in query for query in shown), "the signature was at hand"
    assert any(headers.get("authorization") == f"Basic {ann}" for _, headers in elsewhere.requests)


def test_libraries_do_not_warn_with_urls(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path,
) -> None:
    """urllib3 warns of headers that it cannot parse, and names the URL that they came from."""
    image = SmallImage([b"x" * 10_000])
    layer = image.layer_digests[0]
    data = image.blobs[layer]
    elsewhere.fail("/blob", faults.raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nno header\r\n\r\n" % len(data), data))
    signed = f"https://{elsewhere.address}/blob?X-Amz-Signature={secret('storage')}"
    faulty.fail(f"/v2/team/app/blobs/{layer}", faults.redirects(signed))
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
