# SPDX-License-Identifier: Apache-2.0
"""Whose Pods may start from a cache."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from imagecache_operator.cluster import reading
from imagecache_operator.planning.access import Admitted, admitted
from imagecache_operator.planning.observed import Namespace
from imagecache_operator.planning.pull_secrets import UNKNOWN

from tests.unit.planning.offers import CREATED, TRAIN, cache

OURS = Namespace("team-a", "1", {"tier": "gold", "name": "team-a"}, CREATED)
THEIRS = Namespace("team-b", "2", {}, CREATED)
PULLED = CREATED + timedelta(days=1)


def rule(*, secrets: tuple[str, ...] = (), pulled_with: tuple[str | None, ...] = (), **spec: Any) -> Admitted:
    obj = cache("ml", *(f"registry.example/image-{n}" for n in range(len(pulled_with))), TRAIN)
    obj["spec"] |= {"buildingConfig": {"imagePullSecrets": list(secrets)}, **spec}
    obj["status"]["attempt"] = {
        "number": 1, "state": "Succeeded", "withSecrets": bool(secrets), "finishedAt": PULLED.isoformat(),
    }
    for image, secret in zip(obj["status"]["images"], pulled_with, strict=False):
        image["pullSecret"] = secret
    return admitted(reading.cache(obj))


def test_what_nobody_needed_a_secret_for_is_for_everybody() -> None:
    found = rule()
    assert found.everybody
    assert found.has(OURS)
    assert found.has(THEIRS)
    assert found.words == "all namespaces"


@pytest.mark.parametrize(("pulled_with", "admits"), [
    (("team-a:regcred",), ["team-a"]),
    (("team-a:regcred", None), ["team-a"]),
    (("team-a:regcred", "team-a:other"), ["team-a"]),
    (("team-a:regcred", "team-b:regcred"), []),
    (("team-a:regcred", UNKNOWN), []),
    ((UNKNOWN,), []),
    ((UNKNOWN, None), []),
    ((None, None), []),
    ((), []),
])
def test_by_default_it_is_for_whoever_can_pull_it_all(pulled_with: tuple[str | None, ...], admits: list[str]) -> None:
    found = rule(secrets=("team-a:regcred", "team-a:other", "team-b:regcred"), pulled_with=pulled_with)
    assert not found.everybody
    assert [n.name for n in (OURS, THEIRS) if found.has(n)] == admits
    assert found.nobody == (not admits)


def test_a_secret_taken_out_of_the_spec_makes_nothing_public() -> None:
    found = rule(pulled_with=("team-a:regcred",))
    assert found.has(OURS)
    assert not found.has(THEIRS)
    assert rule(pulled_with=(UNKNOWN,)).nobody


def test_nor_does_it_where_the_builder_was_one_that_named_no_secrets() -> None:
    obj = cache("ml", TRAIN)
    obj["status"]["attempt"] = {"number": 1, "state": "Succeeded", "withSecrets": True}
    assert admitted(reading.cache(obj)).nobody


def test_to_list_a_secret_makes_nothing_private_that_everybody_could_pull() -> None:
    obj = cache("ml", TRAIN, spec={"buildingConfig": {"imagePullSecrets": ["team-a:regcred"]}})
    obj["status"]["attempt"] = {"number": 1, "state": "Succeeded"}
    assert admitted(reading.cache(obj)).everybody


@pytest.mark.parametrize(("created", "has"), [
    (CREATED, True), (PULLED, True), (PULLED + timedelta(seconds=1), False), (None, False),
], ids=["before", "then", "after", "not seen yet"])
def test_a_namespace_that_took_the_name_later_could_not_pull_it(created: datetime | None, has: bool) -> None:
    found = rule(secrets=("team-a:regcred",), pulled_with=("team-a:regcred",))
    assert found.has(Namespace("team-a", "another", {}, created)) == has
    by_name = rule(allowedNamespaces={"names": ["team-a"]})
    assert by_name.has(Namespace("team-a", "another", {}, created)), "who writes a name means the name"


def test_of_a_namespace_that_is_not_seen_yet_nobody_knows_what_it_lacks() -> None:
    without = {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}
    found = rule(allowedNamespaces={"selector": without})
    assert not found.has(Namespace("team-b"))
    assert found.has(THEIRS)


@pytest.mark.parametrize(("allowed", "admits"), [
    ({"names": ["team-b"]}, ["team-b"]),
    ({"names": ["team-a", "team-b"]}, ["team-a", "team-b"]),
    ({"selector": {"matchLabels": {"tier": "gold"}}}, ["team-a"]),
    ({"names": ["team-b"], "selector": {"matchLabels": {"tier": "gold"}}}, ["team-a", "team-b"]),
    ({"selector": {}}, ["team-a", "team-b"]),
    ({"selector": {"matchLabels": {"tier": "gold", "name": "team-b"}}}, []),
    ({"selector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold", "iron"]}]}}, ["team-a"]),
    ({"selector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["gold"]}]}}, ["team-b"]),
    ({"selector": {"matchExpressions": [{"key": "tier", "operator": "Exists"}]}}, ["team-a"]),
    ({"selector": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}}, ["team-b"]),
    ({"selector": {
        "matchLabels": {"tier": "gold"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}],
    }}, []),
])
@pytest.mark.parametrize("secrets", [(), ("team-a:regcred",)])
def test_what_is_written_counts_whatever_it_was_pulled_with(
    allowed: dict[str, Any], admits: list[str], secrets: tuple[str, ...],
) -> None:
    found = rule(secrets=secrets, pulled_with=secrets, allowedNamespaces=allowed)
    assert not found.everybody, "whoever is admitted by name or label gets a password"
    assert [n.name for n in (OURS, THEIRS) if found.has(n)] == admits
    assert not found.nobody


@pytest.mark.parametrize(("found", "words"), [
    (Admitted(), "nobody"),
    (rule(allowedNamespaces={"names": ["b", "a"]}), "2 namespaces (a, b)"),
    (
        rule(allowedNamespaces={"names": ["a"], "selector": {}}),
        "1 namespace (a) and namespaces with the labels that spec.allowedNamespaces asks for",
    ),
])
def test_the_words_fit_into_a_sentence(found: Admitted, words: str) -> None:
    assert found.words == words


def test_a_spec_that_cannot_be_read_admits_nobody() -> None:
    obj = cache("ml", TRAIN)
    obj["spec"]["images"] = []
    assert admitted(reading.cache(obj)).nobody
