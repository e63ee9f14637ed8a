# SPDX-License-Identifier: Apache-2.0
"""The private test registries let in whom they should, and nobody else: real ones on loopback, asked in plain HTTP
and by skopeo.

A registry that is too kind would let tests of pull secrets pass that should fail.
"""

from __future__ import annotations

import dataclasses
import stat
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tests.support import programs
from tests.support.accounts import (
    HASTY_SECONDS,
    Login,
    docker_config,
    htpasswd,
    identity_login,
    make_accounts,
    password_login,
)
from tests.support.images import MANIFEST, Image, make_images
from tests.support.kube import until
from tests.support.push import PushError, challenge
from tests.support.registry_process import RegistryProcess, running_basic_registry, running_token_registry
from tests.support.tls import Authority
from tests.support.token_service.service import Account

PATHS = ["public", "team-a", "team-b", "closed"]
INSUFFICIENT = "401 insufficient_scope"
CHALLENGED = {"service": "registry on loopback"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return make_images(tmp_path_factory.mktemp("blobs"))["base/tools:1.0"]


@pytest.fixture(scope="module")
def basic(authority: Authority, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    folder = tmp_path_factory.mktemp("basic")
    with running_basic_registry(folder / "storage", folder, authority) as process:
        push(process, image)
        yield process


@pytest.fixture(scope="module")
def token(authority: Authority, image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    folder = tmp_path_factory.mktemp("token")
    with running_token_registry(folder / "storage", folder, authority) as process:
        push(process, image)
        yield process


def push(process: RegistryProcess, image: Image) -> None:
    pusher = process.pusher
    for path in PATHS:
        pusher.push(dataclasses.replace(image, name=f"{path}/tools:1.0"))


def wrong(account: Account) -> Account:
    return dataclasses.replace(account, password="wrong", identity_token="wrong")


def skopeo(process: RegistryProcess, path: str, folder: Path, login: Login | None = None) -> bytes | None:
    """The manifest that skopeo gets with this login and no other; None if it gets none."""
    (folder / "auth.json").write_text(docker_config({process.address: login} if login else {}))
    trust = ["--cert-dir", str(process.authority.ca_file.parent), "--authfile", str(folder / "auth.json")]
    command = [programs.skopeo(), "inspect", *trust, "--raw", f"docker://{process.address}/{path}/tools:1.0"]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    return None if done.returncode else done.stdout


class Client:
    """Plain HTTP, so that a test sees every status by itself."""

    def __init__(self, process: RegistryProcess) -> None:
        self._process = process
        self._pool = urllib3.PoolManager(ca_certs=str(process.authority.ca_file), retries=False)

    def manifest(self, path: str, **headers: str) -> urllib3.BaseHTTPResponse:
        url = f"https://{self._process.address}/v2/{path}/tools/manifests/1.0"
        return self._pool.request("GET", url, headers={"Accept": MANIFEST["oci"], **headers})

    def with_password(self, path: str, account: Account) -> int:
        headers = urllib3.make_headers(basic_auth=f"{account.name}:{account.password}")
        return self.manifest(path, **headers).status

    def with_token(self, path: str, token: str) -> str:
        """200; or 401 and the reason that the registry gives."""
        answer = self.manifest(path, Authorization=f"Bearer {token}")
        return f"{answer.status} {challenge(answer).get('error', '')}".strip()

    def ask(self, account: Account, *scopes: str) -> urllib3.BaseHTTPResponse:
        """For a token, by GET; anonymously for an account without a name."""
        basic = f"{account.name}:{account.password}" if account.name else None
        query = [*CHALLENGED.items(), *(("scope", scope) for scope in scopes)]
        return self._pool.request("GET", self._realm(), fields=query, headers=urllib3.make_headers(basic_auth=basic))

    def ask_by_form(self, *scopes: str, **form: str) -> urllib3.BaseHTTPResponse:
        """For a token, by POST."""
        fields = {**CHALLENGED, "client_id": "test", "scope": " ".join(scopes), **form}
        return self._pool.request("POST", self._realm(), fields=fields, encode_multipart=False)

    def _realm(self) -> str:
        return challenge(self.manifest("team-a"))["realm"]


def pull(*paths: str) -> Sequence[str]:
    return [f"repository:{path}/tools:pull" for path in paths]


@pytest.mark.parametrize("name", ["team-a", "team-b"])
def test_basic_lets_in_who_knows_his_password(basic: RegistryProcess, image: Image, name: str, tmp_path: Path) -> None:
    account = basic.accounts[name]
    assert Client(basic).with_password("team-a", account) == 200
    assert Client(basic).with_password("team-a", wrong(account)) == 401
    assert skopeo(basic, "team-a", tmp_path, password_login(account)) == image.top.data
    assert skopeo(basic, "team-a", tmp_path, password_login(wrong(account))) is None


def test_basic_lets_in_nobody_else(basic: RegistryProcess, image: Image, tmp_path: Path) -> None:
    stranger = dataclasses.replace(basic, accounts={})
    assert Client(basic).manifest("public").status == 401
    assert skopeo(basic, "public", tmp_path) is None
    assert not stranger.pusher.answers()
    with pytest.raises(PushError, match="status 401"):
        stranger.pusher.push(image)


@pytest.mark.parametrize(
    ("name", "path", "seen"),
    [
        ("", "public", "200"),
        ("", "team-a", INSUFFICIENT),
        ("", "closed", INSUFFICIENT),
        ("team-a", "public", "200"),
        ("team-a", "team-a", "200"),
        ("team-a", "team-b", INSUFFICIENT),
        ("team-a", "closed", "no token: 403"),
        ("team-b", "team-a", INSUFFICIENT),
        ("team-b", "team-b", "200"),
    ],
)
def test_token_gives_each_his_own_path(
    token: RegistryProcess, image: Image, name: str, path: str, seen: str, tmp_path: Path
) -> None:
    account, client = token.accounts[name], Client(token)
    answer = client.ask(account, *pull(path))
    found = client.with_token(path, answer.json()["token"]) if answer.status == 200 else f"no token: {answer.status}"
    assert found == seen
    for login in (password_login(account), identity_login(account)) if name else (None,):
        assert skopeo(token, path, tmp_path, login) == (image.top.data if seen == "200" else None)


def test_token_refuses_who_is_wrong_about_himself(token: RegistryProcess, tmp_path: Path) -> None:
    client, account = Client(token), wrong(token.accounts["team-a"])
    assert client.ask(account, *pull("public")).status == 401
    for form in (
        {"grant_type": "password", "username": account.name, "password": account.password},
        {"grant_type": "refresh_token", "refresh_token": account.identity_token},
        {"grant_type": "refresh_token", "refresh_token": ""},
    ):
        assert client.ask_by_form(*pull("public"), **form).status == 401
    for login in (password_login(account), identity_login(account)):
        assert skopeo(token, "public", tmp_path, login) is None
    assert client.ask_by_form(*pull("public"), grant_type="client_credentials").status == 400


def test_one_token_has_several_scopes(token: RegistryProcess) -> None:
    account, client = token.accounts["team-a"], Client(token)
    scopes = pull("public", "team-a", "team-b")
    login = {"grant_type": "password", "username": account.name, "password": account.password}
    for answer in (client.ask(account, *scopes).json(), client.ask_by_form(*scopes, **login).json()):
        assert answer["token"] == answer["access_token"]
        assert answer["scope"].split() == pull("public", "team-a")
        seen = {path: client.with_token(path, answer["token"]) for path in PATHS}
        assert seen == {"public": "200", "team-a": "200", "team-b": INSUFFICIENT, "closed": INSUFFICIENT}


def test_a_password_buys_an_identity_token_that_is_as_good(token: RegistryProcess) -> None:
    account, client = token.accounts["team-a"], Client(token)
    login = {"grant_type": "password", "username": account.name, "password": account.password}
    assert "refresh_token" not in client.ask_by_form(**login).json()
    bought = client.ask_by_form(**login, access_type="offline").json()["refresh_token"]
    refreshed = client.ask_by_form(*pull("team-a"), grant_type="refresh_token", refresh_token=bought).json()
    assert client.with_token("team-a", refreshed["access_token"]) == "200"


def test_a_hasty_token_ends_early(token: RegistryProcess) -> None:
    """The registry refuses it although its end, as told, is far: what clients see of clocks that differ."""
    account, client = token.accounts["hasty"], Client(token)
    seen: set[str] = set()

    def fresh() -> dict[str, Any]:
        answer: dict[str, Any] = client.ask(account, *pull("team-a")).json()
        return answer

    until(lambda: client.with_token("team-a", fresh()["token"]) == "200", "a fresh token is good")
    old = fresh()
    assert old["expires_in"] > 10 * HASTY_SECONDS

    def refused() -> bool:
        seen.add(client.with_token("team-a", old["token"]))
        return "401 invalid_token" in seen

    until(refused, "the token has ended", instead=lambda: str(seen))
    until(lambda: client.with_token("team-a", fresh()["token"]) == "200", "a fresh token is good again")


def test_secrets_are_the_folders_own(token: RegistryProcess, tmp_path: Path) -> None:
    first, again = make_accounts(tmp_path / "one"), make_accounts(tmp_path / "one")
    other = make_accounts(tmp_path / "other")
    assert first == again
    assert len({a.password for a in (*first.values(), *other.values())}) == 2 * len(first) - 1  # "" has none
    assert stat.S_IMODE((tmp_path / "one" / "secret").stat().st_mode) == 0o600
    assert first["team-a"].password not in htpasswd(first.values())
    assert all(a.password not in repr(a) for a in first.values() if a.name)
