# SPDX-License-Identifier: Apache-2.0
"""The objects that the suite makes, and short words for making and reading them."""

from __future__ import annotations

from typing import Any

from imagecache_operator.cluster.api import Api, Object

from .stages import DOUBLE, GROUP, Stage

HOLD = "conformance.imagecache.dev/hold"  # a finalizer that nobody takes away by himself


def claim(stage: Stage, name: str, **metadata: Any) -> Object:
    """A claim that nobody binds: no such class."""
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": stage.namespace, **metadata},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}},
            "storageClassName": "no-such-class",
        },
    }


def pod(stage: Stage, name: str, **spec: Any) -> Object:
    """A Pod that no node takes."""
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": stage.namespace},
        "spec": {
            "nodeSelector": {"conformance.imagecache.dev/node": "none"}, "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True, "runAsUser": 65534, "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [{
                "name": "c", "image": "none",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }],
            **spec,
        },
    }


def secret(stage: Stage, name: str, **metadata: Any) -> Object:
    """A Secret as the operator makes them."""
    return {
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": stage.namespace, **metadata},
        "type": "conformance.imagecache.dev/credentials", "immutable": True, "data": {"credentials.json": "e30="},
    }


def double(name: str, **spec: Any) -> Object:
    return {
        "apiVersion": f"{GROUP}/v1alpha1", "kind": DOUBLE, "metadata": {"name": name},
        "spec": {"images": ["busybox"], **spec},
    }


def of(found: Object | None) -> Any:
    if found is None:
        raise AssertionError("the object is not there")
    return found


def made(api: Api, manifest: Object) -> Any:
    """Create it, and read it back."""
    assert api.create(manifest)
    return of(api.get(manifest["kind"], manifest["metadata"]["name"], manifest["metadata"].get("namespace")))
