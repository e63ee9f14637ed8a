# SPDX-License-Identifier: Apache-2.0
"""Registries that ask who is there: real ones with passwords and with a token service, and token services that
fail."""

from __future__ import annotations

import dataclasses
import io
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3
from imagecache_operator.api import credentials
from imagecache_operator.api.credentials import Credential, Credentials
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import Reference
from imagecache_operator.api.report import ImageOutcome
from imagecache_operator.builder.check import check
from imagecache_operator.builder.patience import Limits
from imagecache_operator.builder.registry import Document, Registries

from tests.support.accounts import docker_config, identity_login, password_login
from tests.support.images import Image
from tests.support.push import challenge
from tests.support.registry_process import RegistryProcess, running_basic_registry, running_token_registry
from tests.support.tls import Authority
from tests.support.token_service.service import Account

from . import faulty as faults
from .conftest import QUICK, Run
from .discretion import discreet, secret
from .faulty import Fault, FaultyRegistry, SmallImage

BRIEF = dataclasses.replace(QUICK, stall=0.3, failures_in_a_row=2)
PACED = dataclasses.replace(QUICK, slowest=2000, slowest_over=0.3, failures_in_a_row=2)
TOKEN = secret("service")


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.fixture(scope="module")
def pushed(images: dict[str, Image]) -> Image:
    return images["base/tools:1.0"]


@pytest.fixture(scope="module")
def basic(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, pushed: Image,
) -> Iterator[RegistryProcess]:
    folder = tmp_path_factory.mktemp("basic")
    with running_basic_registry(folder / "content", folder, authority) as process:
        process.pusher.push(_named(pushed, "team-a/app:1"))
        yield process


@pytest.fixture(scope="module")
def tokens(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, pushed: Image,
) -> Iterator[RegistryProcess]:
    folder = tmp_path_factory.mktemp("tokens")
    with running_token_registry(folder / "content", folder, authority) as process:
        for name in ("team-a/app:1", "public/app:1", "closed/app:1"):
            process.pusher.push(_named(pushed, name))
        yield process


def _named(image: Image, name: str) -> Image:
    return dataclasses.replace(image, name=name)


def _login(process: RegistryProcess, account: Account, identity: bool = False) -> Credentials:
    login = identity_login(account) if identity else password_login(account)
    return Credentials(entries=credentials.parse(docker_config({process.address: login}), "a:secret"))


def _platform(image: Image) -> tuple[str, ...]:
    return (f"linux/{image.own.architecture}",)


def test_a_registry_with_passwords(basic: RegistryProcess, pushed: Image, run: Run, volume: Path) -> None:
    reference, platforms = f"{basic.address}/team-a/app:1", _platform(pushed)
    ann = basic.accounts["team-a"]
    wrong = dataclasses.replace(ann, password=secret("team-a"))
    assert run(reference, platforms=platforms).images[0].reason is Reason.UNAUTHORIZED
    (result,) = run(reference, platforms=platforms, credentials=_login(basic, wrong)).images
    assert result.reason is Reason.UNAUTHORIZED
    assert "does not take the credentials of a:secret for team-a/app" in result.message
    assert run(reference, platforms=platforms, credentials=_login(basic, ann)).succeeded
    assert check(volume) == []


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize(("account", "path", "reason"), [
    ("team-a", "team-a", None), ("", "public", None), ("team-b", "public", None),
    ("team-b", "team-a", Reason.UNAUTHORIZED), ("team-a", "closed", Reason.DENIED),
    ("team-a", "missing", Reason.UNAUTHORIZED),
])
def test_a_registry_with_a_token_service(
    account: str, path: str, reason: Reason | None, identity: bool, tokens: RegistryProcess, pushed: Image, run: Run,
    volume: Path,
) -> None:
    login = _login(tokens, tokens.accounts[account], identity) if account else None
    outcome = run(f"{tokens.address}/{path}/app:1", platforms=_platform(pushed), credentials=login)
    assert outcome.images[0].reason is reason
    assert reason or outcome.images[0].digest == pushed.digest
    assert check(volume) == []


