# SPDX-License-Identifier: Apache-2.0
"""The private registries beside the cluster, judged by kubelets: a Pod starts with the right pull secret, and with
none or a wrong one it does not. Tests of the operator's pull secrets rest on this."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.support.kube import Kube, until
from tests.support.private_registry import PrivateRegistry

NAMESPACE = "e2e-private-registries"
DOCKER_CONFIG, DOCKERCFG = "kubernetes.io/dockerconfigjson", "kubernetes.io/dockercfg"


@pytest.fixture(scope="module")
def bare(cluster: Cluster) -> Iterator[Kube]:
    """The cluster with a namespace for these Pods; the operator has no part in this."""
    kube = Kube(cluster)
    kube.delete("namespace", NAMESPACE)
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    until(lambda: kube.get("serviceaccount", "default", NAMESPACE) is not None, "Pods are admitted")
    yield kube
    kube.delete("namespace", NAMESPACE)


@pytest.fixture
def registries(basic_registry: PrivateRegistry, token_registry: PrivateRegistry) -> dict[str, PrivateRegistry]:
    return {"basic": basic_registry, "token": token_registry}


def secret(kube: Kube, kind: str, content: str) -> None:
    kube.apply({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull", "namespace": NAMESPACE}, "type": kind,
        "stringData": {f".{kind.partition('/')[2]}": content},
    })


def start(kube: Kube, image: str, with_secret: bool) -> list[str]:
    """A Pod on each node. Always: what a node has already says nothing about who may pull it."""
    pods = [f"pull-{node}" for node in kube.cluster.nodes]
    for node, pod in zip(kube.cluster.nodes, pods, strict=True):
        kube.apply({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": NAMESPACE},
            "spec": {
                "nodeName": node, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
                "imagePullSecrets": [{"name": "pull"}] if with_secret else [],
                "containers": [{"name": "c", "image": image, "imagePullPolicy": "Always"}],
            },
        })
    return pods


@pytest.fixture(autouse=True)
def _pods_are_removed(bare: Kube) -> Iterator[None]:
    yield
    bare.cluster.kubectl("-n", NAMESPACE, "delete", "pods,secrets", "--all", "--grace-period=0", "--force")


def runs(kube: Kube, pod: str) -> None:
    until(lambda: "running" in state(kube, pod), f"{pod} runs", 90, lambda: str(state(kube, pod)))


def is_refused(kube: Kube, pod: str, said: str) -> None:
    """Wait until kubelet gives this as the reason why there is no image."""
    def refused() -> bool:
        waiting = state(kube, pod).get("waiting", {})
        return waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff") and said in waiting.get("message", "")

    until(refused, f"{pod} is refused: {said}", 90, lambda: str(state(kube, pod)))


def state(kube: Kube, pod: str) -> dict[str, Any]:
    """The container's: running, or waiting with a reason and a message."""
    statuses = (kube.get("pod", pod, NAMESPACE) or {}).get("status", {}).get("containerStatuses", [{}])
    return dict(statuses[0].get("state", {}))


@pytest.mark.parametrize(
    ("registry", "image", "account", "kind"),
    [
        ("basic", "team-a/tools:1.0", "team-a", DOCKER_CONFIG),
        ("basic", "team-b/data:1.0", "team-b", DOCKERCFG),
        ("token", "public/tools:1.0", None, ""),
        ("token", "team-a/tools:1.0", "team-a", DOCKER_CONFIG),
        ("token", "team-b/data:1.0", "team-b", DOCKERCFG),
    ],
)
def test_nodes_pull(
    bare: Kube, registries: dict[str, PrivateRegistry], registry: str, image: str, account: str | None, kind: str,
) -> None:
    private = registries[registry]
    if account:
        secret(bare, kind, (private.docker_config if kind == DOCKER_CONFIG else private.dockercfg)(account))
    for pod in start(bare, private.reference(image), with_secret=bool(account)):
        runs(bare, pod)


@pytest.mark.parametrize(
    ("registry", "image", "account", "said"),
    [
        ("basic", "team-a/tools:1.0", None, "no basic auth credentials"),
        ("token", "team-a/tools:1.0", None, "insufficient_scope"),
        ("token", "team-a/tools:1.0", "team-b", "insufficient_scope"),
        ("token", "closed/tools:1.0", "team-a", "403 Forbidden"),
    ],
)
def test_nodes_are_refused(
    bare: Kube, registries: dict[str, PrivateRegistry], registry: str, image: str, account: str | None, said: str,
) -> None:
    private = registries[registry]
    if account:
        secret(bare, DOCKER_CONFIG, private.docker_config(account))
    for pod in start(bare, private.reference(image), with_secret=bool(account)):
        is_refused(bare, pod, said)
