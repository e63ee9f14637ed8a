# SPDX-License-Identifier: Apache-2.0
"""The controller of DaemonSets and the kubelets, played as far as the operator looks: a DaemonSet's status, in which
each step brings one more node. `kubelet.py` steps it."""

from __future__ import annotations

from imagecache_operator import names
from imagecache_operator.cluster.api import Object

from tests.support.memory_api import MemoryApi


class DaemonSets:
    """One `step` brings each DaemonSet's status up to date, and pulls on one node more."""

    def __init__(self, api: MemoryApi) -> None:
        self._api = api

    def step(self) -> None:
        for daemon_set in self._api.list("DaemonSet", names.NAMESPACE):
            before, generation = daemon_set.get("status") or {}, daemon_set["metadata"]["generation"]
            wanted = len(self._api.list("Node"))
            # Another template begins anew, on all nodes at once.
            current = before.get("observedGeneration") == generation
            ready = min(before["numberReady"] + 1, wanted) if current else 0
            self._report(daemon_set["metadata"]["name"], {
                "observedGeneration": generation, "desiredNumberScheduled": wanted, "numberReady": ready,
                "updatedNumberScheduled": wanted,
            })

    def _report(self, name: str, status: Object) -> None:
        self._api.edit("DaemonSet", name, lambda d: d.update(status=status), names.NAMESPACE)
