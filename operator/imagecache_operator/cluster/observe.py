# SPDX-License-Identifier: Apache-2.0
"""The first step of a pass: look at all that matters for one ImageCache. Called by `controller/reconciler.py`."""

from __future__ import annotations

from collections import Counter

from imagecache_operator import names
from imagecache_operator.cluster import reading
from imagecache_operator.cluster.api import Api, Object, Unavailable
from imagecache_operator.planning.observed import Neighbour, Observed

# Enough lines to hold one progress line among the prose that a builder writes in a second.
LOG_LINES = 30
HOME_NAMESPACE = "kube-system"


def home_uid(api: Api) -> str:
    """The cluster's identity: the UID of its kube-system namespace, which lives as long as the cluster."""
    found = api.get("Namespace", HOME_NAMESPACE)
    if found is None:
        raise Unavailable(f"namespace {HOME_NAMESPACE} is not there")
    return str(found["metadata"]["uid"])


def observe(api: Api, name: str, uid: str, home: str, namespace: str) -> Observed | None:
    """The facts of one pass; None where that ImageCache (this name *and* this uid) is gone."""
    all_caches = api.list(names.KIND)
    mine = next((c for c in all_caches if c["metadata"]["name"] == name and c["metadata"]["uid"] == uid), None)
    if mine is None:
        return None
    pods = api.list(
        "Pod", namespace, f"{names.managed_selector(home)},{names.LABEL_COMPONENT}={names.COMPONENT_BUILDER}",
    )
    volumes = api.list(
        "PersistentVolumeClaim", namespace, f"{names.managed_selector(home)},{names.LABEL_CACHE}={uid}",
    )
    builders = tuple(reading.builder(p) for p in pods if _cache_uid(p) == uid)
    running = next((b for b in builders if b.running), None)
    log = api.read_log(running.name, namespace, names.BUILDER_CONTAINER, LOG_LINES) if running else ""
    volume_name = names.volume_name(home, uid)
    return Observed(
        cache=reading.cache(mine),
        home_uid=home,
        volume=next((reading.volume(v) for v in volumes if v["metadata"]["name"] == volume_name), None),
        builders=builders,
        progress=reading.progress(log),
        neighbours=_neighbours(all_caches, pods),
        platforms=_platforms(api),
    )


def _neighbours(caches: list[Object], pods: list[Object]) -> tuple[Neighbour, ...]:
    unfinished = Counter(_cache_uid(p) for p in pods if not reading.builder(p).terminated)
    found = []
    for obj in caches:
        cache = reading.cache(obj)
        found.append(Neighbour(
            name=cache.name, created=cache.created, deleting=cache.deleting, phase=cache.status.phase,
            attempt=cache.status.attempt, has_builder=unfinished[cache.uid] > 0,
        ))
    return tuple(found)


def _platforms(api: Api) -> tuple[str, ...]:
    found = sorted({reading.platform(n) for n in api.list("Node")})
    if not found:
        raise Unavailable("the cluster has no nodes yet")
    return tuple(found)


def _cache_uid(obj: Object) -> str:
    return str((obj["metadata"].get("labels") or {}).get(names.LABEL_CACHE, ""))
