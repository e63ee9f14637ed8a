# SPDX-License-Identifier: Apache-2.0
"""TLS is verified, always: what is wrong with a certificate is told, and who speaks with TLS and who without is no
guess."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check

from tests.support.images import Image
from tests.support.registry_process import RegistryProcess
from tests.support.tls import LIFETIME, Authority

from . import faulty as faults
from .conftest import Run
from .discretion import discreet
from .faulty import FaultyRegistry, SmallImage

LOOPBACK = ["127.0.0.1", "localhost"]
DAY = timedelta(days=1)


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([b"layer"])


@pytest.mark.parametrize(("known", "names", "begins", "words"), [
    (True, LOOPBACK, -LIFETIME - DAY, "has expired"),
    (True, LOOPBACK, DAY, "is not valid yet"),
    (True, ["192.0.2.1", "registry.example"], -DAY, "is for another name"),
    (False, LOOPBACK, -DAY, "is not trusted: give the builder the authority"),
])
def test_a_certificate_that_is_not_taken(
    known: bool, names: list[str], begins: timedelta, words: str, authority: Authority, run: Run, image: SmallImage,
    tmp_path: Path,
) -> None:
    issuer = authority if known else Authority.create(tmp_path / "another authority")
    registry = FaultyRegistry(authority, tmp_path, certificate=issuer.issue(names, tmp_path, begins))
    try:
        (result,) = run(registry.add("team/app", image)).images
    finally:
        registry.close()
    assert result.reason is Reason.TLS_FAILED
    assert result.message.startswith(f"The certificate of the registry {registry.address} {words}")
    assert registry.requests == []


def test_a_name_that_the_certificate_lacks(authority: Authority, run: Run, image: SmallImage, tmp_path: Path) -> None:
    """A host name and an address are two kinds of names, and two errors of OpenSSL."""
    registry = FaultyRegistry(authority, tmp_path, certificate=authority.issue(["127.0.0.1"], tmp_path))
    try:
        good = registry.add("team/app", image)
        outcome = run(good, good.replace("127.0.0.1", "localhost"))
    finally:
        registry.close()
    assert [i.reason for i in outcome.images] == [None, Reason.TLS_FAILED]
    assert "is for another name" in outcome.images[1].message


def test_the_authority_is_enough(registry: RegistryProcess, images: dict[str, Image], run: Run, volume: Path) -> None:
    image = next(iter(images.values()))
    reference, platform = f"{registry.address}/{image.name}", f"linux/{image.own.architecture}"
    assert run(reference, platforms=(platform,), trusted=False).images[0].reason is Reason.TLS_FAILED
    assert run(reference, platforms=(platform,)).succeeded
    assert check(volume) == []


def test_tls_at_a_server_without(run: Run, tmp_path: Path, image: SmallImage) -> None:
    plain = FaultyRegistry(None, tmp_path)
    try:
        reference = plain.add("team/app", image)
        (result,) = run(reference).images
        assert plain.requests == []
        assert run(reference, plain_http=(plain.address,)).succeeded
    finally:
        plain.close()
    assert result.reason is Reason.TLS_FAILED
    assert result.message.startswith(f"The registry {plain.address} does not speak TLS.")


def test_no_tls_at_a_server_with(registry: RegistryProcess, images: dict[str, Image], run: Run) -> None:
    """Servers written in Go answer 400 to that, in clear text; nginx too."""
    image = next(iter(images.values()))
    (result,) = run(f"{registry.address}/{image.name}", plain_http=(registry.address,)).images
    assert result.reason is Reason.TLS_FAILED
    assert f"The registry {registry.address} speaks TLS, and a setting says that it does not" in result.message


@pytest.mark.parametrize("trusted", [True, False])
def test_a_storage_must_have_a_certificate_too(
    trusted: bool, authority: Authority, faulty: FaultyRegistry, run: Run, image: SmallImage, tmp_path: Path,
) -> None:
    issuer = authority if trusted else Authority.create(tmp_path / "another authority")
    storage = FaultyRegistry(authority, tmp_path, certificate=issuer.issue(LOOPBACK, tmp_path))
    layer = image.layer_digests[0]
    storage.documents["/blob"] = ("application/octet-stream", image.blobs[layer])
    faulty.fail(f"/v2/team/app/blobs/{layer}", *[faults.redirects(f"https://{storage.address}/blob")] * 9)
    try:
        (result,) = run(faulty.add("team/app", image)).images
    finally:
        storage.close()
    assert result.reason is (None if trusted else Reason.TLS_FAILED)
    told = f"The certificate of the host {storage.address} (for the registry {faulty.address}) is not trusted"
    assert trusted or result.message.startswith(told)
