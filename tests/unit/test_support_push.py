# SPDX-License-Identifier: Apache-2.0
"""Pushed test images arrive as they were made, judged by a real registry on loopback and by skopeo.

And the certificates that make this possible: TLS is never off, so a mistake there would look like a dead registry.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.support import programs, tls
from tests.support.images import Image, declare_larger, make_images
from tests.support.push import Pusher
from tests.support.registry_process import running_registry
from tests.support.tls import Authority

NAMES = ["base/tools:1.0", "team/app:2.1", "team/web:zstd", "team/multi:1.0", "data/only:5"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Image]:
    return make_images(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("tls"))


@contextmanager
def registry(folder: Path, authority: Authority) -> Iterator[Pusher]:
    with running_registry(folder / "storage", folder, authority) as running:
        yield running.pusher


@pytest.fixture(scope="module")
def address(
    images: Mapping[str, Image], authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A registry that holds all images, pushed twice."""
    with registry(tmp_path_factory.mktemp("registry"), authority) as pusher:
        for image in [*images.values(), *images.values()]:
            pusher.push(image)
        yield pusher.address


def skopeo(authority: Authority, *args: str) -> bytes:
    command, *others = args
    trust = ["--src-cert-dir" if command == "copy" else "--cert-dir", str(authority.ca_file.parent)]
    done = subprocess.run([programs.skopeo(), command, *trust, *others], check=False, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_skopeo_pulls_what_was_made(
    name: str, images: Mapping[str, Image], address: str, authority: Authority, tmp_path: Path
) -> None:
    image, source = images[name], f"docker://{address}/{name}"
    assert skopeo(authority, "inspect", "--raw", source) == image.top.data
    config = skopeo(authority, "inspect", "--config", "--raw", source)
    assert "sha256:" + hashlib.sha256(config).hexdigest() == image.own.config.digest
    skopeo(authority, "copy", "--preserve-digests", source, f"dir:{tmp_path}")
    pulled = {file.name for file in tmp_path.iterdir()} - {"version", "manifest.json"}
    assert {f"sha256:{name}" for name in pulled} == {image.own.config.digest, *image.own.layer_digests}
    assert (tmp_path / "manifest.json").read_bytes() == image.own.manifest.data


def test_the_registry_has_the_whole_index(images: Mapping[str, Image], address: str, authority: Authority) -> None:
    image = images["team/multi:1.0"]
    for manifest in image.manifests:
        source = f"docker://{address}/{image.repository}@{manifest.digest}"
        assert skopeo(authority, "inspect", "--raw", source) == manifest.data


def test_pushing_again_sends_nothing(
    images: Mapping[str, Image], address: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    request = urllib3.PoolManager.request

    def record(pool: urllib3.PoolManager, method: str, url: str, **options: Any) -> urllib3.BaseHTTPResponse:
        sent.append(method)
        return request(pool, method, url, **options)

    monkeypatch.setattr(urllib3.PoolManager, "request", record)
    Pusher(address, authority.ca_file).push(images["team/app:2.1"])
    assert sent == ["HEAD"]


def test_a_registry_of_another_authority_gets_nothing(
    images: Mapping[str, Image], address: str, tmp_path: Path
) -> None:
    stranger = Pusher(address, Authority.create(tmp_path).ca_file)
    assert not stranger.answers()
    with pytest.raises(urllib3.exceptions.SSLError):
        stranger.push(images["base/tools:1.0"])


def test_sizes_can_be_declared_that_are_not_there(
    images: Mapping[str, Image], address: str, authority: Authority
) -> None:
    larger = declare_larger(images["base/tools:1.0"], "huge/model:1", 30 * 2**30)
    Pusher(address, authority.ca_file).push(larger)
    document = json.loads(skopeo(authority, "inspect", "--raw", f"docker://{address}/huge/model:1"))
    assert [layer["size"] for layer in document["layers"]] == [30 * 2**30] * 2
    assert [layer["digest"] for layer in document["layers"]] == list(larger.own.layer_digests)


def test_certificates_are_used_again_until_a_week_before_their_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["registry.test", "127.0.0.1", "::1"]

    def content() -> tuple[bytes, bytes]:
        authority = Authority.create(tmp_path)
        certificate, _ = authority.issue(names, tmp_path)
        return authority.ca_pem, certificate.read_bytes()

    first = content()
    assert content() == first
    authority = Authority.create(tmp_path)
    assert authority.issue(["other.test"], tmp_path)[0].read_bytes() != first[1]
    context = ssl.create_default_context(cafile=str(authority.ca_file))
    context.load_cert_chain(*authority.issue(names, tmp_path))  # key and certificate belong together
    monkeypatch.setattr(tls, "RENEW_BEFORE", tls.LIFETIME + timedelta(days=1))
    renewed = content()
    assert renewed[0] != first[0]
    assert renewed[1] != first[1]
