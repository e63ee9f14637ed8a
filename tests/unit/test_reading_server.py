# SPDX-License-Identifier: Apache-2.0
"""From the API server's JSON to facts: what serves a cache."""

from __future__ import annotations

from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.cluster import reading
from imagecache_operator.planning.observed import Server, ServerPart

GOING = "2026-03-01T12:00:00Z"


def meta(version: str | None = "v1", **more: Any) -> Any:
    annotations = {} if version is None else {names.ANNOTATION_MANIFEST: version}
    return {"name": "s", "generation": 2, "annotations": annotations, **more}


def deployment(ready: int | None = 1, generation: int = 2, conditions: Any = (), **more: Any) -> Any:
    status: dict[str, Any] = {"observedGeneration": generation, "conditions": list(conditions)}
    if ready is not None:
        status["readyReplicas"] = ready
    return {"metadata": meta(**more), "spec": {}, "status": status}


def service(port: int | None = 31234, **more: Any) -> Any:
    return {"metadata": meta(**more), "spec": {"ports": [{"port": 5000, **({"nodePort": port} if port else {})}]}}


def pod(
    state: Any = None, container: str = names.COMPONENT_SERVER, status: Any = None, on: str = "a", **more: Any,
) -> Any:
    found = status or {"containerStatuses": [{"name": "istio-proxy"}, {"name": container, "state": state or {}}]}
    return {"metadata": {"name": "p", **more}, "spec": {"nodeName": on}, "status": found}


def node(name: str, *, ready: str = "True", **more: Any) -> Any:
    other = {"type": "MemoryPressure", "status": "Unknown"}
    return {"metadata": {"name": name}, "status": {"conditions": [other, {"type": "Ready", "status": ready, **more}]}}


LOST = node("b", ready="Unknown", reason="NodeStatusUnknown", message="Kubelet stopped posting node status.")
SILENT = node("c", ready="False")


def test_one_that_answers() -> None:
    assert reading.server([deployment()], [service()], [pod({"running": {}})], [node("a")]) == Server(
        parts=(ServerPart("Deployment", "s", "v1"), ServerPart("Service", "s", "v1"), ServerPart("Pod", "p")),
        node_port=31234, ready=True,
    )


def test_nothing_is_nothing() -> None:
    assert reading.server([], [], [], []) == Server()


@pytest.mark.parametrize(("deployments", "services"), [
    ([deployment(0)], [service()]), ([deployment(None)], [service()]), ([deployment(generation=1)], [service()]),
    ([{"metadata": meta(), "spec": {}}], [service()]), ([deployment(deletionTimestamp=GOING)], [service()]),
    ([deployment()], []), ([deployment()], [service(deletionTimestamp=GOING)]), ([], [service()]),
], ids=["none ready", "none yet", "an earlier generation", "no status", "goes", "no service", "service goes", "gone"])
def test_one_that_does_not(deployments: list[Any], services: list[Any]) -> None:
    assert not reading.server(deployments, services, [], []).ready


def test_a_service_on_its_way_out_has_no_port_any_more() -> None:
    assert reading.server([], [service(deletionTimestamp=GOING)], [], []).node_port is None
    assert reading.server([], [service(None)], [], []).node_port is None
    assert reading.server([], [service(deletionTimestamp=GOING)], [], []).parts[0].deleting


def test_one_with_a_host_name_has_no_port() -> None:
    behind = service(None)
    behind["spec"]["type"] = "ClusterIP"
    found = reading.server([deployment()], [behind], [], [], [{"metadata": meta()}])
    assert (found.node_port, found.behind_ingress, found.ready) == (None, True, True)
    assert [part.kind for part in found.parts] == ["Deployment", "Ingress", "Service"], "as they are deleted"
    behind["metadata"]["deletionTimestamp"] = GOING
    assert reading.server([], [behind], [], []).behind_ingress
    other = service()
    other["spec"]["type"] = "NodePort"
    assert not reading.server([deployment()], [other], [], []).behind_ingress


def test_one_that_somebody_else_has_made_has_no_version() -> None:
    obj = service()
    del obj["metadata"]["annotations"]
    assert reading.server([], [obj], [], []).parts == (ServerPart("Service", "s", ""),)


UNSCHEDULED = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}]}
NO_IMAGE = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
QUOTA = [{"type": "Available", "message": "no"}, {"type": "ReplicaFailure", "message": "exceeded quota"}]


@pytest.mark.parametrize(("deployments", "pods", "words"), [
    ([deployment(0)], [], ""),
    ([deployment(0)], [pod(status=UNSCHEDULED)], "0/2 nodes are available"),
    ([deployment(0)], [pod(NO_IMAGE)], "ImagePullBackOff (no such image)"),
    ([deployment(0)], [pod(NO_IMAGE, container="other")], ""),
    ([deployment(0)], [pod(NO_IMAGE, deletionTimestamp=GOING), pod(status=UNSCHEDULED)], "0/2 nodes are available"),
    ([deployment(0, conditions=QUOTA)], [], "exceeded quota"),
    ([], [{"metadata": {"name": "p"}}], ""),
    ([deployment(0)], [pod({"running": {}})], ""),
    ([deployment(0)], [pod({"running": {}}, on="b")], "its node b is not ready (Kubelet stopped posting node status.)"),
    ([deployment(0)], [pod({"running": {}}, on="c")], "its node c is not ready"),
    ([deployment(0)], [pod({"running": {}}, on="gone")], ""),
    ([deployment(0)], [pod(NO_IMAGE, on="c")], "ImagePullBackOff (no such image)"),
    ([deployment(0)], [pod({"running": {}}, on="b", deletionTimestamp=GOING)], ""),
], ids=["nothing", "no node", "no image", "another container", "an old Pod", "no Pod", "no status", "not ready yet",
        "a lost node", "a node that is silent", "a node that is gone", "both", "an old Pod on a lost node"])
def test_what_holds_one_up(deployments: list[Any], pods: list[Any], words: str) -> None:
    assert reading.server(deployments, [service()], pods, [node("a"), LOST, SILENT]).waiting_for == words
