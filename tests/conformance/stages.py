# SPDX-License-Identifier: Apache-2.0
"""Where the conformance suite plays: on the in-memory Api, and on a real API server.

The custom resource of the suite is a double of ImageCache under another name, made from the same models, so that an
operator that runs in the same cluster has no part in it.
"""

from __future__ import annotations

import copy
import json
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from imagecache_operator.api.crd import custom_resource_definition
from imagecache_operator.cluster.api import RESOURCES, Api, Object, Resource
from imagecache_operator.cluster.api import ClusterError as ApiError
from imagecache_operator.cluster.client import Client
from kubernetes import client, config

from tests.cluster import Cluster, ClusterError
from tests.support.kube import until
from tests.support.memory_api import MemoryApi

DOUBLE = "CacheDouble"
GROUP = "conformance.imagecache.dev"
PLURAL = "cachedoubles"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def double_definition() -> Object:
    """The CRD of ImageCache with other names."""
    crd: Any = copy.deepcopy(custom_resource_definition())
    crd["metadata"]["name"] = f"{PLURAL}.{GROUP}"
    crd["spec"]["group"] = GROUP
    crd["spec"]["names"] = {
        "kind": DOUBLE, "listKind": f"{DOUBLE}List", "plural": PLURAL, "singular": DOUBLE.lower(),
    }
    return dict(crd)


def double_resource() -> Resource:
    return Resource(f"{GROUP}/v1alpha1", PLURAL, namespaced=False)


class Stage(Protocol):
    """An Api, a namespace to play in, and somebody else who changes things."""

    api: Api
    namespace: str

    def edit(self, kind: str, name: str, change: Callable[[Object], object]) -> None:
        """Another client's change of an object."""

    def gone(self, kind: str, name: str) -> None:
        """Returns when the object is gone, which Kubernetes' own controllers may take a moment for."""


class MemoryStage:
    def __init__(self) -> None:
        self.namespace = "play"
        self.memory = MemoryApi()
        self.api: Api = self.memory
        self.memory.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        self.memory.refuse = _pod_security

    def edit(self, kind: str, name: str, change: Callable[[Object], object]) -> None:
        self.memory.edit(kind, name, change, self.namespace)

    def gone(self, kind: str, name: str) -> None:
        assert self.api.get(kind, name, self.namespace) is None


def _pod_security(verb: str, manifest: Object) -> str | None:
    if verb == "create" and manifest["kind"] == "Pod" and manifest["spec"].get("hostNetwork"):
        return 'violates PodSecurity "restricted:latest": host namespaces'
    return None


class RealStage:
    """`close` removes all that was made, whatever a test left."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.namespace = f"conformance-{uuid.uuid4().hex[:8]}"
        configuration = client.Configuration()
        config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
        self.api: Api = Client(configuration)
        self._apply({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": RESTRICTED},
        })
        self._apply(double_definition())
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{PLURAL}.{GROUP}", "--timeout=60s")
        until(lambda: _answers(self.api), "the API server serves the new kind")

    def edit(self, kind: str, name: str, change: Callable[[Object], object]) -> None:
        def written() -> bool:
            found = self.api.get(kind, name, self.namespace)
            if found is None:
                raise AssertionError(f"{kind} {name} is not there")
            change(found)
            try:
                self._cluster.kubectl("replace", "-f", "-", input=json.dumps(found))
            except ClusterError:  # somebody else was faster: Kubernetes' controllers write too
                return False
            return True

        until(written, f"{kind} {name} is changed")

    def gone(self, kind: str, name: str) -> None:
        until(lambda: self.api.get(kind, name, self.namespace) is None, f"{kind} {name} is gone")

    def close(self) -> None:
        for kind in ("pvc", "pods"):
            names = self._cluster.kubectl("-n", self.namespace, "get", kind, "-o", "name").split()
            for name in names:  # what a failed test left with a finalizer would hold the namespace for ever
                self._cluster.kubectl(
                    "-n", self.namespace, "patch", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}',
                    check=False,
                )
        self._cluster.kubectl("delete", "crd", f"{PLURAL}.{GROUP}", "--ignore-not-found", "--timeout=60s")
        self._cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def _apply(self, manifest: Object) -> None:
        self._cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))


def _answers(api: Api) -> bool:
    try:
        return api.list(DOUBLE) == []
    except ApiError:  # whatever it says until it knows the kind
        return False


def define_double() -> None:
    """The Api finds the double like any other kind."""
    RESOURCES[DOUBLE] = double_resource()
