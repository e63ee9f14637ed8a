# SPDX-License-Identifier: Apache-2.0
"""Kubernetes events as the API server takes them, whatever they are about. Called by `reconciler.py`, which tells of
ImageCaches, and by `pods.py`, which tells of Pods."""

from __future__ import annotations

from datetime import datetime

from imagecache_operator import names
from imagecache_operator.cluster.api import Object
from imagecache_operator.planning.decision import Event

LONGEST_MESSAGE = 1024  # the API server refuses more


def manifest(event: Event, name: str, namespace: str, about: Object, now: datetime) -> Object:
    """The event, told once at `now`. `about` is the object that it is about, as an event names it."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": about,
        "type": event.type,
        "reason": event.reason,
        "message": event.message[:LONGEST_MESSAGE],
        "source": {"component": names.PROGRAM},
        "reportingComponent": names.PROGRAM,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
