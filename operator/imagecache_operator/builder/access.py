# SPDX-License-Identifier: Apache-2.0
"""Answers a registry's demand to say who asks. `registry.py` asks before each request and after each 401.

A login is one credential, or None for nobody in particular. Which logins there are for an image, and in which order,
is kubelet's rule (`api/credentials.py`), with one more at the end: anonymous, which kubelet never tries once a
credential matches. A Secret that ran out must not make a public image private.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from urllib.parse import urlencode

from imagecache_operator.api.credentials import Credential, Credentials
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import Reference
from imagecache_operator.builder import challenge as challenges
from imagecache_operator.builder.challenge import Challenge
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.transport import Reply, Transport

_LONGEST_ANSWER = 1024 * 1024
_USUAL_LIFE = 60.0  # seconds, where the answer does not say
_TOKEN = re.compile(r"[\x21-\x7e]+")
_CLIENT = "imagecache-builder"
_ROLE = "token service"

Login = Credential | None
_Asker = tuple[str, str, Login]  # host, path, login
_Key = tuple[str, str, str, str, Login]  # host, realm, service, scope, login


class Refused(Exception):
    """The registry, or the token service that it names, does not let this login in: with 401, or with 403."""

    def __init__(self, status: int = 401) -> None:
        super().__init__(status)
        self.status = status


class Access:
    """Logins, and their tokens for as long as they live; shared by all threads."""

    def __init__(self, transport: Transport, credentials: Credentials) -> None:
        self._transport = transport
        self._credentials = credentials
        self._served: dict[str, Login] = {}  # by repository: the login that was let in last
        self._shown: dict[str, set[str]] = {}  # by image: sources of the credentials that were let in
        self._asking: dict[_Key, threading.Lock] = {}
        self._tokens: dict[_Key, tuple[str, float]] = {}
        self._demands: dict[_Asker, _Key] = {}
        self._basic: set[_Asker] = set()

    def logins(self, reference: Reference) -> tuple[Login, ...]:
        """Those to try for the image, the one that was let in last time first."""
        all_of_them: tuple[Login, ...] = (*self._credentials.candidates(reference), None)
        first = self._served.get(reference.name, all_of_them[0])
        return (first, *(login for login in all_of_them if login != first))

    def served(self, reference: Reference, login: Login, sent: str | None) -> None:
        """This login was let in, with the header `sent`: the repository's next request begins with it."""
        self._served[reference.name] = login
        if login and sent:  # a registry that asked for nothing has given to everybody what it gave
            self._shown.setdefault(reference.canonical, set()).add(login.source)

    def sources(self, reference: Reference) -> frozenset[str]:
        """Where the credentials come from that any request for the image was let in with."""
        return frozenset(self._shown.get(reference.canonical, ()))

    def authorization(self, host: str, path: str, login: Login) -> str | None:
        """The header's value for requests to this repository as far as its registry's demand is known."""
        if login and (host, path, login) in self._basic:
            return _basic(login)
        key = self._demands.get((host, path, login))
        token, end = self._tokens.get(key, ("", 0.0)) if key else ("", 0.0)
        return f"Bearer {token}" if token and time.monotonic() < end else None

    def answer(self, host: str, path: str, login: Login, header: str, refused: str | None) -> str:
        """A new value after a 401 with this `WWW-Authenticate` header; `refused` is what was sent.

        Raises Refused where there is nothing else to send, ImageError and Trouble.
        """
        demands = challenges.parse(header)
        bearer = next((c for c in demands if c.scheme == "bearer" and c.realm), None)
        if bearer:
            return self._bearer(host, path, login, bearer, refused)
        if login and login.username and any(c.scheme == "basic" for c in demands) and _basic(login) != refused:
            self._basic.add((host, path, login))
            return _basic(login)
        raise Refused

    def _bearer(self, host: str, path: str, login: Login, demand: Challenge, refused: str | None) -> str:
        key = (host, demand.realm, demand.service, demand.scope or f"repository:{path}:pull", login)
        self._demands[host, path, login] = key
        with self._asking.setdefault(key, threading.Lock()):  # one thread asks, the others find its answer
            known = self.authorization(host, path, login)
            if known and known != refused:
                return known
            if login and login.registry_token:
                if refused or not _TOKEN.fullmatch(login.registry_token):
                    raise Refused
                self._tokens[key] = login.registry_token, float("inf")
            else:
                self._tokens[key] = self._new_token(host, demand, key[3], login)
            return f"Bearer {self._tokens[key][0]}"

    def _new_token(self, host: str, demand: Challenge, scope: str, login: Login) -> tuple[str, float]:
        reply = self._ask(host, demand, scope, login)
        if reply.status != 200:
            reply.release()
            raise Refused(403 if reply.status == 403 else 401)
        body = reply.whole(_LONGEST_ANSWER)
        try:
            answer = json.loads(body or b"")
            token = answer.get("token") or answer.get("access_token")
            life = float(answer.get("expires_in") or _USUAL_LIFE)
            if not _TOKEN.fullmatch(token):
                raise ValueError
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            raise ImageError(Reason.REGISTRY_UNAVAILABLE, f"The {reply.peer} sends no usable token.") from None
        return token, time.monotonic() + max(0.0, min(life, 3600.0))

    def _ask(self, host: str, demand: Challenge, scope: str, login: Login) -> Reply:
        realm = demand.realm.partition("#")[0]
        if login and self._transport.scheme(host) == "https" and not realm.lower().startswith("https:"):
            raise Refused  # what is for a registry with TLS goes nowhere without it, also not where others may
        wanted = [(k, v) for k, v in (("service", demand.service), ("scope", scope)) if v]
        if login and login.identity_token:
            form = [("grant_type", "refresh_token"), ("refresh_token", login.identity_token), ("client_id", _CLIENT)]
            return self._transport.post_form(realm, host, urlencode([*form, *wanted]), _ROLE)
        url = f"{realm}{'&' if '?' in realm else '?'}{urlencode(wanted)}"
        headers = {"Accept": "application/json"}
        return self._transport.get(url, host, headers, _basic(login) if login else None, _ROLE)


def _basic(login: Credential) -> str:
    return "Basic " + base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
