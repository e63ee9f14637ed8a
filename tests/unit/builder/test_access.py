# SPDX-License-Identifier: Apache-2.0
"""Tokens, redirects, TLS, addresses: where the builder goes, and what it takes along."""

from __future__ import annotations

import io
import random
import socket
from pathlib import Path

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check

from tests.unit.builder import faulty as faults
from tests.unit.builder.conftest import Run
from tests.unit.builder.faulty import FaultyRegistry, SmallImage


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([random.Random(1).randbytes(100_000)])


def _layer(image: SmallImage) -> str:
    return f"/v2/team/app/blobs/{image.layer_digests[0]}"


def test_credentials_stay_with_their_host(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    realm = f"https://localhost:{elsewhere.port}/token"
    elsewhere.documents["/token"] = ("application/json", b'{"token": "s3cret", "expires_in": 300}')
    elsewhere.documents["/storage/blob"] = ("application/octet-stream", image.blobs[image.layer_digests[0]])
    faulty.fail("/v2/team/app/manifests/1", faults.demands_token(realm))
    faulty.fail(_layer(image), faults.redirects(f"https://{elsewhere.address}/storage/blob?signature=abc"))
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    sent = {path.partition("?")[0]: headers.get("authorization") for path, headers in elsewhere.requests}
    assert sent == {"/token": None, "/storage/blob": None}
    assert "scope=repository%3Ateam%2Fapp%3Apull" in elsewhere.requests[0][0]
    assert [headers.get("authorization") for _, headers in faulty.requests] == [None, *["Bearer s3cret"] * 3]


def test_a_token_that_ran_out_is_renewed(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    realm = f"https://{elsewhere.address}/token"
    for token in ("first", "second"):
        elsewhere.fail("/token", faults.answers(200, None, b'{"access_token": "%s"}' % token.encode()))
    faulty.fail("/v2/team/app/manifests/1", faults.demands_token(realm))
    faulty.fail(_layer(image), faults.demands_token(realm))
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert faulty.requests[-1][1]["authorization"] == "Bearer second"


@pytest.mark.parametrize("target", [
    "http://169.254.169.254/latest", "https://169.254.169.254/latest", "http://127.0.0.1:1/", "file:///etc/passwd",
    "https://[::ffff:169.254.169.254]/", "ftp://host/", "https:///", "//", "https://a..b/", "https://" + "a" * 300,
])
def test_bad_redirects_go_nowhere(target: str, faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    faulty.fail(_layer(image), *[faults.redirects(target)] * 9)
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is not None
    assert result.reason is not Reason.INTERNAL


def test_a_circle_of_redirects_ends(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    faulty.fail(_layer(image), *[faults.redirects(_layer(image))] * 99)
    assert run(faulty.add("team/app", image)).images[0].reason is Reason.REGISTRY_UNAVAILABLE


def test_signatures_of_storage_are_never_told(
    faulty: FaultyRegistry, run: Run, image: SmallImage, output: io.StringIO,
) -> None:
    faulty.fail(_layer(image), *[faults.redirects("https://127.0.0.1:1/blob?signature=s3cret")] * 9)
    outcome = run(faulty.add("team/app", image))
    assert outcome.images[0].reason is Reason.REGISTRY_UNAVAILABLE
    assert "127.0.0.1:1" in outcome.images[0].message
    assert "s3cret" not in outcome.model_dump_json() + output.getvalue()


def test_an_unknown_authority_is_not_trusted(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    (result,) = run(faulty.add("team/app", image), trusted=False).images
    assert result.reason is Reason.TLS_FAILED
    assert faulty.requests == []


def test_a_host_that_does_not_exist(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert run("registry.invalid/team/app:1").images[0].reason is Reason.DNS_FAILED


def test_a_port_where_nobody_listens(run: Run) -> None:
    assert run("127.0.0.1:1/team/app:1").images[0].reason is Reason.REGISTRY_UNAVAILABLE


def test_metadata_addresses_are_refused_as_registries(run: Run) -> None:
    outcome = run("169.254.169.254/team/app:1", "[fe80::1]/app", plain_http=("169.254.169.254",))
    assert [i.reason for i in outcome.images] == [Reason.UNSUPPORTED] * 2


def test_a_name_of_a_metadata_address_is_refused_too(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    address = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("169.254.169.254", 443))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [address])
    assert run("innocent.example/app:1").images[0].reason is Reason.UNSUPPORTED


def test_plain_http_is_for_hosts_that_the_settings_name(run: Run, tmp_path: Path, image: SmallImage) -> None:
    plain = FaultyRegistry(None, tmp_path)
    try:
        reference = plain.add("team/app", image)
        assert run(reference).images[0].reason is Reason.TLS_FAILED
        assert plain.requests == []
        assert run(reference, plain_http=(plain.address,)).succeeded
    finally:
        plain.close()
