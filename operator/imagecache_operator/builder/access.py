# SPDX-License-Identifier: Apache-2.0
"""Answers a registry's demand for a token. `registry.py` asks before each request and after each 401."""

from __future__ import annotations

import json
import re
import threading
import time
from urllib.parse import urlencode

from urllib3.util import parse_url

from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder import challenge as challenges
from imagecache_operator.builder.challenge import Challenge
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.transport import Transport, failures_in_words, raise_for_trouble, shown_host

_LONGEST_ANSWER = 1024 * 1024
_USUAL_LIFE = 60.0  # seconds, where the answer does not say
_TOKEN = re.compile(r"[\x21-\x7e]+")

_Key = tuple[str, str, str, str]  # host, realm, service, scope


class Access:
    """Tokens, kept for as long as they live; shared by all threads."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._asking: dict[_Key, threading.Lock] = {}
        self._tokens: dict[_Key, tuple[str, float]] = {}
        self._demands: dict[tuple[str, str], _Key] = {}

    def authorization(self, host: str, path: str) -> str | None:
        """The header's value for requests to this repository as far as its registry's demand is known."""
        key = self._demands.get((host, path))
        token, end = self._tokens.get(key, ("", 0.0)) if key else ("", 0.0)
        return f"Bearer {token}" if token and time.monotonic() < end else None

    def answer(self, host: str, path: str, header: str, refused: str | None) -> str:
        """A new value after a 401 with this `WWW-Authenticate` header; `refused` is what was sent.

        Raises ImageError (Unauthorized) when the registry lets nobody in without credentials, and Trouble.
        """
        demand = next((c for c in challenges.parse(header) if c.scheme == "bearer" and c.realm), None)
        if demand is None:
            raise unauthorized(host, path)
        key = (host, demand.realm, demand.service, demand.scope or f"repository:{path}:pull")
        self._demands[host, path] = key
        with self._asking.setdefault(key, threading.Lock()):  # one thread asks, the others find its answer
            known = self.authorization(host, path)
            if known and known != refused:
                return known
            self._tokens[key] = self._anonymous_token(host, path, demand, key[3])
            return f"Bearer {self._tokens[key][0]}"

    def _anonymous_token(self, host: str, path: str, demand: Challenge, scope: str) -> tuple[str, float]:
        query = urlencode([(k, v) for k, v in (("service", demand.service), ("scope", scope)) if v])
        realm = demand.realm.partition("#")[0]
        url = f"{realm}{'&' if '?' in realm else '?'}{query}"
        response = self._transport.get(url, {"Accept": "application/json"})
        asked = shown_host(parse_url(url))
        raise_for_trouble(response, asked)
        try:
            if response.status != 200:
                raise unauthorized(host, path)
            with failures_in_words(asked):
                body = response.read(_LONGEST_ANSWER)
        finally:
            response.close()
        try:
            answer = json.loads(body)
            token = answer.get("token") or answer.get("access_token")
            life = float(answer.get("expires_in") or _USUAL_LIFE)
            if not _TOKEN.fullmatch(token):
                raise ValueError
        except (ValueError, TypeError, AttributeError, RecursionError, OverflowError):
            raise ImageError(
                Reason.REGISTRY_UNAVAILABLE, f"{asked} sends no usable token for the registry {host}.",
            ) from None
        return token, time.monotonic() + max(0.0, min(life, 3600.0))


def unauthorized(host: str, path: str) -> ImageError:
    """The registry wants to know who asks, or hides that there is no such image."""
    return ImageError(
        Reason.UNAUTHORIZED,
        f"The registry {host} does not give {path} to everybody: the image is private or its name is misspelt.",
    )
