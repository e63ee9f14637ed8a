# SPDX-License-Identifier: Apache-2.0
"""The process that serves a cache, in the hands of a test: stopped, let go on for an instant, killed.

A node takes 64 MB from a server within a second, so no `kubectl delete` meets the middle of it. Here the server only
runs while it is let, some milliseconds at a time, until the node has a part of a layer. Called by end-to-end tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from imagecache_operator import names

from .kube import NAMESPACE, Cache, until

# Prints nothing before the node has begun with the layer; then the server is stopped, and stays so.
_A_PART = """
for turn in $(seq 400); do
  kill -CONT {pid}; sleep 0.01; kill -STOP {pid}
  if ctr --namespace k8s.io content active | grep -E '^layer-{digest}\\s+[1-9]'; then exit; fi
  sleep 0.05
done
"""


@dataclass(frozen=True)
class ServerProcess:
    cache: Cache
    pod: str
    node: str
    pid: int  # as the node counts

    def stop(self) -> None:
        """It is silent: what connects waits. Its Pod stays ready for some four seconds."""
        self._on_node(f"kill -STOP {self.pid}")

    def give_a_part_of(self, digest: str) -> str:
        """Returns when the server's own node has a part of that layer and waits for the rest; raises AssertionError if
        it never asks, or is faster."""
        said = self._on_node(_A_PART.format(pid=self.pid, digest=digest))
        if not said:
            raise AssertionError(f"{self.node} has not been seen to pull {digest}")
        return said

    def kill(self) -> None:
        """In the middle of whatever it does; and no other one takes its place."""
        self._scale(0)
        self._on_node(f"kill -KILL {self.pid}")

    def is_back(self) -> None:
        """Another one serves the cache. Right in any state that a failed test has left."""
        self.cache.kube.delete("pod", self.pod, NAMESPACE, "--grace-period=0", "--force")
        self._scale(1)
        # By its name, since the status may speak of the former one for a moment.
        until(self._has_another, f"another server of {self.cache.name} is ready", 60)
        self.cache.wait_until_served()

    def _has_another(self) -> bool:
        pods = [p for p in self.cache.kube.list("pods", _selector(self.cache)) if p["metadata"]["name"] != self.pod]
        return any(c["ready"] for p in pods for c in p["status"].get("containerStatuses", []))

    def _scale(self, replicas: int) -> None:
        name = self.cache.status["server"]["name"]
        self.cache.kube.cluster.kubectl("-n", NAMESPACE, "scale", f"deployment/{name}", f"--replicas={replicas}")

    def _on_node(self, script: str) -> str:
        return self.cache.kube.cluster.on_node(self.node, script)


def of(cache: Cache) -> ServerProcess:
    """The process of the cache's server, which is served."""
    pod, = (p for p in cache.kube.list("pods", _selector(cache)) if "deletionTimestamp" not in p["metadata"])
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    tasks = cache.kube.cluster.on_node(pod["spec"]["nodeName"], "ctr --namespace k8s.io tasks ls")
    pid = next(int(row.split()[1]) for row in tasks.splitlines() if row.startswith(container))
    return ServerProcess(cache, pod["metadata"]["name"], pod["spec"]["nodeName"], pid)


def _selector(cache: Cache) -> str:
    return f"{names.LABEL_CACHE}={cache.uid},{names.LABEL_COMPONENT}={names.COMPONENT_SERVER}"
