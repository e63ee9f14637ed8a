# SPDX-License-Identifier: Apache-2.0
"""Connections to registries: TLS always verified, limits on every byte that comes, and never to an address that only
machines of a cloud may ask. `transport.py` sends all its requests with them.

The builder follows host names, token realms and redirects that users and registries choose. Without the check a
reference could make it read the metadata service of its node. The check comes before the first packet, and again
for the address that the socket really has: a name may resolve differently the second time.

Behind a proxy there is less to see. The socket's address is the proxy's, which may be anything: an administrator chose
it, not a user. Names are looked up by the proxy, so only an address in the URL itself can be refused here; that no
name leads it to a metadata service is for the proxy's own rules.
"""

from __future__ import annotations

import io
import ipaddress
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPResponse, RemoteDisconnected
from typing import Any, ClassVar

import urllib3
from urllib3 import BaseHTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util import Url

from imagecache_operator.builder.patience import Limits
from imagecache_operator.builder.proxies import Proxies, Proxy

_FORBIDDEN = tuple(ipaddress.ip_network(network) for network in (
    "0.0.0.0/32", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",  # unspecified, link-local, multicast
    "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",  # metadata of Alibaba, Azure, Oracle
    "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32",  # the last: metadata of AWS
))
_IPV4_BEHIND_NAT64 = ipaddress.ip_network("64:ff9b::/96")

_LONGEST_HEAD = 256 * 1024  # bytes of status lines and headers; http.client bounds each header, not all of them
_READ_AHEAD = 8 * 1024  # bytes that an answer's reader may take beyond what it was asked for
_INTERIM = (102, 103)  # "still at work" and "early hints"; http.client itself skips 100

_PORTS = {"http": 80, "https": 443}


class ForbiddenAddress(Exception):
    """The host's address belongs to the node or the cloud, not to a registry."""


class TooSlow(Exception):
    """Fewer bytes a second than the limits ask for."""


