# SPDX-License-Identifier: Apache-2.0
"""Creates Pods with no program between us and the API server, and asks how long it thinks about it. Called by `start`.

A kubectl for each would take longer to start than what is to be measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kubernetes import client, config

from tests.cluster import Cluster
from tests.support.kube import Object

THREADS = 16
WARMING = 2 * THREADS  # requests before the first that counts: connections and their TLS


class Creator:
    """Connections to a cluster's API server, as its administrator."""

    def __init__(self, cluster: Cluster) -> None:
        configuration = client.Configuration()
        configuration.connection_pool_maxsize = THREADS
        config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
        self._core = client.CoreV1Api(client.ApiClient(configuration))

    def create(self, pod: Object, **options: Any) -> Object:
        """What the API server has made of it, webhooks included. Raises AssertionError."""
        try:
            answer = self._core.create_namespaced_pod(
                pod["metadata"]["namespace"], pod, _request_timeout=30, _preload_content=False, **options,
            )
        except client.ApiException as error:
            raise AssertionError(f"creating Pod {pod['metadata']['name']}: {error.status} {error.reason}") from None
        return dict(json.loads(answer.data))

    def latencies(self, pod: Object, rate: int, seconds: float) -> list[float]:
        """Seconds that each of `rate` creates a second took; nothing is stored (server-side dry run)."""
        def once() -> float:
            began = time.perf_counter()
            self.create(pod, dry_run="All")
            return time.perf_counter() - began

        with ThreadPoolExecutor(THREADS) as threads:
            list(threads.map(lambda _: once(), range(WARMING)))
            return _at(rate, round(rate * seconds), threads, once)


def _at(rate: int, count: int, threads: ThreadPoolExecutor, once: Callable[[], float]) -> list[float]:
    """Calls it `count` times, one every 1/rate seconds, whether or not the ones before have ended."""
    began = time.monotonic()
    calls = []
    for number in range(count):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        calls.append(threads.submit(once))
    return [call.result() for call in calls]
