# SPDX-License-Identifier: Apache-2.0
"""The Secrets by which a cache is for some namespaces only: the htpasswd file of its server, in the operator's
namespace, and in each namespace that it is for a login (`imagePullSecrets` of Pods, which the webhook adds).

All of it follows from one key. So nothing has to be remembered for a namespace, and what is lost is made again as it
was. A password is an HMAC of the UIDs of cache and namespace and of the server's address: that of one is of no use for
another, nor for a namespace or cache that takes the name later, nor when the port is somebody else's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import bcrypt

from imagecache_operator import names
from imagecache_operator.api.credentials import SECRET_TYPE, secret_data
from imagecache_operator.planning.children import owner
from imagecache_operator.planning.observed import Cache, Namespace

HTPASSWD_TYPE = "Opaque"
HTPASSWD_KEY = "htpasswd"

# The server hashes a password at each request. What is hashed is random and as long as the hash, so that there is
# nothing to guess that would take longer at a higher cost.
_COST = b"04"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_BCRYPTS = b"./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True)
class Login:
    """What a namespace logs in with at one cache."""

    user: str
    password: str = field(repr=False)


def login(key: bytes, cache_uid: str, address: str, namespace: Namespace) -> Login:
    """The login that follows from the key. Users of two keys differ, so that a server can know both."""
    mark = hashlib.sha256(key).hexdigest()[:8]
    return Login(f"{namespace.name}.{mark}", _text(_mac(key, cache_uid, address, namespace.uid)))


def version(logins: Iterable[tuple[str, Login]]) -> str:
    """Stands for these logins by address, in an annotation. (They are random and long: a hash gives nothing away.)"""
    content = json.dumps([(address, one.user, one.password) for address, one in logins])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def htpasswd(cache: Cache, home_uid: str, namespace: str, address: str, logins: Sequence[Login]) -> dict[str, Any]:
    """The Secret with the file that the cache's server reads, again whenever it changes. One login takes a
    millisecond."""
    lines = "".join(f"{one.user}:{_hashed(one.password)}\n" for one in logins)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.server_name(home_uid, cache.uid),
            "namespace": namespace,
            "labels": names.child_labels(names.COMPONENT_ACCESS, home_uid, cache.uid),
            "annotations": {
                names.ANNOTATION_CACHE_NAME: cache.name,
                names.ANNOTATION_LOGINS: version((address, one) for one in logins),
            },
            "ownerReferences": [owner.reference(cache)],
        },
        "type": HTPASSWD_TYPE,
        "data": {HTPASSWD_KEY: _base64(lines)},
    }


def pull_secret(namespace: str, logins: Mapping[str, Login]) -> dict[str, Any]:
    """The Secret of a namespace, with its login at each server by that one's address."""
    auths = {
        address: {"username": one.user, "password": one.password, "auth": _base64(f"{one.user}:{one.password}")}
        for address, one in sorted(logins.items())
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.ACCESS_SECRET,
            "namespace": namespace,
            "labels": {names.LABEL_MANAGED_BY: names.PROGRAM, names.LABEL_COMPONENT: names.COMPONENT_ACCESS},
            "annotations": {names.ANNOTATION_LOGINS: version(sorted(logins.items()))},
        },
        "type": SECRET_TYPE,
        "data": secret_data(auths),
    }


def _hashed(password: str) -> str:
    """For htpasswd. The salt follows from the password, so that the same file comes out each time; salts are there
    for passwords that people choose, and that two of them may share."""
    salt = base64.b64encode(_mac(password.encode())[:16])[:22].translate(bytes.maketrans(_BASE64, _BCRYPTS))
    return bcrypt.hashpw(password.encode(), b"$2b$" + _COST + b"$" + salt).decode()


def _mac(key: bytes, *words: str) -> bytes:
    return hmac.digest(key, "\0".join(words).encode(), "sha256")


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
