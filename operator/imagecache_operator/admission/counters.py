# SPDX-License-Identifier: Apache-2.0
"""What the webhook counts. `server.py` counts each answer; docs/reference/metrics.md lists what there is."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

from imagecache_operator.planning.injection import Injection, Result
from imagecache_operator.planning.offers import Missed

# Seconds. An answer takes about a millisecond; after two seconds the API server does not wait any more.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)


class Counters:
    """The webhook's metrics in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._pods = Counter(
            "imagecache_pods", "Pods that were shown to the webhook.", ["result"], registry=self.registry,
        )
        self._misses = Counter(
            "imagecache_misses", "Pods that asked for a cache and got none.", ["reason"], registry=self.registry,
        )
        self._bytes = Counter(
            "imagecache_matched_bytes", "Size of the images that injected Pods can take from a cache.",
            registry=self.registry,
        )
        self._seconds = Histogram(
            "imagecache_admission_seconds", "Time to decide on a Pod.", buckets=_BUCKETS, registry=self.registry,
        )
        # So that what has not happened yet is 0 and not absent: an alert can be written on it.
        for result in Result:
            self._pods.labels(result)
        for reason in Missed:
            self._misses.labels(reason)

    def count(self, injection: Injection, seconds: float) -> None:
        """One answer, and how long it took."""
        self._pods.labels(injection.result).inc()
        if injection.why:
            self._misses.labels(injection.why).inc()
        self._bytes.inc(injection.size)
        self._seconds.observe(seconds)
