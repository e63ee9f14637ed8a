# SPDX-License-Identifier: Apache-2.0
"""From the API server's JSON to facts: a Pod that tries a server on a node."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.cluster import reading
from imagecache_operator.planning.observed import Canary

MADE = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def pod(phase: str, state: Any = None, **status: Any) -> Any:
    return {
        "metadata": {
            "name": "c", "creationTimestamp": "2026-03-01T12:00:00Z", "annotations": {
                names.ANNOTATION_CANARY_ADDRESS: "localhost:31234", names.ANNOTATION_CANARY_POOL: "v1.37.2",
            },
        },
        "spec": {"nodeName": "node-1"},
        "status": {"phase": phase, "containerStatuses": [{"name": "canary", "state": state or {}}], **status},
    }


@pytest.mark.parametrize(("obj", "expected"), [
    (pod("Pending"), {}),
    (pod("Pending", {"waiting": {"reason": "ContainerCreating"}}), {}),
    (pod("Pending", {"waiting": {"reason": "ErrImagePull", "message": "refused"}}),
     {"waiting_for": "ErrImagePull (refused)"}),
    (pod("Running", {"running": {}}), {}),
    (pod("Succeeded", {"terminated": {"reason": "Completed", "exitCode": 0}}),
     {"over": True, "passed": True, "waiting_for": "Completed (exit code 0)"}),
    (pod("Failed", {"terminated": {"reason": "Error", "exitCode": 2}}),
     {"over": True, "waiting_for": "Error (exit code 2)"}),
    (pod("Failed", {"waiting": {"reason": "ErrImagePull", "message": "x"}}, reason="DeadlineExceeded"),
     {"over": True, "waiting_for": "ErrImagePull (x)"}),
    (pod("Failed", reason="OutOfpods", message="too many"), {"over": True, "waiting_for": "OutOfpods (too many)"}),
], ids=["new", "creating", "refused", "running", "passed", "failed", "past its deadline", "refused by its node"])
def test_how_it_goes(obj: Any, expected: dict[str, Any]) -> None:
    assert reading.canary(obj) == Canary("c", "localhost:31234", "v1.37.2", "node-1", MADE, **expected)


def test_what_somebody_has_torn_is_read_all_the_same() -> None:
    bare = {"metadata": {"name": "c", "creationTimestamp": "2026-03-01T12:00:00Z", "deletionTimestamp": "x"}}
    assert reading.canary(bare) == Canary("c", "", "", "", MADE, deleting=True)
