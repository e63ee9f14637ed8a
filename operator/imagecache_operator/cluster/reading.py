# SPDX-License-Identifier: Apache-2.0
"""From the API server's JSON to the frozen facts of `planning/observed.py`. Pure; used by `observe.py`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from imagecache_operator import names
from imagecache_operator.api.imagecache import Spec, Status
from imagecache_operator.api.report import Outcome, Progress
from imagecache_operator.cluster.nodes import not_ready
from imagecache_operator.planning.observed import (
    AttemptSecret,
    Builder,
    Cache,
    Canary,
    Namespace,
    Server,
    ServerPart,
    Volume,
    Warmer,
    WarmerSecret,
)
from imagecache_operator.planning.usage import MarkedPod

Object = dict[str, Any]


def cache(obj: Object) -> Cache:
    """An ImageCache. A spec that breaks the rules (older than they are) gives `spec_error`, never an exception."""
    meta = obj["metadata"]
    spec, error = None, ""
    try:
        spec = Spec.model_validate(obj.get("spec") or {})
    except ValidationError as invalid:
        error = _spec_error(invalid)
    return Cache(
        name=meta["name"],
        uid=meta["uid"],
        generation=int(meta.get("generation", 1)),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        deleting=_deleting(obj),
        spec=spec,
        spec_error=error,
        status=status(obj),
        retry=(meta.get("annotations") or {}).get(names.ANNOTATION_RETRY),
        resource_version=meta.get("resourceVersion", ""),
    )


def _spec_error(invalid: ValidationError) -> str:
    """The first mistake: which field, and what is wrong with it."""
    first = invalid.errors()[0]
    words = first["msg"]
    if first["type"] == "string_pattern_mismatch" and first["loc"][0] == "images":
        # The pattern is 458 characters that help nobody.
        words = "this is no image reference; write it as for a Pod: [host[:port]/]path[:tag][@sha256:digest]"
    return f"{'.'.join(('spec', *map(str, first['loc'])))}: {words}"


def status(obj: Object) -> Status:
    """The status; an empty one where somebody else wrote what no version of ours did."""
    try:
        return Status.model_validate(obj.get("status") or {})
    except ValidationError:
        return Status()


def volume(obj: Object) -> Volume:
    """A PersistentVolumeClaim."""
    meta = obj["metadata"]
    return Volume(
        name=meta["name"],
        uid=meta["uid"],
        phase=(obj.get("status") or {}).get("phase") or "Pending",
        requested=obj["spec"]["resources"]["requests"]["storage"],
        storage_class=obj["spec"].get("storageClassName"),
        deleting=_deleting(obj),
    )


def builder(obj: Object) -> Builder:
    """A builder Pod."""
    meta, pod = obj["metadata"], obj.get("status") or {}
    state = _state(pod, names.BUILDER_CONTAINER)
    ended = state.get("terminated")
    # A Pod that was evicted, or whose node is lost, is Failed without its container ever being seen to end.
    over = ended is not None or pod.get("phase") in ("Failed", "Succeeded")
    return Builder(
        name=meta["name"],
        attempt=_attempt(meta),
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        terminated=over,
        running="running" in state,
        deleting=_deleting(obj),
        outcome=_outcome(ended),
        ended_because=_ended_because(pod, ended or {}) if over else "",
        waiting_for=_waiting_for(pod, state.get("waiting") or {}),
    )


def server(
    deployments: list[Object], services: list[Object], pods: list[Object], nodes: list[Object],
    ingresses: Sequence[Object] = (),
) -> Server:
    """What serves a cache: at most one Deployment, one Service and one Ingress, and any number of Pods, old ones among
    them. `nodes` are the cluster's."""
    parts = [_server_part(kind, obj) for kind, found in (
        ("Deployment", deployments), ("Ingress", ingresses), ("Service", services), ("Pod", pods),
    ) for obj in found]
    deployment, service = (next((o for o in found if not _deleting(o)), None) for found in (deployments, services))
    ports: list[Object] = service["spec"].get("ports") or [] if service else []
    return Server(
        parts=tuple(parts),
        node_port=next((int(p["nodePort"]) for p in ports if p.get("nodePort")), None),
        behind_ingress=any(service["spec"].get("type") == "ClusterIP" for service in services),
        ready=bool(deployment and service and _is_ready(deployment)),
        waiting_for=_server_waits_for(deployment, pods, nodes),
    )


def _server_part(kind: str, obj: Object) -> ServerPart:
    meta = obj["metadata"]
    return ServerPart(kind, meta["name"], "" if kind == "Pod" else _version(meta), _deleting(obj))


def _is_ready(deployment: Object) -> bool:
    return _is_current(deployment) and ((deployment.get("status") or {}).get("readyReplicas") or 0) >= 1


def _server_waits_for(deployment: Object | None, pods: list[Object], nodes: list[Object]) -> str:
    trouble = {node["metadata"]["name"]: not_ready(node) for node in nodes}
    for pod in pods:
        status = pod.get("status") or {}
        words = _waiting_for(status, _state(status, names.COMPONENT_SERVER).get("waiting") or {})
        words = words or trouble.get((pod.get("spec") or {}).get("nodeName") or "", "")
        if words and not _deleting(pod):
            return words
    conditions = ((deployment or {}).get("status") or {}).get("conditions") or []
    # Why no Pod could be made at all: quota, a policy.
    return next((str(c.get("message") or "") for c in conditions if c.get("type") == "ReplicaFailure"), "")


