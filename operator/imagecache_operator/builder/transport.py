# SPDX-License-Identifier: Apache-2.0
"""One request to a registry: redirects followed, every failure turned into words.

`registry.py` and `access.py` send with it. Messages name hosts, never whole URLs: the query of a redirect is a
signature that opens the layer to everybody who reads it.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import urljoin

import urllib3
from urllib3 import BaseHTTPResponse, exceptions
from urllib3.util import Url, parse_url

from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.connections import ForbiddenAddress
from imagecache_operator.builder.errors import ImageError, printable
from imagecache_operator.builder.patience import Trouble

_MAX_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)


class Transport:
    """Sends. `plain_http` are the hosts (`host` or `host:port`) that may be spoken to without TLS."""

    def __init__(self, pools: urllib3.PoolManager, plain_http: frozenset[str]) -> None:
        self._pools = pools
        self._plain_http = plain_http

    def scheme(self, host: str) -> str:
        """`http` for a host that the settings name, `https` for all others."""
        return "http" if host in self._plain_http else "https"

    def get(self, url: str, headers: dict[str, str], authorization: str | None = None) -> BaseHTTPResponse:
        """The response after all redirects, unread; its status may be anything. The caller closes it.

        `authorization` is sent to the URL's own host only. Raises Trouble and ImageError.
        """
        first = place = self._checked(url)
        for _ in range(_MAX_REDIRECTS + 1):
            sent = {**headers, "Accept-Encoding": "identity"}
            if authorization and (place.scheme, place.netloc) == (first.scheme, first.netloc):
                sent["Authorization"] = authorization
            response = self._send("GET", place, sent)
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or not target:
                self._raise_if_storage_refuses(response, place, first)
                return response
            response.close()
            place = self._checked(urljoin(place.url, target))
        raise ImageError(
            Reason.REGISTRY_UNAVAILABLE, f"The registry {shown_host(first)} redirects in a circle.",
        )

    def post_form(self, url: str, form: str) -> BaseHTTPResponse:
        """The response, unread; a redirect is not followed, because the form holds a secret. Raises like `get`."""
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        return self._send("POST", self._checked(url), headers, form)

    def _send(self, method: str, place: Url, headers: dict[str, str], body: str | None = None) -> BaseHTTPResponse:
        with failures_in_words(shown_host(place)):
            return self._pools.request(
                method, place.url, body=body, headers=headers, redirect=False, retries=False, preload_content=False,
            )

    def _checked(self, url: str) -> Url:
        try:
            place = parse_url(url)
        except exceptions.LocationParseError:
            raise ImageError(Reason.REGISTRY_UNAVAILABLE, "A registry sent an address that cannot be read.") from None
        if place.scheme != "https" and not (place.scheme == "http" and place.netloc in self._plain_http):
            raise ImageError(
                Reason.TLS_FAILED,
                f"The host {shown_host(place)} would be spoken to without TLS, and no setting allows that for it.",
            )
        return Url(place.scheme, None, place.host, place.port, place.path, place.query)

    def _raise_if_storage_refuses(self, response: BaseHTTPResponse, place: Url, first: Url) -> None:
        # A registry's storage says 403 when a signature has run out; the next try gets a new one from the registry.
        if place.netloc != first.netloc and response.status in (400, 401, 403, 404):
            response.close()
            raise Trouble(
                Reason.REGISTRY_UNAVAILABLE,
                f"The registry {shown_host(first)} refers to {shown_host(place)} for its data, "
                f"which answers {response.status}.",
            )


def shown_host(place: Url) -> str:
    """The host of a URL for a message."""
    return printable(place.netloc or "without a name")


def raise_for_trouble(response: BaseHTTPResponse, host: str) -> None:
    """Closes the response and raises Trouble if its status is one that passes by itself."""
    status = response.status
    if status not in (408, 429) and status < 500:
        return
    wait = _retry_after(response.headers.get("Retry-After", ""))
    response.close()
    if status == 429:
        raise Trouble(
            Reason.TOO_MANY_REQUESTS,
            f"The registry {host} limits the number of requests; it is asked again later, or use a mirror.", wait,
        )
    raise Trouble(Reason.REGISTRY_UNAVAILABLE, f"The registry {host} answers {status}; it is asked again later.", wait)


@contextlib.contextmanager
def failures_in_words(host: str) -> Iterator[None]:
    """Turns what urllib3 raises inside the block into ImageError, or Trouble where another try may help."""
    try:
        yield
    except ForbiddenAddress:
        raise ImageError(
            Reason.UNSUPPORTED,
            f"The host {host} has an address that belongs to the node or to the cloud, not to a registry.",
        ) from None
    except exceptions.NameResolutionError:
        raise Trouble(Reason.DNS_FAILED, f"The host name {host} cannot be resolved: check its spelling.") from None
    except exceptions.NewConnectionError:  # before the next one, whose subclass it is
        raise Trouble(Reason.REGISTRY_UNAVAILABLE, f"Nobody answers at the host {host}.") from None
    except (exceptions.ConnectTimeoutError, exceptions.ReadTimeoutError):
        raise Trouble(Reason.TIMEOUT, f"The registry {host} does not answer in time.") from None
    except exceptions.SSLError as error:
        raise _tls_failure(error, host) from None
    except (exceptions.LocationValueError, UnicodeError):
        raise ImageError(Reason.DNS_FAILED, f"{host} is no host name that can be looked up.") from None
    except exceptions.HTTPError:
        raise Trouble(Reason.REGISTRY_UNAVAILABLE, f"The connection to the registry {host} failed.") from None


def _tls_failure(error: exceptions.SSLError, host: str) -> ImageError:
    cause = error.args[0] if error.args else None
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ImageError(
            Reason.TLS_FAILED,
            f"The certificate of the registry {host} is not trusted ({printable(cause.verify_message)}): "
            "give the builder the registry's authority.",
        )
    if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return ImageError(Reason.TLS_FAILED, f"The registry {host} does not speak TLS.")
    return Trouble(Reason.REGISTRY_UNAVAILABLE, f"The TLS connection to the registry {host} failed.")


def _retry_after(text: str) -> float | None:
    """Seconds, from a number or a date; None if there is neither."""
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
