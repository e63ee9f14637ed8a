# SPDX-License-Identifier: Apache-2.0
"""From the API server's JSON to facts: what keeps images on nodes."""

from __future__ import annotations

from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.cluster import reading
from imagecache_operator.planning.observed import Warmer, WarmerSecret


def daemon_set(status: Any = None, **meta: Any) -> Any:
    found = {"name": "w", "generation": 2, "annotations": {names.ANNOTATION_MANIFEST: "v1"}, **meta}
    return {"metadata": found, "spec": {}, **({} if status is None else {"status": status})}


def counted(ready: int = 2, updated: int = 2, wanted: int = 3, generation: int = 2) -> dict[str, int]:
    return {
        "numberReady": ready, "updatedNumberScheduled": updated, "desiredNumberScheduled": wanted,
        "observedGeneration": generation,
    }


def test_nothing_is_nothing() -> None:
    assert reading.warmer([]) is None


@pytest.mark.parametrize(("status", "warm", "wanted"), [
    (counted(), 2, 3), (counted(ready=3, updated=1), 1, 3),
    (counted(generation=1), 0, 3), (counted(generation=3), 2, 3),
    ({"observedGeneration": 2, "desiredNumberScheduled": 0, "numberReady": 0}, 0, 0),
    ({"desiredNumberScheduled": 0}, 0, None), ({}, 0, None), (None, 0, None),
], ids=["some", "old Pods", "an earlier generation", "a later one", "no node", "not looked at",
        "nothing said", "no status"])
def test_what_counts_as_warm(status: Any, warm: int, wanted: int | None) -> None:
    assert reading.warmer([daemon_set(status)]) == Warmer("w", "v1", warm=warm, wanted=wanted)


def test_one_that_goes_and_one_that_somebody_else_made() -> None:
    going = reading.warmer([daemon_set(deletionTimestamp="2026-03-01T12:00:00Z")])
    assert going is not None
    assert going.deleting
    other = reading.warmer([{"metadata": {"name": "w"}}])
    assert other == Warmer("w")


def test_credentials_are_told_apart_by_what_they_were_made_from() -> None:
    secret = {"metadata": {"name": "s", "annotations": {names.ANNOTATION_MANIFEST: "v2"}}}
    assert reading.warmer_secret(secret) == WarmerSecret("s", "v2")
    assert reading.warmer_secret({"metadata": {"name": "s"}}) == WarmerSecret("s", "")
