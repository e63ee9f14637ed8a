# SPDX-License-Identifier: Apache-2.0
"""What the operator needs of an API server, and how it can fail: the protocol `Api`.

`client.py` is the real one; the tests have one in memory. Both pass the same conformance suite
(tests/conformance/), so that what is proven on the one holds on the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from imagecache_operator import names

Object = dict[str, Any]
Objects = list[Object]  # within `Api` and its implementations, `list` is their method


@dataclass(frozen=True)
class Resource:
    """Where a kind lives in the API."""

    group_version: str
    plural: str
    namespaced: bool

    def path(self, namespace: str | None = None, name: str | None = None, subresource: str | None = None) -> str:
        """The URL path of the collection, of one object, or of its subresource."""
        root = "/api/v1" if self.group_version == "v1" else f"/apis/{self.group_version}"
        scope = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return root + scope + f"/{self.plural}" + (f"/{name}" if name else "") + (
            f"/{subresource}" if subresource else ""
        )


RESOURCES = {
    names.KIND: Resource(names.API_VERSION, names.PLURAL, namespaced=False),
    "DaemonSet": Resource("apps/v1", "daemonsets", namespaced=True),
    "Deployment": Resource("apps/v1", "deployments", namespaced=True),
    "Event": Resource("v1", "events", namespaced=True),
    "Ingress": Resource("networking.k8s.io/v1", "ingresses", namespaced=True),
    "Namespace": Resource("v1", "namespaces", namespaced=False),
    "Node": Resource("v1", "nodes", namespaced=False),
    "PersistentVolumeClaim": Resource("v1", "persistentvolumeclaims", namespaced=True),
    "Pod": Resource("v1", "pods", namespaced=True),
    "Secret": Resource("v1", "secrets", namespaced=True),
    "Service": Resource("v1", "services", namespaced=True),
    "StorageClass": Resource("storage.k8s.io/v1", "storageclasses", namespaced=False),
    "MutatingWebhookConfiguration": Resource(
        "admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", namespaced=False,
    ),
}


class ClusterError(Exception):
    """What can go wrong between us and the API server. The text is fit for a status message."""


class Unavailable(ClusterError):
    """Trouble that passes: 5xx, 429, a time-out, no connection. `retry_after` in seconds where the server said."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Rejected(ClusterError):
    """The server understood and refused (403, 422 …): permissions, quota, policy, or a wrong manifest."""


class Conflict(ClusterError):
    """The object has changed or gone since it was read: look again."""


class Api(Protocol):
    """Objects go in and come out as JSON data. Every call may raise a ClusterError, and no other exception."""

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """The object, or None where there is none."""

    def list(self, kind: str, namespace: str | None = None, selector: str | None = None) -> Objects:
        """All objects of a kind that the label selector finds."""

    def list_metadata(self, kind: str, namespace: str | None = None, selector: str | None = None) -> Objects:
        """The same with nothing but each object's metadata: of Secrets, what is in them stays where it is."""

    def list_named_metadata(self, kind: str, name: str) -> Objects:
        """The same of all objects of that name, in whatever namespace. A right for that name alone is enough."""

    def create(self, manifest: Object) -> bool:
        """POST. False where an object of that name is there already: it is left as it is."""

    def apply(self, manifest: Object) -> None:
        """Server-side apply as our field manager, taking over fields that others hold."""

    def apply_status(self, manifest: Object) -> None:
        """Server-side apply of the status alone. With resourceVersion and uid in metadata, it raises Conflict where
        the object is another one or has changed since."""

    def delete(self, kind: str, name: str, namespace: str | None = None, uid: str | None = None) -> None:
        """Ask for the object's deletion. Nothing happens where it is gone, or where its uid is another."""

    def read_log(self, pod: str, namespace: str, container: str, lines: int) -> str:
        """The last lines of a container's log; empty where there is none (yet, or any more)."""
