# SPDX-License-Identifier: Apache-2.0
"""What the operator counts. `handlers.py` counts each pass; docs/reference/metrics.md lists what there is."""

from __future__ import annotations

from enum import StrEnum
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from imagecache_operator.api.imagecache import AttemptState, Phase
from imagecache_operator.controller.reconciler import Pass

ENDED = (AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.LOST)


class PassResult(StrEnum):
    """How a pass ended. Unavailable: the API server could not be reached; rejected: it refused; failed: a bug."""

    DONE = "done"
    UNAVAILABLE = "unavailable"
    REJECTED = "rejected"
    FAILED = "failed"


class Counters:
    """The operator's metrics in a registry of their own. Used from the event loop only."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._phases: dict[str, Phase] = {}
        caches = Gauge("imagecache_caches", "ImageCaches by phase.", ["phase"], registry=self.registry)
        self._passes = Counter(
            "imagecache_passes", "Passes over ImageCaches, and looks at the webhook.", ["result"],
            registry=self.registry,
        )
        self._attempts = Counter(
            "imagecache_attempts", "Attempts to build a cache that have ended.", ["result"], registry=self.registry,
        )
        for phase in Phase:
            caches.labels(phase).set_function(partial(self._count, phase))
        for result in PassResult:
            self._passes.labels(result)
        for state in ENDED:
            self._attempts.labels(state)

    def _count(self, phase: Phase) -> float:
        return sum(found is phase for found in self._phases.values())

    def passed(self, result: PassResult) -> None:
        """A pass came to this end."""
        self._passes.labels(result).inc()

    def saw(self, uid: str, done: Pass) -> None:
        """What a pass over that ImageCache has found."""
        if done.ended in ENDED:
            self._attempts.labels(done.ended).inc()
        if done.gone:
            self._phases.pop(uid, None)
        elif done.phase:
            self._phases[uid] = done.phase
