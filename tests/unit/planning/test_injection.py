# SPDX-License-Identifier: Apache-2.0
"""The patch: volumes, marks and a pull Secret are added. That nothing else ever changes, and a second time nothing at
all: `test_injection_any_pod.py`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api.pod import Pod
from imagecache_operator.cluster import reading
from imagecache_operator.planning.injection import Injection, Result, inject
from imagecache_operator.planning.matching import match
from imagecache_operator.planning.offers import Missed, offer

from tests.unit.planning import json_patch
from tests.unit.planning.offers import ADDRESS, GIB, TEAM_A, TRAIN, cache, digest, image, pod

CACHE = cache("ml", TRAIN, "busybox", "docker.io/team/init:1")
WITH_PASSWORD = cache("ml", TRAIN, spec={"allowedNamespaces": {"names": ["team-a"]}})
ACCESS = {"name": names.ACCESS_SECRET}


def injected(asking: dict[str, Any], *caches: dict[str, Any], auto: bool = False) -> Injection:
    asked = Pod.model_validate(asking)
    return inject(asked, match(asked, [offer(reading.cache(c)) for c in caches], TEAM_A, auto))


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
    why = "there is no ImageCache nobody for namespace team-a"
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


@pytest.mark.parametrize(("there", "expected"), [
    ({}, [ACCESS]),
    ({"imagePullSecrets": None}, [ACCESS]),
    ({"imagePullSecrets": []}, [ACCESS]),
    ({"imagePullSecrets": [{"name": "regcred"}]}, [{"name": "regcred"}, ACCESS]),
    ({"imagePullSecrets": [{"name": "b"}, {"name": "a"}, {"name": "b"}]}, [
        {"name": "b"}, {"name": "a"}, {"name": "b"}, ACCESS,
    ]),
    ({"imagePullSecrets": [{}, {"name": ""}, {"name": None}]}, [{}, {"name": ""}, {"name": None}, ACCESS]),
    ({"imagePullSecrets": [ACCESS]}, [ACCESS]),
    ({"imagePullSecrets": [ACCESS, {"name": "regcred"}]}, [ACCESS, {"name": "regcred"}]),
])
def test_a_cache_with_a_password_brings_its_pull_secret(
    there: dict[str, Any], expected: list[dict[str, str | None]],
) -> None:
    asking = pod(TRAIN, **there)
    assert after(asking, WITH_PASSWORD)["spec"]["imagePullSecrets"] == expected
    for without in (after(asking, CACHE), after(asking, cache("other", "alpine")), after(asking)):
        assert {k: v for k, v in without["spec"].items() if k == "imagePullSecrets"} == there, "nothing else does"


def test_what_a_service_account_brings_stays() -> None:
    """It is in the Pod before the webhook sees it. Asked again, the API server fills in nothing where something is."""
    first = after(pod(TRAIN, imagePullSecrets=[{"name": "of-the-account"}]), WITH_PASSWORD)
    assert first["spec"]["imagePullSecrets"] == [{"name": "of-the-account"}, ACCESS]
    assert injected(first, WITH_PASSWORD).patch == ()


def test_nobody_else_gets_the_pull_secret() -> None:
    theirs = cache("ml", TRAIN, spec={"allowedNamespaces": {"names": ["team-b"]}})
    for asks in ("auto", "ml"):
        result = after(pod(TRAIN, asks=asks), theirs)
        assert "imagePullSecrets" not in result["spec"]
        assert "volumes" not in result["spec"]
        assert "team-b" not in str(result)
