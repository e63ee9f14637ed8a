# SPDX-License-Identifier: Apache-2.0
"""Tokens, redirects, addresses: where the builder goes, and what it takes along."""

from __future__ import annotations

import io
import json
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check
from imagecache_operator.builder.connections import is_forbidden

from . import faulty as faults
from .conftest import QUICK, Run
from .discretion import discreet, secret
from .faulty import FaultyRegistry, SmallImage

MANIFEST = "/v2/team/app/manifests/1"


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([random.Random(1).randbytes(100_000)])


def _layer(image: SmallImage) -> str:
    return f"/v2/team/app/blobs/{image.layer_digests[0]}"


def _token(whose: str) -> bytes:
    return json.dumps({"access_token": secret(whose), "expires_in": 300}).encode()


def test_credentials_stay_with_their_host(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    realm = f"https://localhost:{elsewhere.port}/token"
    elsewhere.documents["/token"] = ("application/json", _token("service"))
    elsewhere.documents["/storage/blob"] = ("application/octet-stream", image.blobs[image.layer_digests[0]])
    faulty.fail(MANIFEST, faults.demands_token(realm))
    faulty.fail(
        _layer(image), faults.redirects(f"https://{elsewhere.address}/storage/blob?signature={secret('storage')}"),
    )
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    sent = {path.partition("?")[0]: headers.get("authorization") for path, headers in elsewhere.requests}
    assert sent == {"/token": None, "/storage/blob": None}
    assert "scope=repository%3Ateam%2Fapp%3Apull" in elsewhere.requests[0][0]
    given = f"Bearer {secret('service')}"
    assert [headers.get("authorization") for _, headers in faulty.requests] == [None, *[given] * 3]


def test_they_come_back_to_it(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    """The registry's own redirects, also by way of another host."""
    elsewhere.documents["/token"] = ("application/json", _token("service"))
    faulty.fail(MANIFEST, faults.demands_token(f"https://{elsewhere.address}/token"))
    faulty.fail(_layer(image), faults.redirects(f"https://{elsewhere.address}/away"))
    elsewhere.fail("/away", faults.redirects(f"https://{faulty.address}/back"))
    faulty.documents["/back"] = ("application/octet-stream", image.blobs[image.layer_digests[0]])
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert elsewhere.requests[-1][1].get("authorization") is None
    assert faulty.requests[-1][0] == "/back"
    assert faulty.requests[-1][1].get("authorization") == f"Bearer {secret('service')}"


def test_a_token_that_ran_out_is_renewed(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    realm = f"https://{elsewhere.address}/token"
    for token in ("first", "second"):
        elsewhere.fail("/token", faults.answers(200, None, _token(token)))
    faulty.fail(MANIFEST, faults.demands_token(realm))
    faulty.fail(_layer(image), faults.demands_token(realm))
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert faulty.requests[-1][1]["authorization"] == f"Bearer {secret('second')}"


@pytest.mark.parametrize(("target", "reason", "words"), [
    ("http://127.0.0.1:1/", Reason.TLS_FAILED, "would be spoken to without TLS, and no setting allows that"),
    ("http://169.254.169.254/latest", Reason.TLS_FAILED, "would be spoken to without TLS"),
    ("https://169.254.169.254/latest", Reason.UNSUPPORTED, "belongs to the node or to the cloud"),
    ("https://[::ffff:169.254.169.254]/", Reason.UNSUPPORTED, "belongs to the node or to the cloud"),
    ("https://2852039166/", Reason.UNSUPPORTED, "belongs to the node or to the cloud"),
    ("https://127.0.0.1:1/", Reason.REGISTRY_UNAVAILABLE, "Nobody answers at the host 127.0.0.1:1 (for the registry"),
    ("https://storage.invalid/", Reason.DNS_FAILED, "The name of the host storage.invalid (for the registry"),
    ("file:///etc/passwd", Reason.REGISTRY_UNAVAILABLE, "refers to an address that cannot be asked"),
    ("ftp://host/", Reason.REGISTRY_UNAVAILABLE, "refers to an address that cannot be asked"),
    ("https://:5000/", Reason.REGISTRY_UNAVAILABLE, "refers to an address that cannot be asked"),
    ("https://[", Reason.REGISTRY_UNAVAILABLE, "refers to an address that cannot be asked"),
    ("https://a..b/", Reason.DNS_FAILED, "has no name that can be looked up"),
    ("https://" + "a" * 300, Reason.DNS_FAILED, "has no name that can be looked up"),
    ("//", Reason.REGISTRY_UNAVAILABLE, "redirects in a circle"),
])
@pytest.mark.parametrize("path", ["manifest", "layer"])
def test_bad_redirects_go_nowhere(
    path: str, target: str, reason: Reason, words: str, faulty: FaultyRegistry, run: Run, volume: Path,
    image: SmallImage,
) -> None:
    faulty.fail(_layer(image) if path == "layer" else MANIFEST, *[faults.redirects(target)] * 99)
    outcome = run(faulty.add("team/app", image), faulty.add("team/other", SmallImage([b"other"])))
    assert [i.reason for i in outcome.images] == [reason, None]
    assert words in outcome.images[0].message
    assert check(volume) == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_circle_of_redirects_ends(
    status: int, faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, image: SmallImage,
) -> None:
    faulty.fail(_layer(image), *[faults.answers(status, {"Location": f"https://{elsewhere.address}/there"})] * 99)
    elsewhere.fail("/there", *[faults.answers(status, {"Location": f"https://{faulty.address}{_layer(image)}"})] * 99)
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is Reason.REGISTRY_UNAVAILABLE
    assert result.message == f"The registry {faulty.address} redirects in a circle."
    assert len(elsewhere.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_signature_that_ran_out_is_asked_for_again(
    status: int, faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    """It is the registry that may say no, not its storage."""
    elsewhere.documents["/blob"] = ("application/octet-stream", image.blobs[image.layer_digests[0]])
    elsewhere.fail("/blob", faults.answers(status))
    signed = [f"https://{elsewhere.address}/blob?signature={secret(which)}" for which in ("first", "second")]
    faulty.fail(_layer(image), *map(faults.redirects, signed))
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert [path.rpartition("=")[2] for path, _ in elsewhere.requests] == [secret("first"), secret("second")]


def test_a_storage_that_always_refuses_is_named(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, image: SmallImage,
) -> None:
    elsewhere.fail("/blob", *[faults.answers(403)] * 99)
    signed = f"https://{elsewhere.address}/blob?signature={secret('storage')}"
    faulty.fail(_layer(image), *[faults.redirects(signed)] * 99)
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is Reason.REGISTRY_UNAVAILABLE
    assert result.message == f"The host {elsewhere.address} (for the registry {faulty.address}) answers 403."
    assert len(elsewhere.requests) == QUICK.failures_in_a_row


def test_metadata_addresses_are_refused_as_registries(run: Run) -> None:
    outcome = run("169.254.169.254/team/app:1", "[fe80::1]/app", plain_http=("169.254.169.254",))
    assert [i.reason for i in outcome.images] == [Reason.UNSUPPORTED] * 2


def test_a_name_of_a_metadata_address_is_refused_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address])
    assert run("innocent.example/app:1").images[0].reason is Reason.UNSUPPORTED


@pytest.mark.parametrize("address", [
    "0.0.0.0", "169.254.1.1", "224.0.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "::", "fe80::1%eth0",  # noqa: S104
    "ff02::1", "fd00:ec2::254", "::ffff:169.254.169.254", "2002:a9fe:a9fe::1", "64:ff9b::a9fe:a9fe",
])
def test_no_registry_has_such_an_address(address: str) -> None:
    assert is_forbidden(address)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "100.100.100.201", "::1", "fd00::1", "64:ff9b::808:808"])
def test_a_registry_may_have_any_other(address: str) -> None:
    assert not is_forbidden(address)
