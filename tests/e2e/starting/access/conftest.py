# SPDX-License-Identifier: Apache-2.0
"""Two namespaces and two private caches: one that is ours by our pull Secret, one that is theirs by name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support import cold_node, pods
from tests.support.kube import Cache, Kube, Object
from tests.support.private_registry import PrivateRegistry
from tests.support.registry_container import PORT
from tests.support.upstream import Upstream

from .private import CACHE, IMAGE, OTHER, OTHERS_IMAGE, OURS, THEIRS, make_namespace


@pytest.fixture(scope="package")
def registry(kube: Kube, basic_registry: PrivateRegistry, upstream: Upstream) -> PrivateRegistry:
    """It gives the image to whoever logs in. The nodes trust its certificate."""
    for host in (basic_registry.host, upstream.host):
        kube.cluster.trust_registry(f"{host}:{PORT}", upstream.ca_pem.decode())
    return basic_registry


@pytest.fixture(scope="package")
def spaces(kube: Kube, registry: PrivateRegistry) -> Iterator[None]:
    """Our namespace, which has a pull Secret for the image, and theirs, which has none."""
    for space in (OURS, THEIRS):
        make_namespace(kube, space)
    kube.apply({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": "regcred", "namespace": OURS},
        "stringData": {".dockerconfigjson": registry.docker_config("team-a")},
    })
    yield
    for space in (OURS, THEIRS):
        kube.cluster.kubectl("delete", "namespace", space, "--wait=false")


@pytest.fixture(scope="package")
def private(kube: Kube, registry: PrivateRegistry, spaces: None) -> Iterator[Cache]:
    """Built with our Secret, so that it is for us."""
    spec = {"buildingConfig": {"imagePullSecrets": [f"{OURS}:regcred"]}}
    with Cache(kube, CACHE).served([registry.reference(IMAGE)], spec) as found:
        yield found


@pytest.fixture(scope="package")
def other(kube: Kube, upstream: Upstream, spaces: None) -> Iterator[Cache]:
    """Of a public image, but for them alone."""
    spec = {"allowedNamespaces": {"names": [THEIRS]}}
    with Cache(kube, OTHER).served([upstream.reference(OTHERS_IMAGE)], spec) as found:
        yield found


@pytest.fixture
def image(kube: Kube, registry: PrivateRegistry, upstream: Upstream, private: Cache) -> str:
    """The private image, of which the node has nothing."""
    layers = [upstream.images[OTHERS_IMAGE].own.diff_ids]  # it is the same image there
    cold_node.forget(kube.cluster, kube.cluster.nodes[0], cold_node.FROM_TESTS, layers)
    return registry.reference(IMAGE)


@pytest.fixture
def make(kube: Kube) -> Iterator[Callable[..., Object]]:
    """Makes a Pod on the node that is cold, with an image mounted if one is named; it goes after the test."""
    made: list[Object] = []

    def begin(
        image: str, namespace: str, *, cache: str = "", metadata: Object | None = None, mounts: str = "", **spec: Any,
    ) -> Object:
        manifest = pods.pod(f"pod-{len(made)}", image, node=kube.cluster.nodes[0], cache=cache, namespace=namespace)
        for field, words in (metadata or {}).items():
            manifest["metadata"].setdefault(field, {}).update(words)
        manifest["spec"] |= spec
        if mounts:
            manifest["spec"]["volumes"] = [{"name": "v", "image": {"reference": mounts, "pullPolicy": "IfNotPresent"}}]
            manifest["spec"]["containers"][0]["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]
        made.append(manifest)
        kube.cluster.kubectl("create", "-f", "-", input=json.dumps(manifest))
        return manifest

    yield begin
    for manifest in made:
        pods.remove(kube, manifest)
