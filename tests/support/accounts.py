# SPDX-License-Identifier: Apache-2.0
"""Who may log in to the private test registries, with what, and how a pull secret says so.

Called by `private_registry` (containers beside the cluster), by `registry_process` (processes on loopback), and by
tests, which give these logins to kubelets and builders.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

import bcrypt

from . import private_files
from .token_service.service import Account

PUBLIC = {"public/": ("pull",)}
CLOSED = {"closed/": ()}  # whoever logs in is told that he may not: 403
GRANTS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "": PUBLIC,  # whoever does not log in
    "team-a": PUBLIC | CLOSED | {"team-a/": ("pull",)},
    "team-b": PUBLIC | CLOSED | {"team-b/": ("pull",)},
    "hasty": PUBLIC | CLOSED | {"team-a/": ("pull",)},
    "pusher": {"": ("pull", "push", "delete")},
}
HASTY_SECONDS = 3  # then the registry refuses hasty's tokens, whatever he was told

Login = Mapping[str, str]


def make_accounts(folder: Path) -> dict[str, Account]:
    """All accounts by name: the same ones each time, with passwords that only this folder knows."""
    secret = private_files.kept(folder / "secret", secrets.token_hex)

    def derived(purpose: str) -> str:
        return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()[:32]

    return {
        name: Account(
            name,
            grants,
            password=derived(f"password of {name}") if name else "",
            identity_token=derived(f"identity token of {name}") if name else "",
            lifetime=HASTY_SECONDS if name == "hasty" else 300,
        )
        for name, grants in GRANTS.items()
    }


def password_login(account: Account) -> Login:
    """An entry of a pull secret, as `kubectl create secret docker-registry` writes it."""
    return {"username": account.name, "password": account.password, "auth": _auth(account.name, account.password)}


def identity_login(account: Account) -> Login:
    """The entry that `docker login` writes where a token service hands out identity tokens."""
    return {"auth": _auth(account.name, ""), "identitytoken": account.identity_token}


def docker_config(logins: Mapping[str, Login]) -> str:
    """The content of `.dockerconfigjson`: registries (or paths in them) and their logins."""
    return json.dumps({"auths": logins})


def dockercfg(logins: Mapping[str, Login]) -> str:
    """The content of `.dockercfg`, the older form."""
    return json.dumps(logins)


def htpasswd(accounts: Iterable[Account]) -> str:
    """A password file. Distribution takes bcrypt only; it computes one for each request, so the cost is low."""
    return "".join(
        f"{account.name}:{bcrypt.hashpw(account.password.encode(), bcrypt.gensalt(5)).decode()}\n"
        for account in accounts
    )


def _auth(name: str, password: str) -> str:
    return base64.b64encode(f"{name}:{password}".encode()).decode()
