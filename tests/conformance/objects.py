# SPDX-License-Identifier: Apache-2.0
"""The objects that the suite makes, and short words for making and reading them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from imagecache_operator.api.imagecache import Status
from imagecache_operator.cluster.api import Api, Object
from imagecache_operator.planning.children import server as server_manifests
from imagecache_operator.planning.observed import Cache
from imagecache_operator.settings import Settings

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


def server(stage: Stage, uid: str, image: str = "none") -> tuple[Object, Object]:
    """The Service and the Deployment of a cache's server, as the operator applies them. Its Pod has no volume."""
    cache = Cache(
        name="ml", uid=uid, generation=1, created=datetime(2026, 3, 1, tzinfo=UTC), deleting=False, spec=None,
        spec_error="", status=Status(),
    )
    settings = Settings(builder_image="none", server_image=image, namespace=stage.namespace)
    service, deployment = server_manifests.manifests(cache, "home", settings)
    for manifest in (service, deployment):
        del manifest["metadata"]["ownerReferences"]  # nobody's: Kubernetes would collect them
    return service, deployment


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
