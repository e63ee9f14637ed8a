# SPDX-License-Identifier: Apache-2.0
"""What the operator relies on of an API server: status, its versions and its conflicts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from imagecache_operator.api.imagecache import Status
from imagecache_operator.cluster.api import Api, Conflict, Object

from .objects import double, made, of
from .stages import DOUBLE, Stage

Names = Callable[[], str]


def status_of(found: Any, status: Object) -> Object:
    meta = found["metadata"]
    return {
        "apiVersion": found["apiVersion"], "kind": found["kind"], "status": status,
        "metadata": {"name": meta["name"], "uid": meta["uid"], "resourceVersion": meta["resourceVersion"]},
    }


CONDITION = {
    "type": "Ready", "status": "True", "reason": "Available", "message": "", "observedGeneration": 1,
    "lastTransitionTime": "2026-03-01T12:00:00Z",
}


def test_status_is_written_beside_the_spec(api: Api, name: Names) -> None:
    found = made(api, double(name()))
    api.apply_status(status_of(found, {"phase": "Creating", "conditions": [CONDITION]}))
    after = of(api.get(DOUBLE, found["metadata"]["name"]))
    assert after["status"] == {"phase": "Creating", "conditions": [CONDITION]}
    assert after["spec"] == found["spec"]
    assert after["metadata"]["generation"] == 1, "a status does not move the generation"
    assert after["metadata"]["resourceVersion"] != found["metadata"]["resourceVersion"]


def test_a_status_field_that_is_no_longer_said_goes(api: Api, name: Names) -> None:
    found = made(api, double(name()))
    full = {
        "phase": "Creating", "progress": "50 %", "conditions": [CONDITION, {**CONDITION, "type": "Stalled"}],
        "attempt": {"number": 1, "state": "Lost", "reason": "Timeout", "failures": 1, "withSecrets": True},
        "images": [{"reference": "busybox", "state": "Pulling", "bytesDone": 1}],
    }
    api.apply_status(status_of(found, full))
    found = of(api.get(DOUBLE, found["metadata"]["name"]))
    assert found["status"] == full
    less = {
        "phase": "Available", "conditions": [CONDITION],
        "attempt": {"number": 1, "state": "Succeeded", "failures": 0, "withSecrets": False},
        "images": [{"reference": "busybox", "state": "Pulled"}],
    }
    api.apply_status(status_of(found, less))
    assert of(api.get(DOUBLE, found["metadata"]["name"]))["status"] == less


def test_the_same_status_is_no_write(api: Api, name: Names) -> None:
    found = made(api, double(name()))
    api.apply_status(status_of(found, {"phase": "Creating", "conditions": [CONDITION]}))
    first = of(api.get(DOUBLE, found["metadata"]["name"]))
    api.apply_status(status_of(first, {"phase": "Creating", "conditions": [CONDITION]}))
    assert of(api.get(DOUBLE, found["metadata"]["name"])) == first


def test_a_whole_status_comes_back_as_it_was_written(api: Api, name: Names) -> None:
    """What the operator writes equals what it reads: else it would write for ever."""
    status = Status.model_validate({
        "phase": "Failed", "message": "why", "observedGeneration": 1, "handledRetry": "x", "imageCount": 1,
        "size": "1 B of 20 GiB", "progress": "1 %", "expiresAt": "2026-03-01T12:00:00Z",
        "volume": {"name": "v", "uid": "u"}, "conditions": [CONDITION],
        "attempt": {
            "number": 2, "observedGeneration": 1, "failures": 1, "state": "Failed", "reason": "ImageFailed",
            "message": "m", "finishedAt": "2026-03-01T12:00:00Z",
        },
        "images": [{
            "reference": "busybox", "digest": "sha256:1", "state": "Failed", "bytesDone": 1, "bytesTotal": 2, "size": 3,
            "reason": "Denied", "message": "m",
        }],
    })
    found = made(api, double(name()))
    api.apply_status(status_of(found, status.to_json_dict()))
    read = of(api.get(DOUBLE, found["metadata"]["name"]))["status"]
    assert Status.model_validate(read) == status
    assert read == status.to_json_dict()


def test_a_status_for_an_older_version_is_a_conflict(api: Api, stage: Stage, name: Names) -> None:
    found = made(api, double(name()))
    stage.edit(DOUBLE, found["metadata"]["name"], lambda o: o["metadata"].update(annotations={"a": "1"}))
    with pytest.raises(Conflict):
        api.apply_status(status_of(found, {"phase": "Creating"}))
    assert "status" not in of(api.get(DOUBLE, found["metadata"]["name"]))


def test_a_status_for_another_object_of_that_name_is_a_conflict(api: Api, name: Names) -> None:
    found = made(api, double(name()))
    api.delete(DOUBLE, found["metadata"]["name"])
    made(api, double(found["metadata"]["name"]))
    with pytest.raises(Conflict):
        api.apply_status(status_of(found, {"phase": "Creating"}))


def test_a_status_for_an_object_that_is_gone_is_a_conflict(api: Api, name: Names) -> None:
    found = made(api, double(name()))
    api.delete(DOUBLE, found["metadata"]["name"])
    with pytest.raises(Conflict):
        api.apply_status(status_of(found, {"phase": "Creating"}))


def test_an_edit_of_the_spec_moves_the_generation_an_annotation_does_not(api: Api, stage: Stage, name: Names) -> None:
    called = name()
    made(api, double(called))
    stage.edit(DOUBLE, called, lambda o: o["metadata"].update(annotations={"a": "1"}))
    assert of(api.get(DOUBLE, called))["metadata"]["generation"] == 1
    stage.edit(DOUBLE, called, lambda o: o["spec"].update(retentionDays=3))
    assert of(api.get(DOUBLE, called))["metadata"]["generation"] == 2
