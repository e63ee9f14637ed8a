# SPDX-License-Identifier: Apache-2.0
"""Two registries beside a cluster that ask who is there: `basic.test:5000` for a password, `token.test:5000` for a
token of `auth.test:5001`.

The first gives everything to whoever logs in, so it can't tell one team from another. The second gives each account
of `accounts.py` its own paths. Called by end-to-end tests.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import urllib3

from tests.cluster.cluster import Cluster

from . import private_files, registry_container, token_service
from .accounts import Login, docker_config, dockercfg, htpasswd, identity_login, make_accounts, password_login
from .images import Image
from .push import Pusher
from .registry_container import FILES, RegistryContainer
from .tls import Authority
from .token_service.service import Account
from .upstream import Upstream

BASIC_HOST = "basic.test"
TOKEN_HOST = "token.test"
SLOW_TOKEN_HOST = "slow-token.test"  # for `slow_link`: the certificate of token.test is good for it
AUTH_HOST = "auth.test"
AUTH_PORT = 5001
# By name here → by name there. Small ones; team-b's is not the others', so that a digest tells them apart.
BASIC_IMAGES = {"team-a/tools:1.0": "base/tools:1.0", "team-b/data:1.0": "data/only:5"}
TOKEN_IMAGES = BASIC_IMAGES | {"public/tools:1.0": "base/tools:1.0", "closed/tools:1.0": "base/tools:1.0"}


@dataclass(frozen=True)
class PrivateRegistry(RegistryContainer):
    """A registry, and who may log in to it."""

    accounts: Mapping[str, Account]

    def docker_config(self, name: str, identity: bool = False) -> str:
        """`.dockerconfigjson` with the password of this account, or instead with its identity token."""
        return docker_config({self._server: self._login(name, identity)})

    def dockercfg(self, name: str) -> str:
        """`.dockercfg`, the older form."""
        return dockercfg({self._server: self._login(name, identity=False)})

    @property
    def _server(self) -> str:
        return f"{self.host}:{registry_container.PORT}"

    def _login(self, name: str, identity: bool) -> Login:
        account = self.accounts[name]
        return identity_login(account) if identity else password_login(account)


def start_basic(upstream: Upstream, folder: Path) -> PrivateRegistry:
    """Starts it, or takes the one that runs. It lives beside `upstream` and has its authority."""
    with registry_container.lock(folder):
        known = {name: account for name, account in make_accounts(folder).items() if name}
        files = folder / BASIC_HOST
        private_files.write(files / "htpasswd", htpasswd(known.values()))
        pusher = registry_container.serve(
            upstream.cluster, BASIC_HOST, files, upstream.authority,
            lambda address: Pusher(address, upstream.authority.ca_file, known["pusher"]),
            auth={"htpasswd": {"realm": "test", "path": f"{FILES}/htpasswd"}},
        )
    return _filled(upstream, BASIC_HOST, pusher, BASIC_IMAGES, known)


def start_token(upstream: Upstream, folder: Path) -> PrivateRegistry:
    """Starts it and its token service, or takes those that run."""
    service = f"{TOKEN_HOST}:{registry_container.PORT}"
    with registry_container.lock(folder):
        known = make_accounts(folder)
        key = token_service.signing_key(folder)
        tokens = _start_token_service(upstream.cluster, folder / AUTH_HOST, upstream.authority, service, key, known)
        files = folder / TOKEN_HOST
        private_files.write(files / "jwks.json", token_service.jwks(key))
        pusher = registry_container.serve(
            upstream.cluster, TOKEN_HOST, files, upstream.authority,
            lambda address: Pusher(address, upstream.authority.ca_file, known["pusher"], tokens),
            other_names=(SLOW_TOKEN_HOST,),
            auth={"token": token_service.registry_auth(f"{AUTH_HOST}:{AUTH_PORT}", service, f"{FILES}/jwks.json")},
        )
    return _filled(upstream, TOKEN_HOST, pusher, TOKEN_IMAGES, known)


def _start_token_service(
    cluster: Cluster, files: Path, authority: Authority, service: str, key: token_service.Key,
    known: Mapping[str, Account],
) -> str:
    """A new one each time: it keeps nothing, and so its program and its accounts are those of this working tree."""
    certificate = authority.issue(registry_container.certificate_names(cluster, AUTH_HOST), files)
    private_files.write(files / "settings.json", token_service.settings(service, key, certificate, known.values()))
    cluster.run_container(
        f"{cluster.name}-{AUTH_HOST}",
        cluster.engine.image("python"),
        ["python", "-c", token_service.PROGRAM.read_text(), f"{FILES}/settings.json", "0.0.0.0", str(AUTH_PORT)],  # noqa: S104
        alias=AUTH_HOST,
        publish={AUTH_PORT: 0},
        volumes={files: f"{FILES}:ro"},
    )
    pool = urllib3.PoolManager(ca_certs=str(authority.ca_file), retries=False)

    def answers(address: str) -> bool:
        try:
            return pool.request("GET", f"https://{address}/").status == 404
        except urllib3.exceptions.HTTPError:
            return False

    return registry_container.wait(cluster, AUTH_HOST, AUTH_PORT, answers)


def _filled(
    upstream: Upstream, host: str, pusher: Pusher, wanted: Mapping[str, str], known: Mapping[str, Account],
) -> PrivateRegistry:
    images: dict[str, Image] = {
        name: dataclasses.replace(upstream.images[source], name=name) for name, source in wanted.items()
    }
    for image in images.values():
        pusher.push(image)
    return PrivateRegistry(upstream.cluster, host, pusher, upstream.authority, images, known)
