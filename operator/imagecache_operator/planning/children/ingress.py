# SPDX-License-Identifier: Apache-2.0
"""The host name of a cache's server, where nodes reach servers by host names and not by ports of their own (the setting
`server_domain`): an Ingress before the server's Service. `server.py` applies it with the rest of the server.

One name for each server, in a domain that the administrator gives: one wildcard record and one wildcard certificate
are enough for all of them, and a name that stays while the server does, so passwords stay too.
"""

from __future__ import annotations

from typing import Any

from imagecache_operator.settings import Settings


def host(server: str, settings: Settings) -> str | None:
    """The host name of the server of that name; None where nodes reach it by a port."""
    return f"{server}.{settings.server_domain}" if settings.server_domain else None


def manifest(metadata: dict[str, Any], host: str, port: str, settings: Settings) -> dict[str, Any]:
    """`metadata` is the server's, whose Service has the same name; `port` is the Service's, by name.

    Always with TLS: container runtimes speak plain HTTP to localhost only. Without a Secret, the controller shows its
    default certificate.
    """
    secret = {"secretName": settings.server_tls_secret} if settings.server_tls_secret else {}
    ingress_class = {"ingressClassName": settings.server_ingress_class} if settings.server_ingress_class else {}
    backend = {"service": {"name": metadata["name"], "port": {"name": port}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {**metadata, "annotations": {**settings.server_ingress_annotations, **metadata["annotations"]}},
        "spec": {
            **ingress_class,
            "tls": [{"hosts": [host], **secret}],
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}],
        },
    }
