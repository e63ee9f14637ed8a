# SPDX-License-Identifier: Apache-2.0
"""From the API server's JSON to facts: real Pods, claims and ImageCaches, and broken ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api.imagecache import Status
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageOutcome, ImageProgress, ImageState, Outcome, Progress
from imagecache_operator.cluster import reading

GOOD = Outcome(images=(ImageOutcome(digest="sha256:1", size=1),), used=1)


def imagecache(spec: Any = None, status: Any = None, **meta: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "ml", "uid": "u", "generation": 3, "creationTimestamp": "2026-03-01T12:00:00Z",
            "resourceVersion": "7", **meta,
        },
        "spec": {"images": ["busybox"]} if spec is None else spec, **({} if status is None else {"status": status}),
    }


def pod(state: Any = None, labels: Any = None, name: str = names.BUILDER_CONTAINER, **status: Any) -> dict[str, Any]:
    if state is not None:
        status["containerStatuses"] = [
            {"name": "istio-proxy", "state": {"running": {}}}, {"name": name, "state": state},
        ]
    return {
        "metadata": {
            "name": "p", "labels": {names.LABEL_ATTEMPT: "4"} if labels is None else labels,
            "creationTimestamp": "2026-03-01T12:00:00Z",
        },
        "status": status,
    }


def test_a_cache_is_read_whole() -> None:
    found = reading.cache(imagecache(annotations={names.ANNOTATION_RETRY: "a"}))
    assert (found.name, found.uid, found.generation, found.resource_version) == ("ml", "u", 3, "7")
    assert found.created == datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert (found.deleting, found.retry, found.status) == (False, "a", Status())
    assert found.spec is not None
    assert found.spec.image_cache_size == 20
    assert reading.cache(imagecache(deletionTimestamp="2026-03-01T12:00:00Z")).deleting


@pytest.mark.parametrize(("spec", "where"), [
    ({}, "spec.images"), ({"images": []}, "spec.images"), ({"images": ["a b"]}, "spec.images.0"),
    ({"images": ["busybox"], "imageCacheSize": 1}, "spec.imageCacheSize"), ("no object", "spec"),
])
def test_a_spec_that_breaks_the_rules_says_where(spec: Any, where: str) -> None:
    found = reading.cache(imagecache(spec))
    assert found.spec is None
    assert found.spec_error.startswith(where)


@pytest.mark.parametrize("status", [{"phase": "Weird"}, {"attempt": {"number": "x"}}, {"images": 3}, None, {}])
def test_a_status_that_nobody_of_us_wrote_is_none(status: Any) -> None:
    assert reading.cache(imagecache(status=status)).status == Status()


def test_a_volume_that_nobody_has_looked_at_is_pending() -> None:
    obj: Any = {"metadata": {"name": "v", "uid": "1"}, "spec": {"resources": {"requests": {"storage": "20Gi"}}}}
    assert reading.volume(obj).phase == "Pending"
    obj["status"] = {"phase": "Bound"}
    obj["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    found = reading.volume(obj)
    assert (found.phase, found.requested, found.deleting) == ("Bound", "20Gi", True)


def test_a_builder_that_waits() -> None:
    found = reading.builder(pod(phase="Pending"))
    assert (found.attempt, found.terminated, found.running, found.waiting_for) == (4, False, False, "")


@pytest.mark.parametrize(("obj", "words"), [
    (pod({"waiting": {"reason": "ContainerCreating"}}, phase="Pending"), ""),
    (pod({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}, phase="Pending"),
     "ImagePullBackOff (no such image)"),
    (pod(phase="Pending", conditions=[
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/2 nodes are available"},
    ]), "0/2 nodes are available"),
    (pod(phase="Pending", conditions=[{"type": "PodScheduled", "status": "True"}]), ""),
])
def test_what_holds_a_builder_up(obj: Any, words: str) -> None:
    assert reading.builder(obj).waiting_for == words


def test_a_builder_that_runs() -> None:
    found = reading.builder(pod({"running": {"startedAt": "x"}}, phase="Running"))
    assert (found.running, found.terminated) == (True, False)


def test_a_builder_that_has_spoken() -> None:
    ended = {"exitCode": 0, "reason": "Completed", "message": GOOD.to_termination_message()}
    found = reading.builder(pod({"terminated": ended}, phase="Running"))  # a sidecar keeps the Pod running
    assert (found.terminated, found.outcome) == (True, GOOD)


@pytest.mark.parametrize(("obj", "words"), [
    (pod({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, phase="Failed"), "OOMKilled (exit code 137)"),
    (pod({"terminated": {"exitCode": 1, "reason": "Error", "message": "Traceback"}}, phase="Failed"), "Error"),
    (pod({"terminated": {"exitCode": 0, "message": "{}"}}, phase="Succeeded"), "Succeeded (exit code 0)"),
    (pod(phase="Failed", reason="Evicted", message="The node was low on memory"), "Evicted (The node was low"),
    (pod({"running": {}}, phase="Failed", reason="NodeLost"), "NodeLost"),
    (pod({"terminated": {"exitCode": 143}}, phase="Failed", reason="DeadlineExceeded"), "DeadlineExceeded"),
])
def test_a_builder_that_could_not_speak(obj: Any, words: str) -> None:
    found = reading.builder(obj)
    assert (found.terminated, found.outcome) == (True, None)
    assert found.ended_because.startswith(words)


def test_the_words_of_another_container_are_not_the_builders() -> None:
    ended = {"terminated": {"exitCode": 0, "message": GOOD.to_termination_message()}}
    found = reading.builder(pod(ended, name="sidecar", phase="Running"))
    assert (found.terminated, found.outcome) == (False, None)


@pytest.mark.parametrize("labels", [{}, {names.LABEL_ATTEMPT: "first"}, {names.LABEL_ATTEMPT: ""}])
def test_a_pod_that_somebody_labelled_by_hand_does_not_stop_the_operator(labels: Any) -> None:
    assert reading.builder(pod(labels=labels)).attempt == 0


LINE = Progress(
    images=(ImageProgress(state=ImageState.PULLING, bytes_done=1, bytes_total=2),), bytes_done=1, bytes_total=2,
).model_dump_json(by_alias=True)


@pytest.mark.parametrize(("log", "done"), [
    ("", None), ("prose only", None), (LINE, 1), (f"{LINE}\nprose\n", 1),
    (LINE.replace(":1", ":0") + f"\n{LINE}\n", 1), (f'{LINE}\n{{"type":"progress","ima', 1),
    (f'{LINE}\nprose about "progress"', 1),
])
def test_the_newest_readable_progress_counts(log: str, done: int | None) -> None:
    found = reading.progress(log)
    assert (found.bytes_done if found else None) == done


def test_a_reason_for_all_images_is_an_outcome() -> None:
    said = Outcome(reason=Reason.TLS_FAILED, message="m").to_termination_message()
    found = reading.builder(pod({"terminated": {"exitCode": 1, "message": said}}, phase="Failed"))
    assert found.outcome is not None
    assert found.outcome.reason is Reason.TLS_FAILED