def canary(obj: Object) -> Canary:
    """A Pod that tries a server."""
    meta, status = obj["metadata"], obj.get("status") or {}
    said = meta.get("annotations") or {}
    state = _state(status, names.COMPONENT_CANARY)
    over = status.get("phase") in ("Failed", "Succeeded")
    passed = status.get("phase") == "Succeeded"
    waiting_for = _waiting_for(status, state.get("waiting") or {})
    return Canary(
        name=meta["name"],
        address=said.get(names.ANNOTATION_CANARY_ADDRESS, ""),
        pool=said.get(names.ANNOTATION_CANARY_POOL, ""),
        node=(obj.get("spec") or {}).get("nodeName") or "",
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        deleting=_deleting(obj),
        over=over,
        passed=passed,
        waiting_for=waiting_for or (_ended_because(status, state.get("terminated") or {}) if over else ""),
    )


def warmer(daemon_sets: list[Object]) -> Warmer | None:
    """What keeps a cache's images on nodes: at most one DaemonSet."""
    if not daemon_sets:
        return None
    meta, status = daemon_sets[0]["metadata"], daemon_sets[0].get("status") or {}
    # A Pod that is ready may still be one of an earlier template.
    warm = min(status.get("numberReady") or 0, status.get("updatedNumberScheduled") or 0)
    return Warmer(
        name=meta["name"],
        version=_version(meta),
        deleting=_deleting(daemon_sets[0]),
        warm=warm if _is_current(daemon_sets[0]) else 0,
        wanted=status.get("desiredNumberScheduled", 0) if status.get("observedGeneration") else None,
    )


def _is_current(obj: Object) -> bool:
    """Whether its status speaks of its spec: what it says of an earlier one is said of Pods that are about to go."""
    observed = (obj.get("status") or {}).get("observedGeneration") or 0
    return bool(observed >= obj["metadata"].get("generation", 1))


def _version(meta: Object) -> str:
    """Of what it was made, where it is applied: see `planning/children/applied.py`."""
    return str((meta.get("annotations") or {}).get(names.ANNOTATION_MANIFEST, ""))


def _deleting(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def attempt_secret(obj: Object) -> AttemptSecret:
    """An attempt's Secret, from its metadata."""
    return AttemptSecret(obj["metadata"]["name"], _attempt(obj["metadata"]))


def warmer_secret(obj: Object) -> WarmerSecret:
    """Credentials of a warmer, from their metadata."""
    return WarmerSecret(obj["metadata"]["name"], _version(obj["metadata"]))


def _attempt(meta: Object) -> int:
    label = (meta.get("labels") or {}).get(names.LABEL_ATTEMPT, "")
    # Attempts count from 1. A Pod whose label somebody has changed belongs to none of them; every cache's pass reads
    # every builder Pod, so it must not raise.
    return int(label) if label.isdecimal() else 0


def _state(pod: Object, container: str) -> Object:
    """The state of that container: the Pod may have others, which somebody else has put there."""
    found: Object = next((c for c in pod.get("containerStatuses") or [] if c.get("name") == container), {})
    return found.get("state") or {}


def _outcome(ended: Object | None) -> Outcome | None:
    try:
        outcome = Outcome.from_termination_message((ended or {}).get("message") or "")
    except ValueError:
        return None
    return outcome if outcome.images or outcome.reason else None


def _ended_because(pod: Object, ended: Object) -> str:
    said = pod.get("reason") or ended.get("reason") or pod.get("phase") or ""
    words = pod.get("message") or (f"exit code {ended['exitCode']}" if "exitCode" in ended else "")
    return f"{said} ({words})" if words else str(said)


def _waiting_for(pod: Object, waiting: Object) -> str:
    if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
        words = waiting.get("message")
        return f"{waiting['reason']}" + (f" ({words})" if words else "")
    for condition in pod.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return condition.get("message") or condition.get("reason") or ""
    return ""


def progress(log: str) -> Progress | None:
    """The newest progress line of a builder's log; None where there is none, or it cannot be read."""
    for line in reversed(log.splitlines()):
        if '"progress"' not in line:
            continue
        try:
            return Progress.model_validate_json(line)
        except ValidationError:
            continue
    return None


def namespace(obj: Object) -> Namespace:
    """From the metadata of a namespace."""
    meta = obj["metadata"]
    created = meta.get("creationTimestamp")
    return Namespace(
        meta["name"], meta["uid"], meta.get("labels") or {}, datetime.fromisoformat(created) if created else None,
    )


def marked_pod(obj: Object) -> MarkedPod:
    """From the metadata of a Pod that the webhook has marked."""
    meta = obj["metadata"]
    return MarkedPod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta["uid"],
        created=datetime.fromisoformat(meta["creationTimestamp"]),
        cache_uid=(meta.get("labels") or {}).get(names.LABEL_INJECTED_FROM, ""),
        reason=(meta.get("annotations") or {}).get(names.ANNOTATION_NOT_INJECTED, ""),
    )
