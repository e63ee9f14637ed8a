# SPDX-License-Identifier: Apache-2.0
"""The first step of a pass: look at all that matters for one ImageCache. Called by `controller/reconciler.py`."""

from __future__ import annotations

from collections import Counter

from imagecache_operator import names
from imagecache_operator.api.conditions import ConditionReason
from imagecache_operator.cluster import nodes, pull_secrets, reading
from imagecache_operator.cluster.api import Api, ClusterError, Object, Rejected, Unavailable
from imagecache_operator.planning.observed import Cache, Neighbour, Observed, PullSecret

# Enough lines to hold one progress line among the prose that a builder writes in a second.
LOG_LINES = 30
LONGEST_WORDS = 200
HOME_NAMESPACE = "kube-system"


def home_uid(api: Api) -> str:
    """The cluster's identity: the UID of its kube-system namespace, which lives as long as the cluster."""
    found = api.get("Namespace", HOME_NAMESPACE)
    if found is None:
        raise Unavailable(f"namespace {HOME_NAMESPACE} is not there")
    return str(found["metadata"]["uid"])


def observe(
    api: Api, name: str, uid: str, home: str, namespace: str, *, ingresses: bool = False,
) -> Observed | None:
    """The facts of one pass; None where that ImageCache (this name *and* this uid) is gone. `ingresses`: servers are to
    have some; else there may be no right to look at them."""
    all_caches = api.list(names.KIND)
    mine = next((c for c in all_caches if c["metadata"]["name"] == name and c["metadata"]["uid"] == uid), None)
    if mine is None:
        return None
    pods = api.list("Pod", namespace, names.child_selector(home, names.COMPONENT_BUILDER))
    of_cache = names.child_selector(home, cache_uid=uid)
    volumes = api.list("PersistentVolumeClaim", namespace, of_cache)
    secrets = api.list_metadata("Secret", namespace, of_cache)
    builders = tuple(reading.builder(p) for p in pods if _cache_uid(p) == uid)
    running = next((b for b in builders if b.running), None)
    log = _log(api, running.name, namespace) if running else ""
    volume_name = names.volume_name(home, uid)
    volume = next((reading.volume(v) for v in volumes if v["metadata"]["name"] == volume_name), None)
    pending = volume is not None and volume.phase == "Pending"
    cache = reading.cache(mine)
    there = _nodes(api)
    of_server = names.child_selector(home, names.COMPONENT_SERVER, uid)
    # All of the cache's: a server's Pods hold the volume for longer than their Deployment is there.
    own_pods = api.list("Pod", namespace, of_cache)
    return Observed(
        cache=cache,
        home_uid=home,
        volume=volume,
        builders=builders,
        attempt_secrets=tuple(map(reading.attempt_secret, _components(secrets, names.COMPONENT_CREDENTIALS))),
        server=reading.server(
            api.list("Deployment", namespace, of_server), api.list("Service", namespace, of_server),
            _components(own_pods, names.COMPONENT_SERVER), there,
            _ingresses(api, namespace, of_server) if ingresses else (),
        ),
        canaries=tuple(map(reading.canary, _components(own_pods, names.COMPONENT_CANARY))),
        warmer=reading.warmer(
            api.list("DaemonSet", namespace, names.child_selector(home, names.COMPONENT_WARMER, uid)),
        ),
        warmer_secrets=tuple(map(reading.warmer_secret, _components(secrets, names.COMPONENT_WARMER_CREDENTIALS))),
        pull_secrets=_pull_secrets(api, cache),
        storage_classes=tuple(c["metadata"]["name"] for c in api.list("StorageClass")) if pending else (),
        progress=reading.progress(log),
        neighbours=_neighbours(all_caches, pods),
        platforms=tuple(sorted({nodes.platform(node) for node in there})),
        kubelets=nodes.kubelets(there),
        pools=nodes.pools(there),
    )


def _components(found: list[Object], component: str) -> list[Object]:
    return [obj for obj in found if (obj["metadata"].get("labels") or {}).get(names.LABEL_COMPONENT) == component]


def _ingresses(api: Api, namespace: str, selector: str) -> list[Object]:
    """One that may not be looked at is like one that is not there: it is applied, and the refusal told."""
    try:
        return api.list("Ingress", namespace, selector)
    except Rejected:
        return []


def _log(api: Api, pod: str, namespace: str) -> str:
    """The last lines of a builder's log. They come from its node, and without them all else goes on."""
    try:
        return api.read_log(pod, namespace, names.BUILDER_CONTAINER, LOG_LINES)
    except ClusterError:
        return ""


def _pull_secrets(api: Api, cache: Cache) -> tuple[PullSecret, ...]:
    """The Secrets that the spec lists. One that may not be read is like one that is not there: it is told."""
    if cache.deleting or cache.spec is None:
        return ()
    found = []
    for reference in cache.spec.pull_secrets:
        namespace, _, name = reference.partition(":")
        try:
            found.append(pull_secrets.pull_secret(reference, api.get("Secret", name, namespace)))
        except Rejected as refusal:
            words = f"may not be read ({str(refusal)[:LONGEST_WORDS]})"
            found.append(PullSecret(reference, problem=ConditionReason.SECRET_FORBIDDEN, words=words))
        except Unavailable as trouble:
            # It may last (a Secret that the API server cannot decrypt any more), and all else should go on.
            words = f"cannot be read now ({str(trouble)[:LONGEST_WORDS]})"
            found.append(PullSecret(reference, None, problem=ConditionReason.SECRET_UNAVAILABLE, words=words))
    return tuple(found)


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


def _nodes(api: Api) -> list[Object]:
    found = api.list("Node")
    if not found:
        raise Unavailable("the cluster has no nodes yet")
    return found


def _cache_uid(obj: Object) -> str:
    return str((obj["metadata"].get("labels") or {}).get(names.LABEL_CACHE, ""))
