# SPDX-License-Identifier: Apache-2.0
"""Secrets of the operator itself, in its namespace, that it makes, reads back and renews: the webhook's certificate
(`injection.py`) and the key of passwords (`access.py`)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from imagecache_operator import names
from imagecache_operator.cluster.api import Api, Object


def content(secret: Object) -> dict[str, bytes]:
    """What is in it, by key; without what cannot be read."""
    found = {}
    for key, text in (secret.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(text)
        except binascii.Error:  # the API server would not have taken it
            continue
    return found


def is_changeable(secret: Object, kind: str) -> bool:
    """Whether `write` can make it one of that type with other content."""
    return secret.get("type") == kind and not secret.get("immutable")


def write(api: Api, found: Object | None, name: str, namespace: str, kind: str, data: Mapping[str, bytes]) -> None:
    """Makes it, or gives the one that was `found` this content. Raises a ClusterError; Conflict where somebody else has
    changed that one since."""
    manifest: Object = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": {names.LABEL_MANAGED_BY: names.PROGRAM}},
        "data": {key: base64.b64encode(value).decode() for key, value in data.items()},
    }
    if found is None:
        api.create(manifest)  # where somebody else was faster, his is as good
    else:
        # Of what was read, and of nothing else: another operator may have renewed it a moment ago.
        manifest["metadata"] |= {field: found["metadata"][field] for field in ("uid", "resourceVersion")}
        api.apply(manifest)
