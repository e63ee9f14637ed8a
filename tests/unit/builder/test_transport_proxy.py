# SPDX-License-Identifier: Apache-2.0
"""Registries behind a proxy: which requests go through it, what it is told, and what is said when it refuses."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.credentials import Credential, Credentials
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check
from imagecache_operator.builder.proxies import Proxies

from tests.support.tls import Authority

from . import faulty as faults
from .conftest import QUICK, Run
from .discretion import discreet, secret
from .faulty import FaultyRegistry, SmallImage
from .forward_proxy import Proxy

NAME = "registry.example"  # which nobody but the proxy can find


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([b"layer" * 100_000])


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    server = Proxy()
    yield server
    server.close()


@pytest.fixture
def registry(authority: Authority, tmp_path: Path, proxy: Proxy) -> Iterator[FaultyRegistry]:
    """`registry.example`, by the proxy's word."""
    server = FaultyRegistry(authority, tmp_path, certificate=authority.issue([NAME], tmp_path / "registry"))
    proxy.routes[f"{NAME}:443"] = server.address
    yield server
    server.close()


@pytest.fixture(autouse=True)
def through(monkeypatch: pytest.MonkeyPatch, proxy: Proxy) -> pytest.MonkeyPatch:
    """The environment, in which the proxy is named."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    return monkeypatch


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_a_registry_is_found_by_the_proxy(
    proxy: Proxy, registry: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    registry.add("team/app", image)
    assert run(f"{NAME}/team/app:1").succeeded
    assert check(volume) == []
    assert set(proxy.asked) == {("CONNECT", f"{NAME}:443")}


def test_the_proxy_may_be_asked_by_tls(
    registry: FaultyRegistry, run: Run, volume: Path, image: SmallImage, authority: Authority, tmp_path: Path,
    through: pytest.MonkeyPatch,
) -> None:
    registry.add("team/app", image)
    proxy = Proxy(authority, tmp_path / "proxy")
    proxy.routes[f"{NAME}:443"] = registry.address
    through.setenv("HTTPS_PROXY", f"https://{proxy.address}")
    try:
        assert run(f"{NAME}/team/app:1").succeeded
        (result,) = run(f"{NAME}/team/app:1", trusted=False).images
    finally:
        proxy.close()
    assert check(volume) == []
    assert result.reason is Reason.TLS_FAILED
    assert result.message.startswith(f"The certificate of the proxy {proxy.address} is not trusted")


def test_everything_goes_through_it_and_secrets_go_where_they_belong(
    proxy: Proxy, registry: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
    through: pytest.MonkeyPatch, authority: Authority, tmp_path: Path,
) -> None:
    through.setenv("HTTPS_PROXY", f"http://j%40ne:{secret('pr%C3%B6xy')}@{proxy.address}/")
    proxy.wants = _basic("j@ne", secret("pröxy"))
    layer = image.layer_digests[0]
    other = FaultyRegistry(authority, tmp_path, certificate=authority.issue(["other.example"], tmp_path / "other"))
    proxy.routes["other.example:443"] = other.address
    other.documents["/token"] = ("application/json", b'{"token": "%s"}' % secret("service").encode())
    other.documents["/blob"] = ("application/octet-stream", image.blobs[layer])
    registry.guard(lambda h: 200 if h.headers.get("Authorization") == f"Bearer {secret('service')}" else 401, {
        "WWW-Authenticate": 'Bearer realm="https://other.example/token",service="s"',
    })
    registry.fail(
        f"/v2/team/app/blobs/{layer}", faults.redirects(f"https://other.example/blob?signature={secret('storage')}"),
    )
    registry.add("team/app", image)
    login = Credential(match=NAME, source="a:ann", username="ann", password=secret("ann"))
    try:
        assert run(f"{NAME}/team/app:1", credentials=Credentials(entries=[login])).succeeded
    finally:
        other.close()
    assert check(volume) == []
    assert set(proxy.asked) == {("CONNECT", f"{NAME}:443"), ("CONNECT", "other.example:443")}
    sent = [headers for server in (registry, other) for _, headers in server.requests]
    assert not any("proxy-authorization" in headers for headers in sent)
    assert [headers.get("authorization") for _, headers in other.requests] == [_basic("ann", secret("ann")), None]


def test_a_registry_without_tls_has_a_proxy_of_its_own(
    proxy: Proxy, run: Run, volume: Path, image: SmallImage, tmp_path: Path, through: pytest.MonkeyPatch,
) -> None:
    through.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    through.setenv("http_proxy", f"ann:{secret('proxy')}@{proxy.address}")
    proxy.wants = _basic("ann", secret("proxy"))
    plain = FaultyRegistry(None, tmp_path)
    proxy.routes["plain.example:5000"] = plain.address
    plain.add("team/app", image)
    try:
        assert run("plain.example:5000/team/app:1", plain_http=("plain.example:5000",)).succeeded
        proxy.wants = _basic("bob", "")
        (result,) = run("plain.example:5000/team/app:1", plain_http=("plain.example:5000",)).images
    finally:
        plain.close()
    assert check(volume) == []
    assert proxy.asked[0] == ("GET", "http://plain.example:5000/v2/team/app/manifests/1")
    assert result.message.startswith(f"The proxy {proxy.address} wants another user name and password")


@pytest.mark.parametrize(("status", "tries", "words"), [
    (407, 1, "The proxy {} wants another user name and password: correct the setting that names it."),
    (403, 1, "The proxy {} does not let the builder ask the registry registry.example (403)."),
    (502, QUICK.failures_in_a_row, "The proxy {} does not reach the registry registry.example (502)."),
])
def test_a_proxy_that_refuses(
    status: int, tries: int, words: str, proxy: Proxy, run: Run, through: pytest.MonkeyPatch,
) -> None:
    through.setenv("HTTPS_PROXY", f"http://ann:{secret('proxy')}@{proxy.address}")
    proxy.refusal = status
    (result,) = run(f"{NAME}/team/app:1").images
    assert result.reason is Reason.REGISTRY_UNAVAILABLE
    assert result.message == words.format(proxy.address)
    assert proxy.asked == [("CONNECT", f"{NAME}:443")] * tries


@pytest.mark.parametrize(("setting", "reason", "words"), [
    ("http://ann:{}@127.0.0.1:1", Reason.REGISTRY_UNAVAILABLE, "Nobody answers at the proxy 127.0.0.1:1."),
    ("http://ann:{}@proxy.invalid", Reason.DNS_FAILED, "The name of the proxy proxy.invalid:80 cannot be resolved"),
    ("socks5://ann:{}@127.0.0.1:1", Reason.UNSUPPORTED, "HTTPS_PROXY names no proxy that can be used"),
    ("http://ann:{}@[", Reason.UNSUPPORTED, "HTTPS_PROXY names no proxy that can be used"),
    ("http://", Reason.UNSUPPORTED, "HTTPS_PROXY names no proxy that can be used"),
])
def test_a_proxy_that_cannot_be_used(
    setting: str, reason: Reason, words: str, run: Run, through: pytest.MonkeyPatch,
) -> None:
    through.setenv("HTTPS_PROXY", setting.format(secret("proxy")))
    (result,) = run(f"{NAME}/team/app:1").images
    assert result.reason is reason
    assert result.message.startswith(words)


def test_a_proxy_that_says_nothing(proxy: Proxy, run: Run) -> None:
    proxy.open.clear()
    limits = dataclasses.replace(QUICK, connect=0.3, stall=0.3, failures_in_a_row=2)
    assert run(f"{NAME}/team/app:1", limits=limits).images[0].reason is Reason.TIMEOUT
    assert len(proxy.asked) == 2


def test_a_certificate_is_verified_through_the_tunnel(
    proxy: Proxy, faulty: FaultyRegistry, run: Run, image: SmallImage,
) -> None:
    faulty.add("team/app", image)
    proxy.routes[f"{NAME}:443"] = faulty.address  # whose certificate is for loopback
    (result,) = run(f"{NAME}/team/app:1").images
    assert result.reason is Reason.TLS_FAILED
    assert result.message.startswith(f"The certificate of the registry {NAME} is for another name")
    assert faulty.requests == []


@pytest.mark.parametrize("address", ["169.254.169.254", "[::ffff:169.254.169.254]", "[fe80::1]"])
def test_a_metadata_address_is_not_asked_for_behind_a_proxy_either(address: str, proxy: Proxy, run: Run) -> None:
    assert run(f"{address}/team/app:1").images[0].reason is Reason.UNSUPPORTED
    assert proxy.asked == []


@pytest.mark.parametrize("address", ["2852039166", "0xa9fea9fe", "169.254.43518", "0251.0376.0251.0376"])
def test_nor_in_the_spellings_that_only_resolvers_know(
    address: str, proxy: Proxy, registry: FaultyRegistry, run: Run, image: SmallImage,
) -> None:
    registry.add("team/app", image)
    registry.fail(f"/v2/team/app/blobs/{image.layer_digests[0]}", faults.redirects(f"https://{address}/latest"))
    assert run(f"{NAME}/team/app:1").images[0].reason is Reason.UNSUPPORTED
    assert set(proxy.asked) == {("CONNECT", f"{NAME}:443")}


def test_the_proxys_own_address_is_nobodys_business(
    proxy: Proxy, registry: FaultyRegistry, run: Run, image: SmallImage, through: pytest.MonkeyPatch,
) -> None:
    registry.add("team/app", image)
    nowhere = "0.0.0.0"  # noqa: S104 - leads to loopback too, and no registry may be there
    through.setenv("HTTPS_PROXY", f"http://{proxy.address.replace('127.0.0.1', nowhere)}")
    assert run(f"{NAME}/team/app:1").succeeded


def test_loopback_is_never_behind_a_proxy(
    faulty: FaultyRegistry, proxy: Proxy, run: Run, volume: Path, image: SmallImage,
) -> None:
    reference = faulty.add("team/app", image)
    assert run(reference, reference.replace("127.0.0.1", "localhost")).succeeded
    assert check(volume) == []
    assert proxy.asked == []


@pytest.mark.parametrize(("exceptions", "direct", "proxied"), [
    ("", [], ["registry.example:443", "10.0.0.1:443", "[fd00::1]:443"]),
    ("*", ["registry.example:443", "10.0.0.1:443", "[fd00::1]:443"], []),
    ("Example", ["registry.example:443", "a.b.example:443", "example:5000"], ["badexample:443", "example.org:443"]),
    (".example", ["registry.example:443"], ["example:443"]),
    ("*.example", ["registry.example:443"], ["example:443"]),
    ("registry.example:5000", ["registry.example:5000", "a.registry.example:5000"], ["registry.example:443"]),
    (" a , 10.0.0.0/8 ,b", ["10.1.2.3:443", "b:443"], ["11.1.2.3:443", "10.example:443"]),
    ("10.0.0.1", ["10.0.0.1:443", "10.0.0.1:5000"], ["10.0.0.10:443"]),
    ("10.0.0.1:5000", ["10.0.0.1:5000"], ["10.0.0.1:443"]),
    ("fd00::/8,[fe00::1]:5000", ["[fd00::1]:443", "[fe00::1]:5000"], ["[fe00::1]:443", "[fc00::1]:443"]),
    (",,:,*:", [], ["registry.example:443", "10.0.0.1:443"]),
])
def test_no_proxy_means_what_it_means_elsewhere(exceptions: str, direct: list[str], proxied: list[str]) -> None:
    proxies = Proxies({"HTTPS_PROXY": "proxy:3128", "no_proxy": exceptions})

    def is_proxied(place: str) -> bool:
        host, _, port = place.rpartition(":")
        return proxies.of("https", host, int(port)) is not None

    assert [place for place in direct if is_proxied(place)] == []
    assert [place for place in proxied if not is_proxied(place)] == []
    assert proxies.of("http", "registry.example", 80) is None


@pytest.mark.parametrize(("setting", "url", "name"), [
    ("proxy:3128", "http://proxy:3128", "proxy:3128"),
    ("http://proxy", "http://proxy:80", "proxy:80"),
    ("https://proxy", "https://proxy:443", "proxy:443"),
    ("HTTP://Ann:x@Proxy:3128/path?query", "http://proxy:3128", "proxy:3128"),
    ("http://[fd00::1]:3128", "http://[fd00::1]:3128", "[fd00::1]:3128"),
])
def test_a_setting_is_read_as_people_write_it(setting: str, url: str, name: str) -> None:
    proxy = Proxies({"https_proxy": setting}).of("https", NAME, 443)
    assert proxy
    assert (proxy.url, proxy.name) == (url, name)
    assert "Ann" not in repr(proxy)
