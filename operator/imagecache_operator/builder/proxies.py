# SPDX-License-Identifier: Apache-2.0
"""Which proxy stands before a host, by `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY`. `connections.py` asks for each
request.

The variables mean what they mean to Go's programs, among them the container runtimes that pull beside the builder:
an image that a node can pull must not fail here because a variable is read another way.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.text import printable
from imagecache_operator.builder.errors import ImageError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Proxy:
    """A proxy, `name` (host and port) for messages. What it is told about who asks is in no text of this object."""

    url: str
    name: str
    authorization: str = field(default="", repr=False)


class Proxies:
    """The proxies that an environment names. A variable that makes no sense fails what needs it, not the others."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._settings = {scheme: _variable(environment, f"{scheme}_proxy") for scheme in ("http", "https")}
        self._exceptions = _variable(environment, "no_proxy").lower().split(",")

    def of(self, scheme: str, host: str, port: int) -> Proxy | None:
        """The one for this address, if any. Raises ImageError when the setting cannot be used."""
        setting = self._settings[scheme]
        if not setting or self._is_exception(host.lower().rstrip("."), port):
            return None
        proxy = _parsed(setting)
        if proxy is None:
            raise ImageError(
                Reason.UNSUPPORTED,
                f"{scheme.upper()}_PROXY names no proxy that can be used: write http://host:port or https://host:port.",
            )
        return proxy

    def _is_exception(self, host: str, port: int) -> bool:
        address = _address(host)
        # What a proxy has at its own loopback address is never what is meant.
        if host == "localhost" or (address and address.is_loopback):
            return True
        return any(_covers(entry.strip(), host, port, address) for entry in self._exceptions)


def _variable(environment: Mapping[str, str], name: str) -> str:
    return (environment.get(name.upper()) or environment.get(name) or "").strip()


def _parsed(setting: str) -> Proxy | None:
    try:
        url = parse_url(setting if "://" in setting else f"http://{setting}")
    except LocationParseError:
        return None
    if url.scheme not in ("http", "https") or not url.host:
        return None
    port = url.port or (443 if url.scheme == "https" else 80)
    name = printable(f"{url.host}:{port}")
    user, _, password = (unquote(part) for part in (url.auth or "").partition(":"))
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode()
    return Proxy(f"{url.scheme}://{url.host}:{port}", name, f"Basic {encoded}" if url.auth else "")


def _covers(entry: str, host: str, port: int, address: _Address | None) -> bool:
    """Whether an entry of NO_PROXY means this host: `*`, an address, a network, or a domain; perhaps with a port."""
    if entry == "*":
        return True
    with contextlib.suppress(ValueError):
        network = ipaddress.ip_network(entry.strip("[]"), strict=False)
        return address is not None and address in network
    name, _, number = entry.rpartition(":")
    if name and number.isascii() and number.isdecimal():
        return int(number) == port and _covers(name.strip("[]"), host, port, address)
    # `.example` and `*.example` are the names below it, `example` is itself too.
    domain = entry.removeprefix("*")
    return bool(domain) and (host == domain or host.endswith(domain if domain.startswith(".") else f".{domain}"))


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
