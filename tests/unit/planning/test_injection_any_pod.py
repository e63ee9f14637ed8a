# SPDX-License-Identifier: Apache-2.0
"""Any Pod, any caches: only what injection is about changes, and a second time nothing does."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator import names
from imagecache_operator.api.pod import Pod
from imagecache_operator.cluster import reading
from imagecache_operator.planning.injection import Injection, Result, inject
from imagecache_operator.planning.matching import match
from imagecache_operator.planning.offers import offer

from tests.unit.planning import json_patch
from tests.unit.planning.offers import TEAM_A, TRAIN, cache

MARKS = (names.ANNOTATION_INJECTED, names.ANNOTATION_NOT_INJECTED)
LABELS = (names.LABEL_INJECTED_FROM, names.LABEL_NOT_INJECTED)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
KEYS = st.one_of(TEXT, st.sampled_from(["a/b", "a~b", "~1", *MARKS, *LABELS]))
MAPS = st.none() | st.dictionaries(KEYS, TEXT, max_size=3)
REFERENCES = st.sampled_from([TRAIN, "busybox", "busybox:latest", "alpine", "no image!", "", None])
VOLUMES = st.none() | st.lists(st.fixed_dictionaries(
    {"name": st.sampled_from(["data", "imagecache-0", "imagecache-1", "x", None])},
    optional={"image": st.none() | st.fixed_dictionaries({"reference": REFERENCES}), "emptyDir": st.just({})},
), max_size=3)
SECRETS = st.none() | st.lists(st.fixed_dictionaries(
    {}, optional={"name": st.sampled_from([names.ACCESS_SECRET, "regcred", "", None])},
), max_size=3)
CONTAINERS = st.lists(st.fixed_dictionaries({"name": TEXT}, optional={"image": REFERENCES, "env": TEXT}), max_size=3)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    optional: dict[str, st.SearchStrategy[Any]] = {"labels": MAPS, "annotations": MAPS, "name": TEXT}
    meta: dict[str, Any] = draw(st.fixed_dictionaries({}, optional=optional))
    asks = draw(st.sampled_from(["auto", "ml", "ours", "theirs", "gone", "none", ""]))
    if draw(st.booleans()):
        meta["annotations"] = {**(meta.get("annotations") or {}), names.ANNOTATION_CACHE: asks}
    spec = draw(st.fixed_dictionaries({"containers": CONTAINERS}, optional={
        "initContainers": st.none() | CONTAINERS, "volumes": VOLUMES, "hostname": TEXT,
        "imagePullSecrets": SECRETS,
        "runtimeClassName": st.sampled_from([None, "", "kata"]),
    }))
    return {"metadata": meta, "spec": spec}


def injected(asking: dict[str, Any], caches: list[dict[str, Any]], auto: bool) -> Injection:
    asked = Pod.model_validate(asking)
    return inject(asked, match(asked, [offer(reading.cache(c)) for c in caches], TEAM_A, auto))


def without_ours(document: dict[str, Any]) -> dict[str, Any]:
    """Without what injection may add or take away, and with what is empty as if it were absent."""
    left = copy.deepcopy(document)
    for field, ours in (("annotations", MARKS), ("labels", LABELS)):
        kept = {k: v for k, v in (left["metadata"].pop(field, None) or {}).items() if k not in ours}
        left["metadata"][field] = kept
    volumes = left["spec"].pop("volumes", None) or []
    left["spec"]["volumes"] = [v for v in volumes if not str(v["name"]).startswith("imagecache-")]
    secrets = left["spec"].pop("imagePullSecrets", None) or []
    left["spec"]["imagePullSecrets"] = [s for s in secrets if s.get("name") != names.ACCESS_SECRET]
    return left


CACHES = [
    cache("ml", TRAIN, "busybox", "docker.io/team/init:1"), cache("older", TRAIN, "alpine", age=3),
    cache("ours", "alpine", TRAIN, spec={"allowedNamespaces": {"names": ["team-a"]}}),
    cache("theirs", TRAIN, "busybox", "alpine", spec={"allowedNamespaces": {"names": ["team-b"]}}),
]


@given(pods(), st.lists(st.sampled_from(CACHES), max_size=3, unique_by=lambda c: c["metadata"]["name"]), st.booleans())
def test_nothing_else_changes_and_twice_is_once(
    asking: dict[str, Any], caches: list[dict[str, Any]], auto: bool,
) -> None:
    first = injected(asking, caches, auto)
    result = json_patch.apply(asking, first.patch)
    assert without_ours(result) == without_ours(asking)
    assert injected(result, caches, auto).patch == ()
    added = [v for v in result["spec"].get("volumes") or [] if v not in (asking["spec"].get("volumes") or [])]
    assert result["spec"].get("volumes", [])[: len(added)] == added if added else True
    assert len({v["image"]["reference"] for v in added}) == len(added)
    before, secrets = (p["spec"].get("imagePullSecrets") or [] for p in (asking, result))
    needs = first.result is Result.HIT and {"name": names.ACCESS_SECRET} not in before and (
        result["metadata"]["annotations"][names.ANNOTATION_INJECTED] == "ours"
    )
    assert secrets == before + [{"name": names.ACCESS_SECRET}] * needs
