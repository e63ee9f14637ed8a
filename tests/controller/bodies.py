# SPDX-License-Identifier: Apache-2.0
"""Objects as kopf hands them to handlers."""

from __future__ import annotations

from typing import Any

import kopf
from imagecache_operator import names

UID = "uid-1"


def child(phase: str = "Running") -> kopf.Body:
    """A builder Pod of the cache, as kopf hands it over."""
    obj: Any = {"metadata": {"name": "pod", "labels": {names.LABEL_CACHE: UID}}, "status": {"phase": phase}}
    return kopf.Body(obj)


def imagecache(
    annotations: dict[str, str] | None = None, status: dict[str, Any] | None = None, **meta: Any,
) -> kopf.Body:
    """An ImageCache at rest: its status speaks of its generation."""
    obj: Any = {
        "metadata": {"name": "ml", "uid": UID, "generation": 2, "annotations": annotations or {}, **meta},
        "status": {"observedGeneration": 2, **(status or {})},
    }
    return kopf.Body(obj)
