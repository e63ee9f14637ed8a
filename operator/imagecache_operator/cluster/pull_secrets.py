# SPDX-License-Identifier: Apache-2.0
"""From a Secret's JSON to the credentials in it, by kubelet's rules. Pure; used by `observe.py` for the Secrets that
specs list."""

from __future__ import annotations

import base64
from typing import Any

from imagecache_operator.api import credentials
from imagecache_operator.api.conditions import ConditionReason
from imagecache_operator.api.credentials import Credential, InvalidCredentials
from imagecache_operator.planning.observed import PullSecret

Object = dict[str, Any]

# Far above what a person or a tool writes. Each cache may list 20 Secrets, which are read at each look at it.
_LONGEST_PULL_SECRET = 48 * 1024
_PULL_SECRET_KEYS = {
    credentials.SECRET_TYPE: credentials.SECRET_KEY,
    "kubernetes.io/dockercfg": ".dockercfg",
}


def pull_secret(reference: str, obj: Object | None) -> PullSecret:
    """A Secret that a spec lists (None: there is none), by kubelet's rules for its type and key."""
    if obj is None:
        return PullSecret(reference, problem=ConditionReason.SECRET_NOT_FOUND, words="does not exist")
    meta, kind = obj["metadata"], obj.get("type")
    version = f"{meta['uid']}/{meta.get('resourceVersion', '')}"
    try:
        found = _credentials(reference, str(kind), obj.get("data") or {})
    except InvalidCredentials as error:
        return PullSecret(reference, version, problem=ConditionReason.SECRET_INVALID, words=str(error))
    return PullSecret(reference, version, found)


def _credentials(reference: str, kind: str, data: Object) -> tuple[Credential, ...]:
    if kind not in _PULL_SECRET_KEYS:
        wanted = " and ".join(_PULL_SECRET_KEYS)
        raise InvalidCredentials(f"is of the type {kind[:100]}; those for registries are {wanted}")
    key = _PULL_SECRET_KEYS[kind]
    if key not in data:
        raise InvalidCredentials(f"has no key {key}")
    if len(data[key]) > _LONGEST_PULL_SECRET:
        raise InvalidCredentials(f"is too large: more than {_LONGEST_PULL_SECRET} characters under {key}")
    try:
        text = base64.b64decode(data[key]).decode()
    except ValueError:
        raise InvalidCredentials(f"has something else than text under {key}") from None
    return credentials.parse(text, reference, legacy=key == ".dockercfg")