def is_forbidden(address: str) -> bool:
    """Whether the textual IP address is one that no registry has."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        behind_nat64 = ipaddress.IPv4Address(parsed.packed[-4:]) if parsed in _IPV4_BEHIND_NAT64 else None
        parsed = parsed.ipv4_mapped or parsed.sixtofour or behind_nat64 or parsed
    return any(parsed in network for network in _FORBIDDEN if network.version == parsed.version)


def _check_name(host: str, port: int, flags: int = 0) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError):
        return  # urllib3 meets the same and says so in its own words
    if any(is_forbidden(str(address[0])) for *_, address in found):
        raise ForbiddenAddress


def _checked(connection: socket.socket) -> socket.socket:
    if is_forbidden(connection.getpeername()[0]):
        connection.close()
        raise ForbiddenAddress
    return connection


class _Source(io.RawIOBase):
    """The bytes of one answer as they come. Only the time in which they are waited for counts against the registry:
    that a volume is slow is not its fault."""

    def __init__(self, raw: io.RawIOBase, receive: Callable[[memoryview, int], int], limits: Limits) -> None:
        super().__init__()
        self._raw = raw
        self._receive = receive
        self._limits = limits
        self.may_end = False  # http.client takes an end among the headers for the end of the headers
        self.allow(_LONGEST_HEAD)

    def allow(self, longest: int | None) -> None:
        """From now on at most so many bytes; None for any number."""
        self._left = longest
        self._waited = 0.0
        self._came = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """The next bytes. Whoever asks for more than the reader's own buffer holds wants all of it, and gets it in one
        call: TLS gives 16 KiB at a time, and each of those through every layer above is processor time for nothing."""
        room, filled = len(buffer), 0
        enough = room if room > _READ_AHEAD else 1
        now = time.monotonic()
        while filled < enough:
            count = self._receive(buffer[filled:], room - filled)
            before, now = now, time.monotonic()
            self._waited += now - before
            self._came += count
            if not count:
                break
            filled += count
            if self._waited >= self._limits.slowest_over:
                if self._came < self._limits.slowest * self._waited:
                    raise TooSlow
                self._waited, self._came = 0.0, 0
        if not filled and not self.may_end:
            raise RemoteDisconnected("an end among the headers")
        if self._left is not None:
            self._left -= filled
            if self._left < 0:
                raise HTTPException("headers without end")
        return filled

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(HTTPResponse):
    """An answer that is read under limits."""

    limits: ClassVar[Limits]

    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self._source = _Source(self.fp.detach(), sock.recv_into, self.limits)
        self.fp = io.BufferedReader(self._source, _READ_AHEAD)

    def begin(self) -> None:
        super().begin()
        while self.status in _INTERIM:
            self.headers = self.msg = None  # type: ignore[assignment] # http.client's own mark for "not begun"
            super().begin()
        self._source.may_end = True
        self._source.allow(None)

    def _read_and_discard_trailer(self) -> None:
        self._source.allow(_LONGEST_HEAD)
        super()._read_and_discard_trailer()  # type: ignore[misc] # http.client reads them without end


class _PlainConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        _check_name(self._dns_host, self.port)
        return _checked(super()._new_conn())


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        _check_name(self._dns_host, self.port)
        return _checked(super()._new_conn())


class Pools:
    """Connections by host, and by the proxy that stands before it; shared by all threads."""

    def __init__(self, limits: Limits, workers: int, tls: ssl.SSLContext, proxies: Proxies) -> None:
        self._limits = limits
        self._workers = workers
        self._tls = tls
        self._proxies = proxies
        self._by_proxy: dict[Proxy | None, urllib3.PoolManager] = {}

    def proxy_of(self, place: Url) -> Proxy | None:
        """The proxy through which the place is asked. Raises ImageError when the setting cannot be used."""
        scheme = place.scheme or "https"
        return self._proxies.of(scheme, place.host or "", place.port or _PORTS[scheme])

    def request(
        self, method: str, place: Url, headers: Mapping[str, str], body: str | None, proxy: Proxy | None,
    ) -> BaseHTTPResponse:
        """The answer, unread. Raises what urllib3 raises, ForbiddenAddress and TooSlow; so does reading the answer.

        Until it is closed *and* released it takes one of its host's connections, and others may wait for it.
        """
        if proxy:
            _check_name((place.host or "").strip("[]"), 0, socket.AI_NUMERICHOST)
        pools = self._by_proxy.get(proxy) or self._by_proxy.setdefault(proxy, self._opened(proxy))
        return pools.request(
            method, place.url, body=body, headers=headers, redirect=False, retries=False, preload_content=False,
        )

    def _opened(self, proxy: Proxy | None) -> urllib3.PoolManager:
        options: dict[str, Any] = {
            "num_pools": 64, "maxsize": self._limits.connections or self._workers, "block": True,
            "ssl_context": self._tls, "timeout": urllib3.Timeout(connect=self._limits.connect, read=self._limits.stall),
        }
        if proxy:
            told = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
            pools: urllib3.PoolManager = urllib3.ProxyManager(
                proxy.url, proxy_headers=told, proxy_ssl_context=self._tls, **options,
            )
            pools.pool_classes_by_scheme = _pool_classes(HTTPConnection, HTTPSConnection, self._limits)
        else:
            pools = urllib3.PoolManager(**options)
            pools.pool_classes_by_scheme = _pool_classes(_PlainConnection, _TlsConnection, self._limits)
        return pools


def open_pools(limits: Limits, workers: int, ca_file: str | None) -> Pools:
    """For as many threads as `workers`. `ca_file` (PEM) is trusted besides the system's authorities.

    Raises OSError (ssl.SSLError is one) when the file cannot be read.
    """
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings show whole URLs
    tls = ssl.create_default_context()
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        tls.load_verify_locations(cafile=ca_file)
    return Pools(limits, workers, tls, Proxies(os.environ))


def _pool_classes(plain: type[HTTPConnection], tls: type[HTTPSConnection], limits: Limits) -> dict[str, Any]:
    """urllib3's pools, with these connections, whose answers are read under the limits."""
    reading = {"response_class": type("Answer", (_Answer,), {"limits": limits})}
    return {
        "http": type("Pool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": type("Plain", (plain,), reading)}),
        "https": type("Pool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": type("Tls", (tls,), reading)}),
    }
