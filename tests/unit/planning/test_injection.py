# SPDX-License-Identifier: Apache-2.0
"""The patch: volumes and marks are added, whatever else the Pod has stays, and a second time changes nothing."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator import names
from imagecache_operator.api.pod import Pod
from imagecache_operator.cluster import reading
from imagecache_operator.planning.injection import Injection, Result, inject
from imagecache_operator.planning.matching import match
from imagecache_operator.planning.offers import Missed, offer

from tests.unit.planning import json_patch
from tests.unit.planning.offers import ADDRESS, GIB, TRAIN, cache, digest, image, pod

MARKS = (names.ANNOTATION_INJECTED, names.ANNOTATION_NOT_INJECTED)
LABELS = (names.LABEL_INJECTED_FROM, names.LABEL_NOT_INJECTED)
CACHE = cache("ml", TRAIN, "busybox", "docker.io/team/init:1")


def injected(asking: dict[str, Any], *caches: dict[str, Any], auto: bool = False) -> Injection:
    asked = Pod.model_validate(asking)
    return inject(asked, match(asked, [offer(reading.cache(c)) for c in caches], auto))


def after(asking: dict[str, Any], *caches: dict[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = json_patch.apply(asking, injected(asking, *caches).patch)
    return result


def volume(number: int, repository: str, carrier: str) -> dict[str, Any]:
    reference = f"{ADDRESS}/carrier/{repository}@{digest(f'carrier {carrier}')}"
    return {"name": f"imagecache-{number}", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}


def test_the_whole_of_a_hit() -> None:
    asking = pod(
        TRAIN, "other.example/app:1", "busybox", TRAIN, initContainers=[{"name": "i", "image": "team/init:1"}],
        volumes=[{"name": "data", "emptyDir": {}}],
    )
    found = injected(asking, CACHE)
    result = json_patch.apply(asking, found.patch)
    assert result["spec"]["volumes"] == [
        volume(0, "docker.io/team/init", "docker.io/team/init:1"),
        volume(1, "registry.example/ml/train", TRAIN),
        volume(2, "docker.io/library/busybox", "busybox"),
        {"name": "data", "emptyDir": {}},
    ]
    assert result["metadata"]["annotations"] == {names.ANNOTATION_CACHE: "auto", names.ANNOTATION_INJECTED: "ml"}
    assert result["metadata"]["labels"] == {names.LABEL_INJECTED_FROM: "uid-of-ml"}
    assert (found.words, found.warning) == ("starts from ImageCache ml: 3 of 4 images", "")
    assert (found.result, found.why, found.size) == (Result.HIT, None, 3 * GIB)


def test_an_image_is_taken_by_where_the_cache_keeps_it_not_by_the_pods_name_for_it() -> None:
    listed = image("registry.example:5000/a:1")
    result = after(pod(f"registry.example:5000/a@{listed['digest']}"), cache("ml", listed))
    assert result["spec"]["volumes"] == [volume(0, "registry.example_5000/a", "registry.example:5000/a:1")]


@pytest.mark.parametrize("volumes", [{}, {"volumes": None}, {"volumes": []}])
@pytest.mark.parametrize("annotations", [{}, {"annotations": None}, {"annotations": {}}, {"annotations": {"a/b": "c"}}])
def test_what_is_absent_is_made(volumes: dict[str, Any], annotations: dict[str, Any]) -> None:
    asking = pod(TRAIN, asks=None, **volumes)
    asking["metadata"].update(annotations)
    result = json_patch.apply(asking, injected(asking, CACHE, auto=True).patch)
    assert result["spec"]["volumes"] == [volume(0, "registry.example/ml/train", TRAIN)]
    kept = annotations.get("annotations") or {}
    assert result["metadata"]["annotations"] == {**kept, names.ANNOTATION_INJECTED: "ml"}


@pytest.mark.parametrize("labels", [{}, {"labels": None}, {"labels": {}}, {"labels": {"app": "a"}}])
def test_the_whole_of_a_miss(labels: dict[str, Any]) -> None:
    asking = pod(TRAIN, asks="nobody")
    asking["metadata"].update(labels)
    found = injected(asking, CACHE)
    result = json_patch.apply(asking, found.patch)
    why = "there is no ImageCache nobody"
    assert result["metadata"]["labels"] == {**(labels.get("labels") or {}), names.LABEL_NOT_INJECTED: "true"}
    assert result["metadata"]["annotations"] == {
        names.ANNOTATION_CACHE: "nobody", names.ANNOTATION_NOT_INJECTED: why,
    }
    assert result["spec"] == asking["spec"]
    assert (found.words, found.warning) == (f"not injected: {why}", f"starts without an image cache: {why}")
    assert (found.result, found.why, found.size) == (Result.MISS, Missed.NO_CACHE, 0)
    assert injected(result, CACHE) == replace(found, patch=())


@pytest.mark.parametrize("asks", ["none", None])
def test_who_does_not_ask_is_left_alone(asks: str | None) -> None:
    found = injected(pod(TRAIN, asks=asks), CACHE)
    assert (found.patch, found.warning) == ((), "")


def test_who_asks_and_cannot_be_served_is_told() -> None:
    found = injected(pod(TRAIN, runtimeClassName="kata"), CACHE)
    assert found.patch == ()
    assert "runtimeClassName" in found.warning


def test_a_copy_with_its_volumes_is_left_alone() -> None:
    first = after(pod(TRAIN), CACHE)
    assert injected(first, cache("ml", image(TRAIN, carrier=digest("built anew")))).patch == ()


def test_a_copy_without_its_volumes_is_injected_anew() -> None:
    copied = pod(TRAIN, annotations={names.ANNOTATION_INJECTED: "older"})
    result = after(copied, CACHE)
    assert result["spec"]["volumes"] == [volume(0, "registry.example/ml/train", TRAIN)]
    assert result["metadata"]["annotations"][names.ANNOTATION_INJECTED] == "ml"


def test_marks_of_the_pod_that_one_was_copied_from_go() -> None:
    missed = after(pod(TRAIN), cache("other", "alpine"))
    assert missed["metadata"]["labels"] == {names.LABEL_NOT_INJECTED: "true"}
    hit = after(missed, CACHE)
    assert hit["metadata"]["labels"] == {names.LABEL_INJECTED_FROM: "uid-of-ml"}
    assert names.ANNOTATION_NOT_INJECTED not in hit["metadata"]["annotations"]
    del hit["spec"]["volumes"]
    missed = after(hit)
    assert names.ANNOTATION_INJECTED not in missed["metadata"]["annotations"]
    assert missed["metadata"]["labels"] == {names.LABEL_NOT_INJECTED: "true"}


def test_a_reason_is_one_short_line() -> None:
    result = after(pod(TRAIN, asks="x\ny" * 5000))
    reason = result["metadata"]["annotations"][names.ANNOTATION_NOT_INJECTED]
    assert reason.isprintable()
    assert len(reason) <= 300


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
KEYS = st.one_of(TEXT, st.sampled_from(["a/b", "a~b", "~1", *MARKS, *LABELS]))
MAPS = st.none() | st.dictionaries(KEYS, TEXT, max_size=3)
REFERENCES = st.sampled_from([TRAIN, "busybox", "busybox:latest", "alpine", "no image!", "", None])
VOLUMES = st.none() | st.lists(st.fixed_dictionaries(
    {"name": st.sampled_from(["data", "imagecache-0", "imagecache-1", "x", None])},
    optional={"image": st.none() | st.fixed_dictionaries({"reference": REFERENCES}), "emptyDir": st.just({})},
), max_size=3)
CONTAINERS = st.lists(st.fixed_dictionaries({"name": TEXT}, optional={"image": REFERENCES, "env": TEXT}), max_size=3)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    optional: dict[str, st.SearchStrategy[Any]] = {"labels": MAPS, "annotations": MAPS, "name": TEXT}
    meta: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=optional))
    asks = draw(st.sampled_from(["auto", "ml", "gone", "none", ""]))
    if draw(st.booleans()):
        meta["annotations"] = {**(meta.get("annotations") or {}), names.ANNOTATION_CACHE: asks}
    spec = draw(st.fixed_dictionaries({"containers": CONTAINERS}, optional={
        "initContainers": st.none() | CONTAINERS, "volumes": VOLUMES, "hostname": TEXT,
        "runtimeClassName": st.sampled_from([None, "", "kata"]),
    }))
    return {"metadata": meta, "spec": spec}


def without_ours(document: dict[str, Any]) -> dict[str, Any]:
    """Without what injection may add or take away, and with what is empty as if it were absent."""
    left = copy.deepcopy(document)
    for field, ours in (("annotations", MARKS), ("labels", LABELS)):
        kept = {k: v for k, v in (left["metadata"].pop(field, None) or {}).items() if k not in ours}
        left["metadata"][field] = kept
    volumes = left["spec"].pop("volumes", None) or []
    left["spec"]["volumes"] = [v for v in volumes if not str(v["name"]).startswith("imagecache-")]
    return left


@given(pods(), st.lists(st.sampled_from([CACHE, cache("older", TRAIN, "alpine", age=3)]), max_size=2), st.booleans())
def test_nothing_else_changes_and_twice_is_once(
    asking: dict[str, Any], caches: list[dict[str, Any]], auto: bool,
) -> None:
    caches = list({c["metadata"]["name"]: c for c in caches}.values())
    result = json_patch.apply(asking, injected(asking, *caches, auto=auto).patch)
    assert without_ours(result) == without_ours(asking)
    assert injected(result, *caches, auto=auto).patch == ()
    added = [v for v in result["spec"].get("volumes") or [] if v not in (asking["spec"].get("volumes") or [])]
    assert result["spec"].get("volumes", [])[: len(added)] == added if added else True
    assert len({v["image"]["reference"] for v in added}) == len(added)
