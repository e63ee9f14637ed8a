# SPDX-License-Identifier: Apache-2.0
"""What goes wrong on the way to a host, in words: which reason it is, whether another try may help, what to do.

`transport.py` sends inside of it, and whoever reads an answer reads inside of it. None of the original texts is
shown: they hold URLs.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Iterator
from http.client import HTTPException, IncompleteRead

from urllib3 import exceptions

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.text import printable
from imagecache_operator.builder.connections import ForbiddenAddress, TooSlow
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.patience import Trouble
from imagecache_operator.builder.proxies import Proxy

# What is wrong with a certificate, by OpenSSL's numbers (X509_V_ERR_…).
_CERTIFICATE_ERRORS = {
    9: "is not valid yet: correct this node's clock, or wait",
    10: "has expired: renew it there, or correct this node's clock",
    **dict.fromkeys((62, 64), "is for another name: use a name that it is for, or have one issued for this"),
    **dict.fromkeys((2, 18, 19, 20, 21), "is not trusted: give the builder the authority that issued it"),
}
# How OpenSSL's versions call what a server says that speaks without TLS; a broken connection may look like it.
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})

_TUNNEL_REFUSED = re.compile(r"Tunnel connection failed: ([0-9]{3})")


@contextlib.contextmanager
def failures_in_words(peer: str, proxy: Proxy | None = None) -> Iterator[None]:
    """Turns what `Pools.request` and reading raise inside the block into ImageError, or Trouble where another try may
    help. `peer` is who is spoken to."""
    try:
        yield
    except (ForbiddenAddress, TooSlow, exceptions.HTTPError, UnicodeError) as error:
        raise _in_words(error, peer, proxy) from None


def refusal_of_proxy(proxy: Proxy, peer: str, status: int) -> ImageError:
    """The proxy answers instead of the peer, with this status."""
    if status == 407:
        return ImageError(
            Reason.REGISTRY_UNAVAILABLE,
            f"The proxy {proxy.name} wants another user name and password: correct the setting that names it.",
        )
    if status < 500:
        return ImageError(
            Reason.REGISTRY_UNAVAILABLE, f"The proxy {proxy.name} does not let the builder ask the {peer} ({status}).",
        )
    return Trouble(Reason.REGISTRY_UNAVAILABLE, f"The proxy {proxy.name} does not reach the {peer} ({status}).")


def _in_words(error: Exception, peer: str, proxy: Proxy | None) -> ImageError:
    match error:
        case ForbiddenAddress():
            return ImageError(
                Reason.UNSUPPORTED,
                f"The {peer} has an address that belongs to the node or to the cloud, not to a registry.",
            )
        case TooSlow():
            return Trouble(Reason.TIMEOUT, f"The {peer} sends too slowly.")
        case exceptions.ProxyError(original_error=cause) if proxy:
            if refused := _TUNNEL_REFUSED.search(str(cause)):
                return refusal_of_proxy(proxy, peer, int(refused[1]))
            return _in_words(cause, f"proxy {proxy.name}", None)
        case exceptions.NameResolutionError():
            return Trouble(Reason.DNS_FAILED, f"The name of the {peer} cannot be resolved: check its spelling.")
        case exceptions.NewConnectionError():
            return Trouble(Reason.REGISTRY_UNAVAILABLE, f"Nobody answers at the {peer}.")
        case exceptions.ConnectTimeoutError() | exceptions.ReadTimeoutError():
            return Trouble(Reason.TIMEOUT, f"The {peer} does not answer in time.")
        case exceptions.SSLError(args=[ssl.SSLError() as cause, *_]):
            return _about_tls(cause, peer)
        case exceptions.LocationValueError() | UnicodeError():
            return ImageError(Reason.DNS_FAILED, f"The {peer} has no name that can be looked up.")
    if _is_no_http(error):
        return Trouble(
            Reason.REGISTRY_UNAVAILABLE, f"The {peer} sends something that is not HTTP, or headers without end.",
        )
    return Trouble(Reason.REGISTRY_UNAVAILABLE, f"The connection to the {peer} failed.")


def _about_tls(error: ssl.SSLError, peer: str) -> ImageError:
    if isinstance(error, ssl.SSLCertVerificationError):
        wrong = _CERTIFICATE_ERRORS.get(error.verify_code) or f"is not accepted ({printable(error.verify_message)})"
        return ImageError(Reason.TLS_FAILED, f"The certificate of the {peer} {wrong}.")
    if error.reason in _NO_TLS:
        return Trouble(
            Reason.TLS_FAILED, f"The {peer} does not speak TLS. If that is meant, name it as a registry without TLS.",
        )
    return Trouble(Reason.REGISTRY_UNAVAILABLE, f"The TLS connection to the {peer} failed.")


def _is_no_http(error: Exception) -> bool:
    cause = error.args[-1] if isinstance(error, exceptions.ProtocolError) else error
    broken_off = isinstance(cause, IncompleteRead | ConnectionError)
    return isinstance(cause, HTTPException | exceptions.InvalidHeader) and not broken_off
