# SPDX-License-Identifier: Apache-2.0
"""What people are told of Pods that asked for a cache: label, reason, warning and event where there was none for them;
and of a cache that is used, when it was used last."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pytest
from imagecache_operator import names

from tests.support.kube import NAMESPACE, Cache, Kube, Object, until
from tests.support.upstream import Upstream

TOOLS = "base/tools:1.0"
NAMES = ("e2e-asks-in-vain", "e2e-asks-and-gets", "e2e-asks-again")
WHERE = "default"
MARK = "made-by=e2e-not-injected"


def pod(name: str, asks: str, image: str) -> Object:
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": WHERE, "annotations": {names.ANNOTATION_CACHE: asks},
            "labels": dict([MARK.split("=")]),
        },
        # Nothing of it has to run: all is told when it is made.
        "spec": {"containers": [{"name": "c", "image": image}], "terminationGracePeriodSeconds": 0},
    }


@pytest.fixture
def apply(kube: Kube) -> Iterator[Callable[[Object], str]]:
    """Applies a manifest as a person would, and returns what kubectl says beside its result."""
    def run(manifest: Object) -> str:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", str(kube.cluster.kubeconfig), "apply", "-f", "-"],
            input=json.dumps(manifest), capture_output=True, text=True, check=True, timeout=60,
            env=kube.cluster.engine.full_environment(),
        )
        return done.stderr

    yield run
    kube.cluster.kubectl("-n", WHERE, "delete", "pods", "-l", MARK, "--grace-period=0", "--force")


def events_of(kube: Kube, uid: str) -> list[Object]:
    found = kube.cluster.kubectl(
        "-n", WHERE, "get", "events", f"--field-selector=involvedObject.uid={uid},reason=NotInjected", "-o", "json",
    )
    return list(json.loads(found)["items"])


def test_a_pod_that_asks_in_vain_says_why_in_four_places(kube: Kube, apply: Callable[[Object], str]) -> None:
    why = f"there is no ImageCache e2e-nowhere for namespace {WHERE}"
    said = apply(pod("e2e-asks-in-vain", "e2e-nowhere", "registry.test:5000/base/tools:1.0"))
    assert f"Warning: starts without an image cache: {why}" in said
    found = kube.get("pod", "e2e-asks-in-vain", WHERE)
    assert found is not None
    meta = found["metadata"]
    assert meta["labels"][names.LABEL_NOT_INJECTED] == "true"
    assert meta["annotations"][names.ANNOTATION_NOT_INJECTED] == why
    until(lambda: len(events_of(kube, meta["uid"])) == 1, "the event is there", 30)
    event, = events_of(kube, meta["uid"])
    assert (event["type"], event["message"]) == ("Warning", f"Starts without an image cache: {why}")
    assert "NotInjected" in kube.cluster.kubectl("-n", WHERE, "describe", "pod", "e2e-asks-in-vain")


def test_a_restarted_operator_tells_nothing_twice(kube: Kube, apply: Callable[[Object], str]) -> None:
    apply(pod("e2e-asks-in-vain", "e2e-nowhere", "registry.test:5000/base/tools:1.0"))
    first = kube.get("pod", "e2e-asks-in-vain", WHERE)
    assert first is not None
    until(lambda: len(events_of(kube, first["metadata"]["uid"])) == 1, "the event is there", 30)
    kube.operator_is_back(kube.kill_operator())
    # One that is made afterwards is told of after all that was there.
    apply(pod("e2e-asks-again", "e2e-nowhere", "registry.test:5000/base/tools:1.0"))
    second = kube.get("pod", "e2e-asks-again", WHERE)
    assert second is not None
    until(lambda: len(events_of(kube, second["metadata"]["uid"])) == 1, "the new one's event is there", 60)
    event, = events_of(kube, first["metadata"]["uid"])
    assert event["count"] == 1


def test_a_cache_knows_when_it_was_used(
    kube: Kube, upstream: Upstream, make_cache: Callable[..., Cache], apply: Callable[[Object], str],
) -> None:
    cache = make_cache("e2e-used", upstream.reference(TOOLS))
    cache.wait_until_served(180)
    assert "lastUsedTime" not in cache.status

    def starts_from_it() -> bool:
        # Each webhook Pod hears of the cache by itself, a moment after we do.
        kube.delete("pod", "e2e-asks-and-gets", WHERE, "--grace-period=0", "--force")
        apply(pod("e2e-asks-and-gets", cache.name, upstream.reference(TOOLS)))
        found = kube.get("pod", "e2e-asks-and-gets", WHERE)
        return found is not None and names.ANNOTATION_INJECTED in found["metadata"]["annotations"]

    until(starts_from_it, "a Pod starts from it", 30)
    found = kube.get("pod", "e2e-asks-and-gets", WHERE)
    assert found is not None
    assert found["metadata"]["labels"][names.LABEL_INJECTED_FROM] == cache.uid
    until(lambda: "lastUsedTime" in cache.status, "the use is in status", 30, lambda: str(cache.status))
    assert cache.status["lastUsedTime"] <= found["metadata"]["creationTimestamp"]


@pytest.mark.parametrize(("name", "port", "family"), [
    ("imagecache-operator", 8081, "imagecache_caches"), ("imagecache-webhook", 8080, "imagecache_pods_total"),
])
def test_metrics_can_be_read(kube: Kube, name: str, port: int, family: str) -> None:
    pods = kube.list("pods", f"app.kubernetes.io/name={name}", NAMESPACE)
    ready = next(p for p in pods if "deletionTimestamp" not in p["metadata"])
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{ready['metadata']['name']}:{port}/proxy/metrics"
    assert family in kube.cluster.kubectl("get", "--raw", path)
