# SPDX-License-Identifier: Apache-2.0
"""From users' pull Secrets to facts: both types, and all that may be wrong with one, told without its content."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api.conditions import ConditionReason
from imagecache_operator.cluster import pull_secrets, reading

PASSWORD = "pass-word-of-ann"
AUTHS = {"registry.example": {"username": "ann", "password": PASSWORD}}
JSON, LEGACY = "kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"


def encoded(content: object) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return base64.b64encode(text).decode()


def secret(kind: str, key: str, content: object) -> dict[str, Any]:
    return {"metadata": {"uid": "u", "resourceVersion": "7"}, "type": kind, "data": {key: encoded(content)}}


@pytest.mark.parametrize("obj", [
    secret(JSON, ".dockerconfigjson", {"auths": AUTHS}), secret(LEGACY, ".dockercfg", AUTHS),
])
def test_both_types_are_read(obj: dict[str, Any]) -> None:
    found = pull_secrets.pull_secret("team-a:regcred", obj)
    assert (found.problem, found.words) == (None, "")
    (entry,) = found.credentials
    assert (entry.match, entry.username, entry.password) == ("registry.example", "ann", PASSWORD)
    assert entry.source == "team-a:regcred"
    assert PASSWORD not in repr(found)


def test_the_version_moves_with_the_secret() -> None:
    def version(**meta: str) -> str | None:
        obj = secret(LEGACY, ".dockercfg", AUTHS)
        obj["metadata"] |= meta
        return pull_secrets.pull_secret("a:b", obj).version

    assert len({version(), version(uid="v"), version(resourceVersion="8")}) == 3
    assert version() == version()


def test_one_that_is_not_there_says_so() -> None:
    found = pull_secrets.pull_secret("a:b", None)
    assert (found.problem, found.words) == (ConditionReason.SECRET_NOT_FOUND, "does not exist")
    assert (found.version, found.credentials) == ("", ())


@pytest.mark.parametrize(("obj", "words"), [
    (secret("Opaque", ".dockerconfigjson", {"auths": AUTHS}), "is of the type Opaque"),
    (secret(JSON, ".dockercfg", AUTHS), "has no key .dockerconfigjson"),
    (secret(LEGACY, ".dockerconfigjson", {"auths": AUTHS}), "has no key .dockercfg"),
    (secret(JSON, ".dockerconfigjson", b"\xff\xfe" + PASSWORD.encode()), "something else than text"),
    (secret(JSON, ".dockerconfigjson", PASSWORD.encode()), "is not JSON"),
    (secret(JSON, ".dockerconfigjson", AUTHS), 'no map of registries under the key "auths"'),
    (secret(JSON, ".dockerconfigjson", {"auths": {}, "credsStore": "desktop"}), "holds no credentials"),
    (secret(JSON, ".dockerconfigjson", {"auths": {"r": {"auth": PASSWORD}}}), "base64 of username:password"),
    ({**secret(JSON, "x", {}), "data": {".dockerconfigjson": "?"}}, "is not JSON"),
    (secret(JSON, ".dockerconfigjson", {"auths": {str(n): {"auth": "YTpi"} for n in range(2000)}}), "too large"),
    (secret("x" * 10_000, ".dockerconfigjson", {}), "is of the type " + "x" * 100 + ";"),
    ({**secret(JSON, "x", {}), "data": None}, "has no key .dockerconfigjson"),
])
def test_one_that_cannot_be_used_says_why(obj: dict[str, Any], words: str) -> None:
    found = pull_secrets.pull_secret("a:b", obj)
    assert found.problem is ConditionReason.SECRET_INVALID
    assert words in found.words
    assert found.version, "so that a corrected one is seen"
    assert found.credentials == ()
    assert PASSWORD not in repr(found)


def test_an_attempts_secret_is_read_from_its_metadata_alone() -> None:
    found = reading.attempt_secret({"metadata": {"name": "s", "labels": {names.LABEL_ATTEMPT: "4"}}})
    assert (found.name, found.attempt) == ("s", 4)
    assert reading.attempt_secret({"metadata": {"name": "s"}}).attempt == 0
