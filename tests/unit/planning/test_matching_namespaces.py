# SPDX-License-Identifier: Apache-2.0
"""Caches that are not for everybody: who starts from them, and what the others learn of them, which is nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator.api.pod import Pod
from imagecache_operator.cluster import reading
from imagecache_operator.planning.injection import inject
from imagecache_operator.planning.matching import Match, match
from imagecache_operator.planning.observed import Namespace
from imagecache_operator.planning.offers import Missed, offer

from tests.unit.planning.offers import CREATED, TEAM_A, TRAIN, cache, pod

TEAM_B = Namespace("team-b", "uid-of-team-b", {}, CREATED)
SECRETS = {"buildingConfig": {"imagePullSecrets": ["team-b:regcred"]}}
FOR_B = {"allowedNamespaces": {"names": ["team-b"]}}
OF_B = "is not for namespace team-a: it is for 1 namespace (team-b)"


def matched(asking: dict[str, Any], *caches: dict[str, Any], namespace: Namespace = TEAM_A) -> Match:
    return match(Pod.model_validate(asking), [offer(reading.cache(c)) for c in caches], namespace)


def chosen(found: Match) -> str | None:
    return found.chosen.offer.cache if found.chosen else None


@pytest.mark.parametrize(("spec", "admits"), [
    ({}, ["team-a", "team-b"]),
    (FOR_B, ["team-b"]),
    ({"allowedNamespaces": {"selector": {"matchLabels": {"tier": "gold"}}}}, ["team-a"]),
    ({"allowedNamespaces": {"names": ["team-b"], "selector": {"matchLabels": {"tier": "gold"}}}}, ["team-a", "team-b"]),
    ({"allowedNamespaces": {"selector": {}}}, ["team-a", "team-b"]),
    (SECRETS, []),
    (SECRETS | FOR_B, ["team-b"]),
])
@pytest.mark.parametrize("asks", ["auto", "ml"])
def test_whose_pods_start_from_it(spec: dict[str, Any], admits: list[str], asks: str) -> None:
    hits = [n.name for n in (TEAM_A, TEAM_B) if chosen(matched(pod(TRAIN, asks=asks), cache("ml", TRAIN, spec=spec),
                                                               namespace=n)) == "ml"]
    assert hits == admits


def test_what_was_pulled_with_somebodys_secret_is_for_his_namespace() -> None:
    private = cache("ml", TRAIN, spec=SECRETS)
    private["status"]["images"][0]["pullSecret"] = "team-b:regcred"
    assert chosen(matched(pod(TRAIN), private, namespace=TEAM_B)) == "ml"
    assert chosen(matched(pod(TRAIN), private)) is None


WITHHELD = [
    (cache("ml", TRAIN, spec=FOR_B), OF_B, Missed.NOT_ADMITTED),
    (cache("ml", "alpine", spec=FOR_B), OF_B, Missed.NOT_ADMITTED),
    (cache("ml", TRAIN, spec=FOR_B | {"serve": False}), OF_B, Missed.NOT_ADMITTED),
    (cache("ml", TRAIN, spec=FOR_B, status={"phase": "Failed"}), OF_B, Missed.NOT_ADMITTED),
    (cache("ml", TRAIN, spec=FOR_B, deletionTimestamp="2026-03-01T12:00:00Z"), OF_B, Missed.NOT_ADMITTED),
    (cache("ml", TRAIN, spec=SECRETS), "is not for namespace team-a: it is for nobody", Missed.NOT_ADMITTED),
    # Nobody knows whom it is for.
    (cache("ml", TRAIN, spec={"imageCacheSize": 1}), "has a spec that breaks the rules", Missed.INVALID),
]


@pytest.mark.parametrize(("withheld", "words", "word"), WITHHELD)
def test_a_cache_that_is_for_others_is_as_if_it_was_not_there(
    withheld: dict[str, Any], words: str, word: Missed,
) -> None:
    named, nobody = matched(pod(TRAIN, asks="ml"), withheld), matched(pod(TRAIN, asks="ml"))
    assert named.missed == nobody.missed == "there is no ImageCache ml for namespace team-a"
    assert (named.why, nobody.why) == (word, Missed.NO_CACHE), "the metrics tell them apart"
    assert {c.offer.cache: c.loses for c in named.losers} == {"ml": words}, "so does the command"
    # Of an image that it has not, it says nothing either.
    found = matched(pod(TRAIN), withheld)
    assert found.missed == matched(pod(TRAIN)).missed
    assert found.why is (word if withheld["status"]["images"][0]["reference"] == TRAIN else Missed.NO_IMAGE)


def test_a_miss_counts_and_names_only_caches_that_are_for_the_namespace() -> None:
    down = {"server": {"name": "s", "address": "localhost:1", "ready": False}}
    one, two = (cache(name, TRAIN, status=down) for name in ("one", "two"))
    theirs = cache("theirs", TRAIN, "busybox", spec=FOR_B)
    found = matched(pod(TRAIN, "busybox"), one, two, theirs)
    assert found.missed == (
        "ImageCache one has images of the Pod, but is not served now: its server does not answer yet "
        "(1 other cache cannot be used either)"
    )
    assert found.why is Missed.NOT_SERVED


def test_the_best_of_those_that_are_for_it_wins() -> None:
    open_to_all, theirs = cache("open", TRAIN), cache("theirs", TRAIN, "busybox", spec=FOR_B)
    found = matched(pod(TRAIN, "busybox"), open_to_all, theirs)
    assert chosen(found) == "open"
    assert [c.loses for c in found.losers] == [OF_B]
    assert chosen(matched(pod(TRAIN, "busybox"), open_to_all, theirs, namespace=TEAM_B)) == "theirs"


RULES = st.sampled_from([{}, FOR_B, SECRETS, {"imageCacheSize": 1}, FOR_B | {"serve": False}, {"serve": False}])
STATUSES = st.sampled_from([{}, {"phase": "Creating"}, {"server": None}])
CACHES = st.lists(
    st.builds(
        lambda name, images, spec, status: cache(name, *images, spec=spec, status=status),
        st.sampled_from("abcd"), st.lists(st.sampled_from([TRAIN, "busybox", "alpine"]), min_size=1, unique=True),
        RULES, STATUSES,
    ), max_size=4, unique_by=lambda c: c["metadata"]["name"],
)


@given(CACHES, st.sampled_from(["auto", "a", "b"]))
def test_what_a_pod_learns_does_not_depend_on_caches_that_are_for_others(
    caches: list[dict[str, Any]], asks: str,
) -> None:
    asking = Pod.model_validate(pod(TRAIN, "busybox", asks=asks))
    offers = [offer(reading.cache(c)) for c in caches]
    ours = [o for o in offers if o.admitted.has(TEAM_A)]
    with_others, alone = (inject(asking, match(asking, found, TEAM_A)) for found in (offers, ours))
    assert (with_others.patch, with_others.warning) == (alone.patch, alone.warning)
