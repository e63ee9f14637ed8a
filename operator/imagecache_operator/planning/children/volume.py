# SPDX-License-Identifier: Apache-2.0
"""The cache's volume: a PersistentVolumeClaim in the operator's namespace, applied by server-side apply."""

from __future__ import annotations

from typing import Any

from imagecache_operator import names
from imagecache_operator.planning.children import owner
from imagecache_operator.planning.observed import Cache


def requested_size(size_gib: int) -> str:
    """The size as it stands in the claim: exactly what was asked for."""
    return f"{size_gib}Gi"


def manifest(cache: Cache, size_gib: int, storage_class: str | None, home_uid: str, namespace: str) -> dict[str, Any]:
    """The claim."""
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": requested_size(size_gib)}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": names.volume_name(home_uid, cache.uid),
            "namespace": namespace,
            "labels": names.child_labels(names.COMPONENT_VOLUME, home_uid, cache.uid),
            "annotations": {names.ANNOTATION_CACHE_NAME: cache.name},
            "ownerReferences": [owner.reference(cache)],
        },
        "spec": spec,
    }
