# SPDX-License-Identifier: Apache-2.0
"""Which cache a Pod starts from: every rule of docs/reference/injection.md, and the words for those that lose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator import names
from imagecache_operator.api.pod import Pod
from imagecache_operator.cluster import reading
from imagecache_operator.planning.matching import MIRROR, MOST_PULLS, Match, match
from imagecache_operator.planning.offers import Missed, offer

from tests.unit.planning.offers import GIB, TEAM_A, TRAIN, cache, digest, image, pod, served


def matched(asking: dict[str, Any], *caches: dict[str, Any], auto: bool = False) -> Match:
    return match(Pod.model_validate(asking), [offer(reading.cache(c)) for c in caches], TEAM_A, auto)


def chosen(found: Match) -> str | None:
    return found.chosen.offer.cache if found.chosen else None


def why(found: Match) -> dict[str, str]:
    return {c.offer.cache: c.loses for c in found.losers}


@pytest.mark.parametrize(("annotations", "auto", "expected"), [
    ({}, False, None),
    ({}, True, "big"),
    ({names.ANNOTATION_CACHE: "auto"}, False, "big"),
    ({names.ANNOTATION_CACHE: "small"}, False, "small"),
    ({names.ANNOTATION_CACHE: "small"}, True, "small"),
    ({names.ANNOTATION_CACHE: "none"}, True, None),
    ({names.ANNOTATION_CACHE_ALIAS: "small"}, False, "small"),
    ({names.ANNOTATION_CACHE: "big", names.ANNOTATION_CACHE_ALIAS: "small"}, False, "big"),
    ({names.ANNOTATION_CACHE: "none", names.ANNOTATION_CACHE_ALIAS: "small"}, True, None),
    ({names.ANNOTATION_CACHE: "", names.ANNOTATION_CACHE_ALIAS: "small"}, False, "small"),
    ({names.ANNOTATION_CACHE: ""}, False, None),
    ({names.ANNOTATION_CACHE: ""}, True, "big"),
])
def test_who_asks_for_what(annotations: dict[str, str], auto: bool, expected: str | None) -> None:
    asking = pod(TRAIN, "busybox", asks=None, annotations=annotations)
    found = matched(asking, cache("small", TRAIN), cache("big", TRAIN, "busybox:latest"), auto=auto)
    assert chosen(found) == expected
    assert bool(found.left_alone) == (expected is None), "who does not ask misses nothing"
    assert not found.missed


@pytest.mark.parametrize(("wanted", "listed", "fits"), [
    ("busybox", "docker.io/library/busybox:latest", True),
    ("docker.io/library/busybox:latest", "busybox", True),
    ("index.docker.io/busybox", "busybox", True),
    ("Registry.Example/ml/train:1.4", TRAIN, True),
    ("busybox:1.36", "busybox:1.37", False),
    ("busybox", "registry.example/busybox", False),
    (f"busybox@{digest('image busybox:1.36')}", "busybox:1.36", True),
    (f"busybox:other@{digest('image busybox:1.36')}", "busybox:1.36", True),
    (f"team/busybox@{digest('image busybox:1.36')}", "busybox:1.36", False),
    (f"busybox@{digest('else')}", "busybox:1.36", False),
    (f"busybox@{digest('a')}", f"busybox@{digest('a')}", True),
    (f"busybox@{digest('a')}", f"busybox:1.36@{digest('a')}", True),
    ("busybox:1.36", f"busybox:1.36@{digest('a')}", True),
    ("busybox:1.37", f"busybox:1.36@{digest('a')}", False),
    ("busybox", f"busybox@{digest('a')}", False),
])
def test_which_references_are_one_image(wanted: str, listed: str, fits: bool) -> None:
    assert (chosen(matched(pod(wanted), cache("ml", listed))) == "ml") is fits


def test_a_tag_means_the_image_that_is_listed_by_it_alone() -> None:
    pinned, plain = image(f"busybox:1.36@{digest('old')}", digest=digest("old")), image("busybox:1.36")
    for listed in ((pinned, plain), (plain, pinned)):
        found = matched(pod("busybox:1.36"), cache("ml", *listed)).chosen
        assert found is not None
        assert [i.carrier for i in found.taken] == [plain["carrier"]]


def test_init_containers_and_image_volumes_count() -> None:
    asking = pod(
        "app.example/main:1", initContainers=[{"name": "i", "image": "app.example/init:1"}],
        volumes=[{"name": "v", "image": {"reference": "app.example/data:1"}}, {"name": "e", "emptyDir": {}}],
    )
    found = matched(asking, cache("ml", "app.example/data:1", "app.example/init:1", "app.example/main:1"))
    assert found.images == ("app.example/init:1", "app.example/main:1", "app.example/data:1")
    assert found.chosen is not None
    assert [i.reference.path for i in found.chosen.taken] == ["init", "main", "data"], "in the order of first use"


def test_an_image_counts_once_however_it_is_written() -> None:
    asking = pod("busybox", "busybox:latest", "docker.io/busybox", "a.example/a:1", "a.example/b:1")
    found = matched(asking, cache("one", "busybox"), cache("two", "a.example/a:1", "a.example/b:1"))
    assert chosen(found) == "two"
    assert why(found) == {"one": "has 1 of the Pod's images, two has 2"}


def test_one_image_by_tag_and_by_digest_is_taken_once() -> None:
    by_digest = f"busybox@{digest('image busybox')}"
    same: dict[str, Any] = {"carrier": digest("c"), "digest": digest("image busybox")}
    found = matched(
        pod("busybox", TRAIN, by_digest), cache("ml", image("busybox", **same), TRAIN, image(by_digest, **same)),
    ).chosen
    assert found is not None
    assert [i.carrier for i in found.taken] == [digest("c"), digest(f"carrier {TRAIN}")]
    assert found.size == 2 * GIB


@pytest.mark.parametrize("images", [["not an image"], ["", "Upper/Case"], []])
def test_what_is_no_reference_is_in_no_cache(images: list[str]) -> None:
    found = matched(pod(*images), cache("ml", TRAIN))
    assert chosen(found) is None
    assert found.missed == "no ImageCache for namespace team-a has any of the Pod's images"
    assert found.images == tuple(filter(None, images))


@pytest.mark.parametrize(("winner", "loser", "words"), [
    (cache("z", TRAIN, "busybox"), cache("a", image(TRAIN, 9 * GIB)), "has 1 of the Pod's images, z has 2"),
    (cache("z", image(TRAIN, 2 * GIB), age=9), cache("a", TRAIN),
     "has as many images, but less of them: 1.0 GiB, z has 2.0 GiB"),
    (cache("z", TRAIN, age=1), cache("a", TRAIN, age=2), "has the same as z, but is older"),
    (cache("a", TRAIN), cache("z", TRAIN), "has the same as a and is as old; the first by name wins"),
], ids=["most images", "largest", "newest", "name"])
def test_the_best_match(winner: dict[str, Any], loser: dict[str, Any], words: str) -> None:
    for caches in ((winner, loser), (loser, winner)):
        found = matched(pod(TRAIN, "busybox"), *caches)
        assert chosen(found) == winner["metadata"]["name"]
        assert why(found) == {loser["metadata"]["name"]: words}


UNUSABLE = [
    (cache("ml", TRAIN, deletionTimestamp="2026-03-01T12:00:00Z"), "is being deleted", Missed.DELETING),
    (cache("ml", TRAIN, spec={"serve": False}), "is not to be served (spec.serve is false)", Missed.NOT_WANTED),
    (cache("ml", TRAIN, status={"phase": "Creating"}), "is Creating", Missed.NOT_AVAILABLE),
    (cache("ml", TRAIN, status={"phase": None}), "is not looked at yet", Missed.NOT_AVAILABLE),
    (cache("ml", TRAIN, status={"conditions": [served("False", "ServerPending", "no\nnode")]}),
     "is not served now: no?node", Missed.NOT_SERVED),
    (cache("ml", TRAIN, status={"server": None, "conditions": []}),
     "is not served now: its server does not answer yet", Missed.NOT_SERVED),
    (cache("ml", TRAIN, status={"server": {"name": "s", "address": "localhost:1", "ready": False}}),
     "is not served now: its server does not answer yet", Missed.NOT_SERVED),
    (cache("ml", image(TRAIN, carrier=None)),
     "has no image that nodes can take: it was built by a version that did not prepare them for it",
     Missed.NOT_PREPARED),
]


@pytest.mark.parametrize(("unusable", "words", "word"), UNUSABLE)
def test_a_cache_that_no_pod_can_start_from(unusable: dict[str, Any], words: str, word: Missed) -> None:
    named = matched(pod(TRAIN, asks="ml"), unusable)
    assert (chosen(named), named.missed, why(named)) == (None, f"ImageCache ml {words}", {"ml": words})
    assert named.why is word
    # Without carriers it has no image that could be found.
    assert matched(pod(TRAIN), unusable).why is (Missed.NO_IMAGE if word is Missed.NOT_PREPARED else word)
    beside = matched(pod(TRAIN), unusable, cache("worse", image(TRAIN, 1), age=9))
    assert (chosen(beside), why(beside)) == ("worse", {"ml": words})


def test_a_miss_tells_of_the_cache_that_would_have_been_it() -> None:
    down = {"server": {"name": "s", "address": "localhost:1", "ready": False}}
    found = matched(
        pod(TRAIN, "busybox"), cache("one", TRAIN, status=down), cache("two", TRAIN, "busybox", status=down),
        cache("other", "alpine"),
    )
    assert found.missed == (
        "ImageCache two has images of the Pod, but is not served now: its server does not answer yet "
        "(1 other cache cannot be used either)"
    )


def test_a_named_cache_wins_or_nobody_does() -> None:
    best, named = cache("best", TRAIN, "busybox"), cache("named", "busybox")
    found = matched(pod(TRAIN, "busybox", asks="named"), best, named)
    assert (chosen(found), why(found)) == ("named", {"best": "the Pod asks for named"})
    without = matched(pod(TRAIN, asks="named"), best, named)
    assert (without.missed, without.why) == ("ImageCache named has none of the Pod's images", Missed.NO_IMAGE)
    nobody = matched(pod(TRAIN, asks="a\nb"), best)
    assert (nobody.missed, nobody.why) == ("there is no ImageCache a?b for namespace team-a", Missed.NO_CACHE)


@pytest.mark.parametrize(("changed", "word", "told"), [
    ({"annotations": {MIRROR: "x"}}, "mirror", False),
    ({"volumes": [{"name": "imagecache-0", "emptyDir": {}}]}, "imagecache-", False),
    ({"volumes": [{"name": "data"}, {"name": "imagecache-12"}]}, "imagecache-", False),
    ({"os": {"name": "windows"}}, "Windows", True),
    ({"runtimeClassName": "kata"}, "runtimeClassName", True),
])
def test_pods_that_are_left_alone(changed: dict[str, Any], word: str, told: bool) -> None:
    found = matched(pod(TRAIN, asks="auto", **changed), cache("ml", TRAIN))
    assert (chosen(found), found.missed, found.told) == (None, "", told)
    assert word in found.left_alone
    without = {k: v for k, v in changed.items() if k != "annotations"}
    asked_by_namespace = pod(TRAIN, asks=None, annotations=changed.get("annotations"), **without)
    assert not matched(asked_by_namespace, cache("ml", TRAIN), auto=True).told


@pytest.mark.parametrize("changed", [
    {"os": {"name": "linux"}}, {"runtimeClassName": ""}, {"volumes": [{"name": "imagecache-data"}]}, {"nodeName": "n1"},
])
def test_pods_that_are_not(changed: dict[str, Any]) -> None:
    assert chosen(matched(pod(TRAIN, **changed), cache("ml", TRAIN))) == "ml"


IMAGES = st.sampled_from(["busybox", "busybox:1.36", TRAIN, f"busybox@{digest('image busybox')}", "a.example/a:1"])
CACHES = st.lists(
    st.builds(
        lambda images, size, age, name: cache(name, *(image(i, size) for i in images), age=age),
        st.lists(IMAGES, min_size=1, max_size=4, unique=True), st.integers(0, 3), st.integers(0, 2),
        st.sampled_from("abcdef"),
    ),
    max_size=5, unique_by=lambda c: c["metadata"]["name"],
)


@given(st.lists(IMAGES, max_size=4), CACHES, st.randoms())
def test_the_order_of_the_caches_does_not_matter_and_everyone_is_accounted_for(
    images: list[str], caches: list[dict[str, Any]], random: Any,
) -> None:
    found = matched(pod(*images), *caches)
    shuffled = [*caches]
    random.shuffle(shuffled)
    assert matched(pod(*images), *shuffled) == found
    told = {c.offer.cache for c in found.losers} | {chosen(found)} - {None}
    assert told == {c["metadata"]["name"] for c in caches}
    assert all(c.loses for c in found.losers)
    assert bool(found.missed) == (found.why is not None) == (found.chosen is None)


@pytest.mark.parametrize(("count", "expected"), [(1, 1), (4, 4), (5, 4), (8, 1), (9, None), (20, None)])
def test_kubelet_is_never_asked_for_more_than_it_pulls_at_once(count: int, expected: int | None) -> None:
    images = [f"r.example/i{n}:1" for n in range(count)]
    found = matched(pod(*images), cache("all", *(image(i, size=n + 1) for n, i in enumerate(images))))
    if expected is None:
        assert (found.chosen, found.told) == (None, True)
        assert f"has {count} images" in found.left_alone
    else:
        assert found.chosen is not None
        assert [i.size for i in found.chosen.taken] == list(range(count - expected + 1, count + 1)), "the largest"
        assert len(found.chosen.taken) + count <= MOST_PULLS
