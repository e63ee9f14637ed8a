# SPDX-License-Identifier: Apache-2.0
"""What of a spec may change, and with which words the API server refuses the rest."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import Cluster

from .spec_server import Server, double_server
from .spec_strategies import UID

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    with double_server(cluster) as found:
        yield found


@pytest.fixture(scope="module")
def existing(server: Server) -> Any:
    return server.created("full", {
        "images": ["busybox"], "imageCacheSize": 30, "retentionDays": 7, "storageClassName": "fast",
        "onExpiry": "Delete", "allowedNamespaces": {"names": ["team-a"]},
        "buildingConfig": {"cluster": UID, "imagePullSecrets": ["a:b"]},
    })


@pytest.fixture(scope="module")
def small(server: Server) -> Any:
    return server.created("small", {"images": ["busybox"]})


@pytest.mark.parametrize(("change", "words"), [
    ({"retentionDays": 8}, ""),
    ({"retentionDays": 8.0}, ""),
    ({"retentionDays": None}, ""),
    ({"onExpiry": "Release"}, ""),
    ({"imageCacheSize": 31}, ""),
    # The server takes 31.0 for 31 everywhere but in CEL rules, so that only an edit with it fails: kubectl writes 31.
    ({"imageCacheSize": 31.0}, "imageCacheSize: Invalid value"),
    ({"buildingConfig": {"cluster": UID}}, ""),
    ({"buildingConfig": {"cluster": UID, "imagePullSecrets": ["a:c"]}}, ""),
    ({"buildingConfig": {"cluster": UID, "imagePullSecrets": ["a:c", "a:c"]}}, "Duplicate value"),
    ({"allowedNamespaces": {"names": ["team-b"], "selector": {"matchLabels": {"tier": "gold"}}}}, ""),
    ({"allowedNamespaces": None}, ""),
    ({"allowedNamespaces": {}}, "allowedNamespaces needs names or a selector"),
    ({"allowedNamespaces": {"names": ["a", "a"]}}, "Duplicate value"),
    ({"imageCacheSize": 29}, "imageCacheSize cannot shrink"),
    ({"imageCacheSize": None}, "imageCacheSize cannot shrink"),
    ({"images": ["busybox", "alpine"]}, "images cannot change"),
    ({"images": ["alpine"]}, "images cannot change"),
    # Another spelling of the same image is another text, and what the server compares is texts.
    ({"images": ["docker.io/library/busybox:latest"]}, "images cannot change"),
    ({"storageClassName": "slow"}, "storageClassName cannot change"),
    ({"storageClassName": None}, "storageClassName cannot change"),
    ({"buildingConfig": {"cluster": UID.replace("8", "9")}}, "buildingConfig.cluster cannot change"),
    ({"buildingConfig": {}}, "buildingConfig.cluster cannot change"),
    ({"buildingConfig": None}, "buildingConfig.cluster cannot change"),
], ids=lambda v: json.dumps(v)[:60])
def test_edits_of_a_full_spec(server: Server, existing: Any, change: dict[str, Any], words: str) -> None:
    _edit(server, existing, change, words)


@pytest.mark.parametrize(("change", "words"), [
    ({"retentionDays": 8}, ""),
    ({"imageCacheSize": 21}, ""),
    ({"buildingConfig": {}}, ""),
    ({"warmNodes": {}}, ""),
    ({"warmNodes": {"nodeSelector": {"gpu": "true"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}}, ""),
    ({"warmNodes": {"tolerations": [{"key": "gpu", "operator": "Exists", "value": "a"}]}}, "Exists has no value"),
    ({"warmNodes": {"tolerations": [{"value": "a"}]}}, "its operator must be Exists"),
    ({"allowedNamespaces": {"selector": {}}}, ""),
    ({"allowedNamespaces": {"selector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}}, "need values"),
    ({"buildingConfig": {"imagePullSecrets": ["a:b"]}}, ""),
    ({"storageClassName": "fast"}, "storageClassName cannot change"),
    ({"buildingConfig": {"cluster": UID}}, "buildingConfig.cluster cannot change"),
], ids=lambda v: json.dumps(v)[:60])
def test_edits_of_a_small_spec(server: Server, small: Any, change: dict[str, Any], words: str) -> None:
    _edit(server, small, change, words)


def _edit(server: Server, before: Any, change: dict[str, Any], words: str) -> None:
    """`words` are to be in the refusal; without words there is to be none. None takes a field away."""
    spec = {k: v for k, v in {**copy.deepcopy(before["spec"]), **change}.items() if v is not None}
    answer = server.edit(before, spec)
    assert answer.taken is (words == ""), answer.refusal
    assert words in answer.refusal
