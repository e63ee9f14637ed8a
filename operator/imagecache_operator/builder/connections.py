# SPDX-License-Identifier: Apache-2.0
"""Connections to registries: TLS always verified, and never to an address that only machines of a cloud may ask.

The builder follows host names, token realms and redirects that users and registries choose. Without the check a
reference could make it read the metadata service of its node. The check comes before the first packet, and again
for the address that the socket really has: a name may resolve differently the second time.
"""

from __future__ import annotations

import ipaddress
import socket
import ssl

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

_FORBIDDEN = tuple(ipaddress.ip_network(network) for network in (
    "0.0.0.0/32", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32",  # unspecified, link-local, multicast
    "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",  # metadata of Alibaba, Azure, Oracle
    "::/128", "fe80::/10", "ff00::/8", "fd00:ec2::/32",  # the last: metadata of AWS
))


_IPV4_BEHIND_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class ForbiddenAddress(Exception):
    """The host's address belongs to the node or the cloud, not to a registry."""


def is_forbidden(address: str) -> bool:
    """Whether the textual IP address is one that no registry has."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        behind_nat64 = ipaddress.IPv4Address(parsed.packed[-4:]) if parsed in _IPV4_BEHIND_NAT64 else None
        parsed = parsed.ipv4_mapped or parsed.sixtofour or behind_nat64 or parsed
    return any(parsed in network for network in _FORBIDDEN if network.version == parsed.version)


def _check_name(host: str, port: int) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return  # urllib3 meets the same and says so in its own words
    if any(is_forbidden(str(address[0])) for *_, address in found):
        raise ForbiddenAddress


def _checked(connection: socket.socket) -> socket.socket:
    if is_forbidden(connection.getpeername()[0]):
        connection.close()
        raise ForbiddenAddress
    return connection


class _PlainConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        _check_name(self._dns_host, self.port)
        return _checked(super()._new_conn())


class _TlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        _check_name(self._dns_host, self.port)
        return _checked(super()._new_conn())


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _PlainConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


def open_pools(workers: int, ca_file: str | None) -> urllib3.PoolManager:
    """A pool of connections for each host. `ca_file` (PEM) is trusted besides the system's authorities.

    Raises OSError (ssl.SSLError is one) when the file cannot be read.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    pools = urllib3.PoolManager(
        num_pools=64, maxsize=workers, ssl_context=context, retries=False,
        timeout=urllib3.Timeout(connect=10, read=30),
        headers={"User-Agent": "imagecache-builder"},
    )
    pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _TlsPool}
    return pools
