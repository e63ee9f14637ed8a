# SPDX-License-Identifier: Apache-2.0
"""Hands out tokens for one registry: `service.py SETTINGS ADDRESS PORT`. Runs in a container or as a process (see
`tests.support.token_service`), where only the standard library is there.

It speaks CNCF distribution's token protocol: GET with a password or with nothing, POST as in OAuth 2.
https://distribution.github.io/distribution/spec/auth/token/ and …/oauth/
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
import ssl
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

LEEWAY = 60  # seconds for which distribution honours a token after its end
SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")  # its name, as PKCS #1 writes it before a hash
PATH = "/token"

Parameters = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Account:
    """Somebody who may ask for tokens. The one without a name is everybody who says nothing about himself."""

    name: str
    grants: Mapping[str, Sequence[str]]  # start of a path → actions; with no action, a refusal in so many words
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)  # good instead of the password; OAuth's refresh_token
    lifetime: int = 300  # seconds until the registry refuses a token
    expires_in: int = 300  # what the client is told about that


@dataclass(frozen=True)
class Settings:
    issuer: str
    service: str  # the registry's name for itself
    certificate: str
    key: str
    signing_key: Mapping[str, str]  # a private JSON Web Key
    accounts: Sequence[Account]

    @classmethod
    def read(cls, path: Path) -> Settings:
        content = json.loads(path.read_text())
        return cls(**{**content, "accounts": [Account(**account) for account in content["accounts"]]})


class Refusal(Exception):
    """No token."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"errors": [{"code": code, "message": message}]}


class Tokens:
    """Who asks, what for, and what he gets."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def known_by_password(self, name: str, password: str) -> Account:
        return self._known(a for a in self._settings.accounts if (a.name, a.password) == (name, password))

    def known_by_identity_token(self, token: str) -> Account:
        return self._known(a for a in self._settings.accounts if token and a.identity_token == token)

    def answer(self, account: Account, service: str, scopes: Iterable[str], offline: bool) -> dict[str, Any]:
        """A token for what the account may do of all that is asked: perhaps for nothing."""
        if service != self._settings.service:
            raise Refusal(400, "UNSUPPORTED", f"no tokens for {service} here")
        access = [entry for scope in scopes if (entry := _access(account, scope))["actions"]]
        now = int(time.time())
        claims = {
            "iss": self._settings.issuer, "aud": service, "sub": account.name, "jti": secrets.token_hex(),
            "iat": now, "nbf": now, "exp": now + account.lifetime - LEEWAY, "access": access,
        }
        token = _signed(claims, self._settings.signing_key)
        return {
            "token": token,
            "access_token": token,
            "expires_in": account.expires_in,
            "issued_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "scope": " ".join(f"{e['type']}:{e['name']}:{','.join(e['actions'])}" for e in access),
            **({"refresh_token": account.identity_token} if offline and account.identity_token else {}),
        }

    def _known(self, found: Iterable[Account]) -> Account:
        for account in found:
            return account
        raise Refusal(401, "UNAUTHORIZED", "wrong user name, password or identity token")


def _access(account: Account, scope: str) -> dict[str, Any]:
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    starts = [start for start in account.grants if kind == "repository" and name.startswith(start)]
    granted = account.grants[max(starts, key=len)] if starts else ()
    if starts and not granted:
        # So do ghcr.io and GitLab. Others sign a token without the right, and their registries say 401.
        raise Refusal(403, "DENIED", f"{account.name} may not use {name}")
    return {"type": kind, "name": name, "actions": [action for action in actions.split(",") if action in granted]}


def _signed(claims: Mapping[str, Any], key: Mapping[str, str]) -> str:
    """A JSON Web Token with an RS256 signature, for which pow() is all that it takes (RFC 8017, 8.2 and 9.2)."""
    header = {"typ": "JWT", "alg": "RS256", "kid": key["kid"]}
    text = ".".join(_base64(json.dumps(part).encode()) for part in (header, claims))
    modulus, exponent = (int.from_bytes(base64.urlsafe_b64decode(key[name] + "=="), "big") for name in ("n", "d"))
    size = (modulus.bit_length() + 7) // 8
    digest = SHA256 + hashlib.sha256(text.encode()).digest()
    padded = b"\x00\x01" + b"\xff" * (size - len(digest) - 3) + b"\x00" + digest
    signature = pow(int.from_bytes(padded, "big"), exponent, modulus).to_bytes(size, "big")
    return f"{text}.{_base64(signature)}"


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60  # of a connection on which nothing is said
    tokens: Tokens  # set by main

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        self._respond(query, lambda: (self._logged_in(), _only(query, "offline_token") == "true"))

    def do_POST(self) -> None:
        form = parse_qs(self._body().decode())
        self._respond(form, lambda: self._granted(form))

    def _body(self) -> bytes:
        """In one piece or, as skopeo sends it, in chunks."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _logged_in(self) -> Account:
        kind, _, encoded = self.headers.get("Authorization", "").partition(" ")
        try:
            name, _, password = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise Refusal(401, "UNAUTHORIZED", "unreadable credentials") from None
        if kind.lower() not in ("", "basic"):
            raise Refusal(401, "UNAUTHORIZED", f"no way to log in: {kind}")
        return self.tokens.known_by_password(name, password)

    def _granted(self, form: Parameters) -> tuple[Account, bool]:
        match _only(form, "grant_type"):
            case "password":
                account = self.tokens.known_by_password(_only(form, "username"), _only(form, "password"))
                return account, _only(form, "access_type") == "offline"
            case "refresh_token":
                return self.tokens.known_by_identity_token(_only(form, "refresh_token")), True
        raise Refusal(400, "UNSUPPORTED", "grant_type is neither password nor refresh_token")

    def _respond(self, asked: Parameters, who: Callable[[], tuple[Account, bool]]) -> None:
        scopes = " ".join(asked.get("scope", ())).split()
        status, name = 200, "-"
        try:
            if urlsplit(self.path).path != PATH:
                raise Refusal(404, "NOT_FOUND", f"tokens are at {PATH}")
            account, offline = who()
            name = account.name or "anonymous"
            body = self.tokens.answer(account, _only(asked, "service"), scopes, offline)
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
        data = json.dumps(body).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="tokens"')
        self.end_headers()
        self.wfile.write(data)
        print(status, self.command, name, *scopes, flush=True)


def _only(asked: Parameters, name: str) -> str:
    return next(iter(asked.get(name, ())), "")


def main(path: Path, address: str, port: int) -> None:
    settings = Settings.read(path)
    _Handler.tokens = Tokens(settings)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path.parent / settings.certificate, path.parent / settings.key)
    with ThreadingHTTPServer((address, port), _Handler) as server:
        # Shaking hands is for a connection's own thread: here, one silent client would keep out all others.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        server.serve_forever()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
