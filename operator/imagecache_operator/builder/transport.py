# SPDX-License-Identifier: Apache-2.0
"""One request to a registry: redirects followed, every failure turned into words.

`registry.py` and `access.py` send with it. Messages name hosts, never whole URLs: the query of a redirect is a
signature that opens the layer to everybody who reads it.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

from urllib3 import BaseHTTPResponse, HTTPHeaderDict, exceptions
from urllib3.util import Url, parse_url

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.text import printable
from imagecache_operator.builder.connections import Pools
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.failures import failures_in_words, refusal_of_proxy
from imagecache_operator.builder.patience import Trouble
from imagecache_operator.builder.proxies import Proxy

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_LONGEST_REFUSAL = 4096  # bytes of an error's text that are looked at
_CLIENT = "imagecache-builder"


@dataclass(frozen=True)
class Reply:
    """An answer, unread, and who gave it. Until `release` it keeps one of its host's connections from others."""

    response: BaseHTTPResponse
    peer: str
    proxy: Proxy | None

    @property
    def status(self) -> int:
        return self.response.status

    @property
    def headers(self) -> HTTPHeaderDict:
        return self.response.headers

    @property
    def length(self) -> int | None:
        """How many bytes follow, where the headers say so."""
        return self.response.length_remaining

    def read(self, count: int) -> bytes:
        """Up to so many of the next bytes, fewer only at the end, as they came. Raises Trouble and ImageError."""
        with failures_in_words(self.peer, self.proxy):
            return self.response.read(count, decode_content=False)

    def whole(self, longest: int) -> bytes | None:
        """All bytes, or None if there are more than `longest`; ends it. Raises Trouble and ImageError."""
        data = bytearray()
        try:
            # One read may give less without a word: that it broke off is told by the next one.
            while piece := self.read(longest + 1 - len(data)):
                data += piece
        finally:
            self.release()
        return bytes(data) if len(data) <= longest else None

    def release(self) -> None:
        """Ends it, read or not."""
        self.response.close()
        self.response.release_conn()


class Transport:
    """Sends. `plain_http` are the hosts (`host` or `host:port`) that may be spoken to without TLS.

    `registry` is in each call the host that the user's reference names, for messages: also the host of a token
    service or of a storage is asked for its sake.
    """

    def __init__(self, pools: Pools, plain_http: frozenset[str]) -> None:
        self._pools = pools
        self._plain_http = plain_http

    def scheme(self, host: str) -> str:
        """`http` for a host that the settings name, `https` for all others."""
        return "http" if host in self._plain_http else "https"

    def get(
        self, url: str, registry: str, headers: dict[str, str], authorization: str | None = None,
        role: str = "host",
    ) -> Reply:
        """The reply after all redirects; its status is none that passes by itself.

        `authorization` is sent to the URL's own host only; `role` is what that host is, unless it is the registry.
        Raises Trouble and ImageError.
        """
        first = place = self._checked(url, registry)
        for _ in range(_MAX_REDIRECTS + 1):
            own = (place.scheme, place.netloc) == (first.scheme, first.netloc)
            sent = {**headers, "Accept-Encoding": "identity"}
            if authorization and own:
                sent["Authorization"] = authorization
            reply = self._send("GET", place, sent, name_of(place, registry, role if own else "host"))
            target = reply.headers.get("Location")
            if reply.status in _REDIRECTS and target:
                reply.release()
                place = self._checked(target, registry, place.url)
                continue
            # A registry's storage says so when a signature has run out; the next try gets a new one.
            if not own and reply.status in (400, 401, 403, 404):
                reply.release()
                raise Trouble(Reason.REGISTRY_UNAVAILABLE, f"The {reply.peer} answers {reply.status}.")
            return reply
        raise ImageError(
            Reason.REGISTRY_UNAVAILABLE, f"The {name_of(first, registry, role)} redirects in a circle.",
        )

    def post_form(self, url: str, registry: str, form: str, role: str = "host") -> Reply:
        """The reply; a redirect is not followed, because the form holds a secret. Raises like `get`."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        place = self._checked(url, registry)
        return self._send("POST", place, headers, name_of(place, registry, role), form)

    def _send(self, method: str, place: Url, headers: dict[str, str], peer: str, body: str | None = None) -> Reply:
        proxy = self._pools.proxy_of(place)
        with failures_in_words(peer, proxy):
            response = self._pools.request(method, place, {"User-Agent": _CLIENT, **headers}, body, proxy)
        reply = Reply(response, peer, proxy)
        if proxy and reply.status == 407:
            reply.release()
            raise refusal_of_proxy(proxy, peer, reply.status)
        if reply.status in (408, 429) or reply.status >= 500:
            reply.release()
            raise _passing(reply)
        # That is how Go's servers, nginx and others answer plain HTTP at a port of theirs that is for TLS.
        if place.scheme == "http" and reply.status == 400 and b"HTTPS" in (reply.whole(_LONGEST_REFUSAL) or b""):
            raise ImageError(
                Reason.TLS_FAILED,
                f"The {peer} speaks TLS, and a setting says that it does not: take it off the registries without TLS.",
            )
        return reply

    def _checked(self, url: str, registry: str, base: str = "") -> Url:
        place = None
        with contextlib.suppress(exceptions.LocationParseError, ValueError):
            place = parse_url(urljoin(base, url))
        if not place or not place.host or place.scheme not in ("http", "https"):
            raise ImageError(
                Reason.REGISTRY_UNAVAILABLE, f"The registry {registry} refers to an address that cannot be asked.",
            )
        if place.scheme == "http" and place.netloc not in self._plain_http:
            raise ImageError(
                Reason.TLS_FAILED,
                f"The {name_of(place, registry)} would be spoken to without TLS, and no setting allows that for it.",
            )
        return Url(place.scheme, None, place.host, place.port, place.path, place.query)


def name_of(place: Url, registry: str, role: str = "host") -> str:
    """Who is at the place, for a message: the registry itself, or another host that is asked for its sake."""
    host = printable(place.netloc or "without a name")
    return f"registry {host}" if host == registry else f"{role} {host} (for the registry {registry})"


def _passing(reply: Reply) -> Trouble:
    wait = _retry_after(reply.headers.get("Retry-After", ""))
    if reply.status == 429:
        return Trouble(
            Reason.TOO_MANY_REQUESTS,
            f"The {reply.peer} limits the number of requests; it is asked again later, or use a mirror.", wait,
        )
    return Trouble(
        Reason.REGISTRY_UNAVAILABLE, f"The {reply.peer} answers {reply.status}; it is asked again later.", wait,
    )


def _retry_after(text: str) -> float | None:
    """Seconds, from a number or a date; None if there is neither."""
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError, OverflowError):
        return None
