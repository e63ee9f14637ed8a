# SPDX-License-Identifier: Apache-2.0
"""Caches that are served, and Pods as the API server sends them: for tests of matching, injection, the webhook."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from imagecache_operator import names
from imagecache_operator.planning.observed import Namespace

CREATED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ADDRESS = "localhost:31234"
GIB = 1024**3
TRAIN = "registry.example/ml/train:1.4"
TEAM_A = Namespace("team-a", "uid-of-team-a", {"kubernetes.io/metadata.name": "team-a", "tier": "gold"}, CREATED)


def digest(of: str) -> str:
    return f"sha256:{hashlib.sha256(of.encode()).hexdigest()}"


def image(reference: str, size: int = GIB, **changed: Any) -> dict[str, Any]:
    """An image of a status, complete; its digests follow from its name unless they are given."""
    return {
        "reference": reference, "state": "Pulled", "digest": digest(f"image {reference}"),
        "carrier": digest(f"carrier {reference}"), "size": size, **changed,
    }


def cache(
    name: str, *images: dict[str, Any] | str, age: int = 0, spec: Any = None, status: Any = None, **meta: Any,
) -> dict[str, Any]:
    """An ImageCache as the API server sends it, served unless `status` says otherwise; `age` in days."""
    listed = [image(i) if isinstance(i, str) else i for i in images]
    with_secrets = "imagePullSecrets" in ((spec or {}).get("buildingConfig") or {})
    return {
        "apiVersion": names.API_VERSION, "kind": names.KIND,
        "metadata": {
            "name": name, "uid": f"uid-of-{name}", "resourceVersion": "1",
            "creationTimestamp": (CREATED - timedelta(days=age)).isoformat().replace("+00:00", "Z"), **meta,
        },
        "spec": {"images": [i["reference"] for i in listed] or ["none.example/none:1"], **(spec or {})},
        "status": {
            "phase": "Available", "images": listed,
            "server": {"name": "imc-1-server", "address": ADDRESS, "ready": True},
            "conditions": [served("True")],
            "attempt": {
                "number": 1, "state": "Succeeded", "withSecrets": with_secrets,
                "finishedAt": (CREATED + timedelta(days=1)).isoformat(),
            },
            **(status or {}),
        },
    }


def served(status: str, reason: str = "Serving", message: str = "") -> dict[str, Any]:
    return {
        "type": "Served", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-03-01T12:00:00Z",
    }


def pod(*images: str, asks: str | None = names.AUTO, annotations: Any = None, **spec: Any) -> dict[str, Any]:
    """A Pod on its way into the API server; `asks` is its annotation."""
    own = ({names.ANNOTATION_CACHE: asks} if asks is not None else {}) | (annotations or {})
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"generateName": "train-", "namespace": "team-a", **({"annotations": own} if own else {})},
        "spec": {"containers": [{"name": f"c{n}", "image": i} for n, i in enumerate(images)], **spec},
    }