def test_a_token_that_ends_in_mid_pull(
    tokens: RegistryProcess, pushed: Image, run: Run, volume: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between a manifest and the first blob the registry begins to refuse what it has let in. It told another time."""
    url, account = f"https://{tokens.address}/v2/team-a/app/manifests/1", tokens.accounts["hasty"]
    manifest = Registries.manifest
    waits = []

    def hesitant(self: Registries, reference: Reference, digest: str | None = None) -> Document:
        document = manifest(self, reference, digest)
        waits.append(_wait_until_refused(url, account, tokens.authority))
        return document

    monkeypatch.setattr(Registries, "manifest", hesitant)
    reference = f"{tokens.address}/team-a/app:1"
    assert run(reference, platforms=_platform(pushed), credentials=_login(tokens, account)).succeeded
    assert check(volume) == []
    assert waits == [True]


def _wait_until_refused(url: str, account: Account, authority: Authority) -> bool:
    """Until the registry refuses a token that is younger than the builder's."""
    pools = urllib3.PoolManager(ca_certs=str(authority.ca_file))
    demand = challenge(pools.request("GET", url))
    asked = {"service": demand["service"], "scope": demand["scope"]}
    login = urllib3.make_headers(basic_auth=f"{account.name}:{account.password}")
    token = pools.request("GET", demand["realm"], fields=asked, headers=login).json()["token"]
    headers = {"Authorization": f"Bearer {token}", "Accept": "*/*"}
    end = time.monotonic() + 30
    assert pools.request("GET", url, headers=headers).status != 401
    while time.monotonic() < end:
        if pools.request("GET", url, headers=headers).status == 401:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([random.Random(13).randbytes(50_000)])


@pytest.fixture
def private(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, image: SmallImage,
) -> Callable[..., ImageOutcome]:
    """Pulls team/app, for which TOKEN is needed, which `elsewhere` gives to ann."""
    elsewhere.documents["/token"] = ("application/json", json.dumps({"token": TOKEN}).encode())
    faulty.guard(lambda h: 200 if h.headers.get("Authorization") == f"Bearer {TOKEN}" else 401, {
        "WWW-Authenticate": f'Bearer realm="https://{elsewhere.address}/token",service="s"',
    })
    ann = Credential(match=faulty.address, source="a:ann", username="ann", password=secret("ann"))
    logins = Credentials(entries=(ann,))
    return lambda **how: run(faulty.add("team/app", image), credentials=logins, **how).images[0]


@pytest.mark.parametrize(("fault", "limits", "reason", "tries", "words"), [
    (faults.drips(b"", b"", 60), BRIEF, Reason.TIMEOUT, 2, "does not answer in time."),
    (faults.drips(b"HTTP/1.1 200 OK\r\n\r\n", b"{", 0.01), PACED, Reason.TIMEOUT, 2, "sends too slowly."),
    (faults.answers(500), QUICK, Reason.REGISTRY_UNAVAILABLE, 5, "answers 500; it is asked again later."),
    (faults.answers(429), QUICK, Reason.TOO_MANY_REQUESTS, 5, "limits the number of requests"),
    (faults.raw(b"nonsense\r\n"), QUICK, Reason.REGISTRY_UNAVAILABLE, 5, "sends something that is not HTTP"),
    (faults.raw(), QUICK, Reason.REGISTRY_UNAVAILABLE, 5, "The connection to the token service"),
    (faults.answers(403), QUICK, Reason.DENIED, 2, "denies access to team/app to the credentials of a:ann"),
    (faults.answers(404), QUICK, Reason.UNAUTHORIZED, 2, "does not take the credentials of a:ann for team/app"),
    (faults.answers(204), QUICK, Reason.UNAUTHORIZED, 2, "does not take the credentials of a:ann for team/app"),
    (faults.redirects("http://127.0.0.1:1/"), QUICK, Reason.TLS_FAILED, 1, "would be spoken to without TLS"),
    (faults.redirects("/token"), QUICK, Reason.REGISTRY_UNAVAILABLE, 6, "redirects in a circle."),
], ids=["silent", "slow", "500", "429", "nonsense", "gone", "403", "404", "204", "plain", "circle"])
def test_a_token_service_that_fails_for_good(
    fault: Fault, limits: Limits, reason: Reason, tries: int, words: str, elsewhere: FaultyRegistry,
    private: Callable[..., ImageOutcome],
) -> None:
    elsewhere.fail("/token", *[fault] * 99)
    result = private(limits=limits)
    assert result.reason is reason
    assert words in result.message
    assert len(elsewhere.requests) == tries


@pytest.mark.parametrize("fault", [
    faults.answers(500), faults.answers(503, {"Retry-After": "0"}), faults.answers(429), faults.ends_after(5),
    faults.raw(), faults.resets_after(5), faults.trickles(60),
])
def test_a_token_service_that_fails_once(
    fault: Fault, elsewhere: FaultyRegistry, volume: Path, private: Callable[..., ImageOutcome],
) -> None:
    elsewhere.fail("/token", fault)
    assert private(limits=dataclasses.replace(QUICK, stall=0.3)).reason is None
    assert check(volume) == []
    assert len(elsewhere.requests) == 2


def test_a_token_service_that_is_not_there(faulty: FaultyRegistry, private: Callable[..., ImageOutcome]) -> None:
    faulty.demand = {"WWW-Authenticate": 'Bearer realm="https://127.0.0.1:1/token",service="s"'}
    result = private()
    assert result.reason is Reason.REGISTRY_UNAVAILABLE
    assert result.message == f"Nobody answers at the token service 127.0.0.1:1 (for the registry {faulty.address})."


@pytest.mark.parametrize("answer", [
    b"", b"<html>", b"null", b"[]", b"{}", b'{"token": ""}', b'{"token": null}', b'{"token": 5}', b'{"token": ["a"]}',
    b'{"token": "a\\nX-Injected: b"}', '{"token": "s3cret-€"}'.encode(), b"[" * 100_000, b"\xff\xfe",
    b'{"token": "a", "expires_in": [1]}', b'{"token": "a", "expires_in": 1' + b"0" * 400 + b"}",
    b'{"token": "' + b"x" * 2_000_000 + b'"}',
], ids=range(16))
def test_nonsense_instead_of_a_token_is_told(
    answer: bytes, faulty: FaultyRegistry, elsewhere: FaultyRegistry, private: Callable[..., ImageOutcome],
) -> None:
    elsewhere.documents["/token"] = ("application/json", answer)
    result = private()
    assert result.reason is Reason.REGISTRY_UNAVAILABLE
    service = f"token service {elsewhere.address} (for the registry {faulty.address})"
    assert result.message == f"The {service} sends no usable token."
    assert len(elsewhere.requests) == 1


@pytest.mark.parametrize("life", ["0", "-5", "1e300", "NaN", "-Infinity", "true", '"300"', "null"])
def test_any_lifetime_of_a_token_is_lived_with(
    life: str, elsewhere: FaultyRegistry, volume: Path, private: Callable[..., ImageOutcome],
) -> None:
    elsewhere.documents["/token"] = ("application/json", f'{{"token": "{TOKEN}", "expires_in": {life}}}'.encode())
    assert private().reason is None
    assert check(volume) == []


def test_new_tokens_that_are_refused_are_not_asked_for_without_end(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, private: Callable[..., ImageOutcome],
) -> None:
    faulty.guard(lambda handler: 401, faulty.demand)
    result = private()
    assert result.reason is Reason.UNAUTHORIZED
    assert len(elsewhere.requests) == 2, "as ann, and as nobody"


@pytest.mark.parametrize(("realm", "reason"), [
    ("", Reason.UNAUTHORIZED), ("/token", Reason.REGISTRY_UNAVAILABLE), ("https://", Reason.REGISTRY_UNAVAILABLE),
    ("https://169.254.169.254/token", Reason.UNSUPPORTED), ("http://127.0.0.1:1/", Reason.TLS_FAILED),
    ("file:///etc/passwd", Reason.REGISTRY_UNAVAILABLE), ("https://a..b/", Reason.DNS_FAILED),
    ("https://[", Reason.REGISTRY_UNAVAILABLE), ("https://" + "a" * 5000, Reason.UNAUTHORIZED),
])
def test_a_realm_that_leads_nowhere(
    realm: str, reason: Reason, faulty: FaultyRegistry, private: Callable[..., ImageOutcome],
) -> None:
    faulty.demand = {"WWW-Authenticate": f'Bearer realm="{realm}",service="s"'}
    assert private().reason is reason


def test_a_token_service_may_move_and_the_password_stays_behind(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, private: Callable[..., ImageOutcome],
) -> None:
    faulty.documents["/moved"] = elsewhere.documents["/token"]
    wanted = faulty.judge
    faulty.judge = lambda handler: 200 if handler.path.startswith("/moved") else wanted(handler)
    elsewhere.fail("/token", *[faults.redirects(f"https://{faulty.address}/moved?code={secret('code')}")] * 9)
    assert private().reason is None
    (moved,) = [headers for path, headers in faulty.requests if path.startswith("/moved")]
    assert "authorization" not in moved
