# SPDX-License-Identifier: Apache-2.0
"""The last suite of all: the cluster survives a crash of what it runs on, and leaves nothing when it goes.

It uses the clusters of the other suites up, so it runs when they are done (`make test`). Clusters of other names (the
demo's) are left alone: the engine is then neither crashed nor expected to be gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from tests.cluster import Cluster, down, find, leftovers, life, machine, up
from tests.support.kube import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def _crash(cluster: Cluster) -> None:
    """What the end of a CI job does: processes die, all else stays. With Docker, or other clusters, only our nodes."""
    if cluster.provider == "own-engine" and life.names() == [cluster.name]:
        engine = [pid for pid, words in machine.processes() if words[0].endswith("unshare")]
        assert engine, "our own engine runs"
        for pid in engine:
            os.kill(pid, signal.SIGKILL)
        until(lambda: not [p for p in engine if _lives(p)], "the engine is dead", 30)
        assert leftovers(), "a crash leaves something to sweep"
    else:
        cluster.engine.docker("kill", *cluster.nodes)


def _lives(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # a child of this very process stays in the table until it is asked for
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture
def last_cluster(cluster: Cluster) -> Cluster:
    """The only one that the tests still have."""
    for name in life.names():
        if name.startswith(f"{cluster.name}-"):
            down(name)
    return cluster


def test_up_after_a_crash_then_down_leaves_nothing(last_cluster: Cluster) -> None:
    """What comes after the crash is another kind of cluster: one that keeps its images in memory."""
    assert "tmpfs" not in {_images_on(last_cluster, node) for node in last_cluster.nodes}
    _crash(last_cluster)
    again = up(last_cluster.name, in_memory=True)
    assert again.kubectl("get", "nodes", "-o", "name").split() == [f"node/{node}" for node in again.nodes]
    assert {_images_on(again, node) for node in again.nodes} == {"tmpfs"}
    again.run_container(f"{again.name}-extra", again.engine.image("pause"))

    down(again.name)
    assert find(again.name) is None
    mounts = Path("/proc/self/mountinfo")  # where there is none, the engine is on another machine
    assert not mounts.exists() or " in-memory " not in mounts.read_text()
    if not life.names():
        assert leftovers() == []
    else:
        left = again.engine.docker("ps", "-a", "--format", "{{.Names}}").split()
        assert not [name for name in left if name.startswith(f"{again.name}-")]


def _images_on(cluster: Cluster, node: str) -> str:
    return cluster.on_node(node, "stat -f -c %T /var/lib/containerd").strip()
