# SPDX-License-Identifier: Apache-2.0
"""A review and its answer: what the API server may send, and everything else."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from imagecache_operator import names
from imagecache_operator.admission.review import UnreadableReview, answer
from imagecache_operator.cluster import reading
from imagecache_operator.planning.observed import Namespace
from imagecache_operator.planning.offers import Offer, offer

from tests.unit.planning import json_patch
from tests.unit.planning.offers import TRAIN, cache, pod

OFFERS = [
    offer(reading.cache(cache("ml", TRAIN))),
    offer(reading.cache(cache("gold", TRAIN, "busybox", spec={"allowedNamespaces": {"selector": {"matchLabels": {
        "tier": "gold"}}}}))),
]
UID = "705ab4f5-6393-11e8-b7cc-42010a800002"


def named(name: str) -> Namespace:
    return Namespace(name, labels={"tier": "gold"} if name == "team-gold" else {})


def review(obj: Any, **changed: Any) -> dict[str, Any]:
    """As an API server sends it, shortened by what nobody reads."""
    request = {
        "uid": UID, "kind": {"group": "", "version": "v1", "kind": "Pod"}, "namespace": "team-a",
        "operation": "CREATE", "userInfo": {"username": "ann"}, "object": obj, "oldObject": None, "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}, **changed,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


def answered(sent: dict[str, Any], offers: list[Offer] | None = OFFERS, auto: bool = False) -> tuple[Any, str]:
    found, words, _ = answer(json.dumps(sent).encode(), offers, named, auto)
    assert (found["apiVersion"], found["kind"]) == ("admission.k8s.io/v1", "AdmissionReview")
    assert (found["response"]["uid"], found["response"]["allowed"]) == (UID, True)
    return found["response"], words


def patch(response: dict[str, Any]) -> Any:
    assert response["patchType"] == "JSONPatch"
    return json.loads(base64.b64decode(response["patch"]))


def test_a_hit_is_a_patch() -> None:
    response, words = answered(review(pod(TRAIN)))
    result = json_patch.apply(pod(TRAIN), patch(response))
    assert [v["name"] for v in result["spec"]["volumes"]] == ["imagecache-0"]
    assert "warnings" not in response
    assert words == "team-a/train-*: starts from ImageCache ml: 1 of 1 image"


def test_a_miss_is_a_patch_and_a_warning() -> None:
    response, words = answered(review(pod("alpine")))
    assert names.LABEL_NOT_INJECTED in json_patch.apply(pod("alpine"), patch(response))["metadata"]["labels"]
    why = "no ImageCache for namespace team-a has any of the Pod's images"
    assert response["warnings"] == [f"starts without an image cache: {why}"]
    assert words == f"team-a/train-*: not injected: {why}"


def test_only_the_path_says_that_the_namespace_asks() -> None:
    silent = review(pod(TRAIN, asks=None))
    assert "patch" not in answered(silent)[0]
    assert "patch" in answered(silent, auto=True)[0]


def test_the_reviews_namespace_counts_not_what_the_pod_says() -> None:
    """A Pod need not name its namespace: the API server fills it in later."""
    for namespace, cache_name in (("team-gold", "gold"), ("team-a", "ml"), ("", "ml")):
        sent = pod(TRAIN)
        sent["metadata"]["namespace"] = "team-gold"
        result = json_patch.apply(sent, patch(answered(review(sent, namespace=namespace))[0]))
        assert result["metadata"]["annotations"][names.ANNOTATION_INJECTED] == cache_name
        assert ("imagePullSecrets" in result["spec"]) == (cache_name == "gold")


@pytest.mark.parametrize(("sent", "offers", "words"), [
    (review(pod(TRAIN), operation="UPDATE"), OFFERS, "only new Pods can be changed"),
    (review(pod(TRAIN), kind={"kind": "Deployment"}), OFFERS, "only new Pods can be changed"),
    (review(None), OFFERS, "the Pod cannot be read (the whole: "),
    (review({"metadata": {}}), OFFERS, "the Pod cannot be read (spec: Field required)"),
    (review({"metadata": {"annotations": {"a": 1}}, "spec": {}}), OFFERS, "cannot be read (metadata.annotations.a: "),
    (review(pod(TRAIN, imagePullSecrets=[None])), OFFERS, "cannot be read (spec.imagePullSecrets.0: "),
    (review(pod(TRAIN, imagePullSecrets={"name": "a"})), OFFERS, "cannot be read (spec.imagePullSecrets: "),
    (review(pod(TRAIN)), None, "caches and namespaces are not known yet"),
])
def test_what_is_not_changed_is_let_through(sent: dict[str, Any], offers: list[Offer] | None, words: str) -> None:
    response, told = answered(sent, offers)
    assert response == {"uid": UID, "allowed": True}
    assert f"left alone: {words}" in told or words in told


def test_the_log_line_is_one_line_whoever_wrote_the_names() -> None:
    named = pod(TRAIN, asks="x\n2026 ERROR\x1b[2J")
    named["metadata"]["generateName"] = "a\nb" * 1000
    _, words = answered(review(named, namespace="c\rd"))
    assert words.isprintable()
    assert len(words) < 800


GARBAGE = [
    b"", b"{}", b"[]", b"null", b"1", b'"a"', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"NaN",
    b"1" * 5000, json.dumps({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}).encode(),
    json.dumps(review(pod(TRAIN)) | {"apiVersion": "admission.k8s.io/v1beta1"}).encode(),
    json.dumps(review(pod(TRAIN), uid="")).encode(), json.dumps(review(pod(TRAIN), uid=7)).encode(),
    json.dumps(review(pod(TRAIN), uid="\ud800")).encode(),
]


@pytest.mark.parametrize("body", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_is_answered_with_a_sentence(body: bytes) -> None:
    with pytest.raises(UnreadableReview) as refusal:
        answer(body, OFFERS, named, False)
    words = str(refusal.value)
    assert words.startswith(("The body is not JSON.", "This is no AdmissionReview of admission.k8s.io/v1: "))
    assert words.isprintable()
    assert len(words) < 300


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(TRAIN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["metadata", "spec", "containers", "image", "volumes", "annotations", names.ANNOTATION_CACHE,
                         "imagePullSecrets", "name"]),
        inner, max_size=4,
    ), max_leaves=12,
)


@st.composite
def altered(draw: st.DrawFn) -> Any:
    """A good review in which one place, at any depth, holds something else."""
    sent = review(pod(
        TRAIN, volumes=[{"name": "v", "image": {"reference": TRAIN}}], os={"name": "linux"},
        imagePullSecrets=[{"name": "regcred"}, {"name": names.ACCESS_SECRET}],
    ), namespace="team-gold")
    place: Any = sent
    while True:
        key = draw(st.sampled_from(sorted(place)) if isinstance(place, dict) else st.integers(0, len(place) - 1))
        if not isinstance(place[key], dict | list) or not place[key] or draw(st.integers(0, 5)) == 0:
            place[key] = draw(JSON)
            return sent
        place = place[key]


def never_more_than_a_sentence(body: bytes, auto: bool) -> None:
    try:
        found, words, _ = answer(body, OFFERS, named, auto)
    except UnreadableReview:
        return
    assert found["response"]["allowed"] is True
    assert words.isprintable()
    assert json.loads(json.dumps(found)) == found


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(body: bytes, auto: bool) -> None:
    never_more_than_a_sentence(body, auto)


@given(JSON, st.sampled_from(["team-a", "team-gold"]))
def test_any_pull_secrets(secrets: Any, namespace: str) -> None:
    """They come through the patch as they were, and with ours behind them where it is needed."""
    sent = pod(TRAIN, imagePullSecrets=secrets)
    response, words = answered(review(sent, namespace=namespace))
    if "patch" not in response:
        assert "left alone: the Pod cannot be read (spec.imagePullSecrets" in words
        return
    result, ours = json_patch.apply(sent, patch(response)), {"name": names.ACCESS_SECRET}
    if namespace == "team-a" or ours in (secrets or []):
        assert result["spec"]["imagePullSecrets"] == secrets
    else:
        assert result["spec"]["imagePullSecrets"] == [*(secrets or []), ours]
    assert "patch" not in answered(review(result, namespace=namespace))[0]


@given(JSON, st.booleans())
def test_any_pod(obj: Any, auto: bool) -> None:
    never_more_than_a_sentence(json.dumps(review(obj)).encode(), auto)


@given(altered(), st.booleans())
@example(review({"metadata": {"annotations": None}, "spec": {"volumes": [{}], "containers": None}}), True)
def test_any_place_of_a_review(sent: Any, auto: bool) -> None:
    never_more_than_a_sentence(json.dumps(sent).encode(), auto)
