# SPDX-License-Identifier: Apache-2.0
"""The owner reference on every child in the cluster that the ImageCache lives in: a child whose creation was still
on its way when the last operator died is then collected by Kubernetes itself."""

from __future__ import annotations

from typing import Any

from imagecache_operator import names
from imagecache_operator.planning.observed import Cache


def reference(cache: Cache) -> dict[str, Any]:
    """No blockOwnerDeletion: it would need rights on the ImageCache's finalizers, and our finalizer waits anyway."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": cache.name,
        "uid": cache.uid,
        "controller": True,
    }
