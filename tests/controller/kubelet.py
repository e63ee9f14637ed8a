# SPDX-License-Identifier: Apache-2.0
"""The rest of a cluster, played: a scheduler and a kubelet that take Pods through their lives, step by step.

`script` says how the builder of an attempt ends: with an Outcome, or LOST (its Pod fails and nothing is said). Canaries
end well, unless `takes_canaries` is False: then they run for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from imagecache_operator import names
from imagecache_operator.api.report import ImageOutcome, ImageProgress, ImageState, Outcome, Progress
from imagecache_operator.cluster.api import Object

from tests.support.memory_api import MemoryApi

from .daemon_sets import DaemonSets
from .deployments import Deployments

LOST = None
DIGEST = "sha256:" + "d" * 64
Script = Callable[[str, int], Outcome | None]  # name of the cache, number of the attempt


def pulled(images: int = 2) -> Outcome:
    return Outcome(images=tuple(ImageOutcome(digest=DIGEST, size=1024) for _ in range(images)), used=2048)


def always_good(cache: str, attempt: int) -> Outcome | None:
    return pulled()


class Kubelet:
    """One `step` moves every Pod by one stage. `most_alive` is the most builders that ever lived at once."""

    def __init__(self, api: MemoryApi, script: Script = always_good) -> None:
        self._api = api
        self._script = script
        self.deployments = Deployments(api)
        self._daemon_sets = DaemonSets(api)
        self.most_alive = 0
        self.takes_canaries = True

    def step(self, only: str | None = None) -> None:
        pods = self._api.list("Pod", names.NAMESPACE)
        self.most_alive = max(self.most_alive, sum(_is(p, names.COMPONENT_BUILDER) and not _is_over(p) for p in pods))
        for pod in pods:
            if only is None or pod["metadata"]["name"] == only:
                self._move(pod)
        if only is None:
            self.deployments.step()
            self._daemon_sets.step()

    def _move(self, pod: Object) -> None:
        name, stage = pod["metadata"]["name"], _stage(pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._api.remove("Pod", name, names.NAMESPACE)
        elif stage == "pending":
            claim = pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
            found = self._api.get("PersistentVolumeClaim", claim, names.NAMESPACE)
            if found is None or found["metadata"].get("deletionTimestamp"):
                return  # unschedulable
            self._api.edit("PersistentVolumeClaim", claim, _bind, names.NAMESPACE)
            self._api.edit("Pod", name, _schedule, names.NAMESPACE)
        elif stage == "scheduled":
            self._api.logs[name] = "pulling\n" + _progress_line() + "\n"
            self._api.edit("Pod", name, lambda p: _state(p, "Running", {"running": {}}), names.NAMESPACE)
        elif stage == "running" and _is(pod, names.COMPONENT_BUILDER):
            self._end(pod)
        elif stage == "running" and _is(pod, names.COMPONENT_CANARY) and self.takes_canaries:
            self._api.edit("Pod", name, lambda p: p["status"].update(phase="Succeeded"), names.NAMESPACE)

    def _end(self, pod: Object) -> None:
        meta = pod["metadata"]
        attempt = int(meta["labels"][names.LABEL_ATTEMPT])
        outcome = self._script(meta["annotations"][names.ANNOTATION_CACHE_NAME], attempt)
        if outcome is LOST:
            def evict(changed: Object) -> None:
                changed["status"] = {"phase": "Failed", "reason": "Evicted", "message": "low on disk"}
        else:
            def evict(changed: Object) -> None:
                ended = {"exitCode": 0 if outcome.succeeded else 1, "message": outcome.to_termination_message()}
                _state(changed, "Succeeded" if outcome.succeeded else "Failed", {"terminated": ended})
        self._api.edit("Pod", meta["name"], evict, names.NAMESPACE)


def _is(pod: Object, component: str) -> bool:
    return bool(pod["metadata"]["labels"][names.LABEL_COMPONENT] == component)


def _stage(pod: Object) -> str:
    if _is_over(pod):
        return "over"
    if pod["status"]["phase"] == "Running":
        return "running"
    return "scheduled" if pod["spec"].get("nodeName") else "pending"


def _is_over(pod: Object) -> bool:
    return pod["status"]["phase"] in ("Succeeded", "Failed")


def _schedule(pod: Object) -> None:
    pod["spec"]["nodeName"] = "node-1"


def _bind(claim: Object) -> None:
    claim["status"] = {"phase": "Bound"}


def _state(pod: Object, phase: str, state: Object) -> None:
    pod["status"] = {"phase": phase, "containerStatuses": [{"name": names.BUILDER_CONTAINER, "state": state}]}


def _progress_line() -> str:
    images = tuple(ImageProgress(state=ImageState.PULLING, bytes_done=5, bytes_total=10) for _ in range(2))
    return Progress(images=images, bytes_done=10, bytes_total=20).model_dump_json(by_alias=True)
