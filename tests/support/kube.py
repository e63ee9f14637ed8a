# SPDX-License-Identifier: Apache-2.0
"""What end-to-end tests and the demo do with a cluster, in their own words: they write through kubectl, as users do,
and read without it, for whoever waits reads three times a second.

Everything waits with a bound, and a wait that runs out says what was there instead.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from imagecache_operator import names
from imagecache_operator.cluster.client import Client
from kubernetes.client import Configuration
from kubernetes.config import load_kube_config

from tests.cluster import Cluster

NAMESPACE = names.NAMESPACE
OPERATOR = "app.kubernetes.io/name=imagecache-operator"
CHILDREN = ("pods", "pvc", "secrets", "deployments", "services", "daemonsets")
Object = dict[str, Any]
# As kubectl names them. Others are read through it.
_KINDS = {
    "pod": "Pod", "pods": "Pod", "secret": "Secret", "secrets": "Secret", "service": "Service", "services": "Service",
    "imagecache": names.KIND, "imagecaches": names.KIND, "node": "Node", "namespace": "Namespace",
    "pvc": "PersistentVolumeClaim", "deployment": "Deployment", "deployments": "Deployment",
    "daemonsets": "DaemonSet", "ingress": "Ingress", "ingresses": "Ingress", "events": "Event",
}


@dataclass(frozen=True)
class Kube:
    """A cluster's objects as JSON data."""

    cluster: Cluster

    def apply(self, manifest: Mapping[str, Any]) -> None:
        self.cluster.kubectl("apply", "-f", "-", input=json.dumps(manifest))

    def get(self, kind: str, name: str, namespace: str = NAMESPACE) -> Object | None:
        if kind in _KINDS:
            return self._api.get(_KINDS[kind], name, namespace)
        text = self.cluster.kubectl("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found")
        return json.loads(text) if text.strip() else None

    def list(self, kind: str, selector: str = "", namespace: str = NAMESPACE) -> list[Object]:
        if kind in _KINDS:
            return [{"kind": _KINDS[kind], **obj} for obj in self._api.list(_KINDS[kind], namespace, selector or None)]
        found = json.loads(self.cluster.kubectl("-n", namespace, "get", kind, "-l", selector, "-o", "json"))
        return list(found["items"])

    @property
    def _api(self) -> Client:
        kubeconfig = self.cluster.kubeconfig
        return _client(str(kubeconfig), kubeconfig.stat().st_mtime)

    def delete(self, kind: str, name: str, namespace: str = NAMESPACE, *options: str) -> None:
        self.cluster.kubectl("-n", namespace, "delete", kind, name, "--ignore-not-found", *options)

    def kill_operator(self) -> str:
        """Ends the operator's Pod with no time to say goodbye. Returns its name; the Deployment makes another."""
        pod = str(self.list("pods", OPERATOR)[0]["metadata"]["name"])
        self.delete("pod", pod, NAMESPACE, "--grace-period=0", "--force")
        return pod

    def operator_is_back(self, after: str) -> None:
        """Wait until another Pod than `after` is the operator, and runs."""
        def another() -> bool:
            pods = [p for p in self.list("pods", OPERATOR) if "deletionTimestamp" not in p["metadata"]]
            return any(p["metadata"]["name"] != after and p["status"]["phase"] == "Running" for p in pods)

        until(another, "another operator Pod runs", seconds=90)


@functools.lru_cache
def _client(kubeconfig: str, written: float) -> Client:
    """With the rights of an administrator. A cluster that is made anew has another certificate, `written` later."""
    return Client(configuration(kubeconfig))


def configuration(kubeconfig: str) -> Configuration:
    """A new one, with the rights of an administrator."""
    found = Configuration()
    load_kube_config(kubeconfig, client_configuration=found)
    return found


@dataclass(frozen=True)
class Cache:
    """One ImageCache in the cluster."""

    kube: Kube
    name: str

    def apply(self, images: Iterable[str], spec: Mapping[str, Any] | None = None) -> None:
        self.kube.apply({
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": self.name},
            "spec": {"images": list(images), **(spec or {})},
        })

    def delete(self, *options: str) -> None:
        self.kube.delete("imagecache", self.name, "default", "--timeout=120s", *options)

    def edit(self, **fields: object) -> None:
        """Other values of fields of the spec; None takes one away."""
        patch = json.dumps({"spec": fields})
        self.kube.cluster.kubectl("patch", "imagecache", self.name, "--type=merge", "-p", patch)

    def annotate(self, text: str) -> None:
        self.kube.cluster.kubectl("annotate", "imagecache", self.name, text, "--overwrite")

    @property
    def object(self) -> Object | None:
        return self.kube.get("imagecache", self.name, "default")

    @property
    def status(self) -> Object:
        return (self.object or {}).get("status") or {}

    @property
    def uid(self) -> str:
        found = self.object
        if found is None:
            raise AssertionError(f"ImageCache {self.name} is not there")
        return str(found["metadata"]["uid"])

    @contextmanager
    def served(self, images: Iterable[str], spec: Mapping[str, Any] | None = None) -> Iterator[Cache]:
        """Applied, complete and served, for as long as the block; then it goes, whatever happened."""
        self.apply(images, spec)
        try:
            self.wait_for("Available")
            self.wait_until_served()
            yield self
        finally:
            self.delete()

    def children(self, uid: str | None = None) -> list[Object]:
        """All that carries this cache's UID. Give the UID where the cache may be gone."""
        selector = f"{names.LABEL_CACHE}={uid or self.uid}"
        return [child for kind in CHILDREN for child in self.kube.list(kind, selector)]

    def builders(self) -> list[Object]:
        return self.kube.list("pods", f"{names.LABEL_CACHE}={self.uid},{names.LABEL_COMPONENT}=builder")

    def volume(self) -> Object:
        return self.kube.list("pvc", f"{names.LABEL_CACHE}={self.uid}")[0]

    def condition(self, kind: str) -> Object:
        return next((c for c in self.status.get("conditions", []) if c["type"] == kind), {})

    def wait_for(self, phase: str, seconds: float = 180) -> Object:
        """The status, once that phase is reached."""
        def reached() -> bool:
            return self.status.get("phase") == phase

        until(reached, f"ImageCache {self.name} is {phase}", seconds, lambda: json.dumps(self.status, indent=1))
        return self.status

    def wait_until_served(self, seconds: float = 90) -> Object:
        """The server as status names it, once it answers."""
        def told() -> bool:
            return self.condition("Served").get("status") == "True" and bool(self.status["server"]["ready"])

        until(told, f"ImageCache {self.name} is served", seconds, lambda: json.dumps(self.status, indent=1))
        return dict(self.status["server"])


def until(
    holds: Callable[[], bool], what: str, seconds: float = 60, instead: Callable[[], str] = lambda: "",
) -> None:
    """Wait until something holds. Raises AssertionError that says what did not, and what was there instead."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}. {instead()}")
        time.sleep(0.3)
