# SPDX-License-Identifier: Apache-2.0
"""A slow link to a registry, in any kind of Docker engine: a container that forwards TCP at a limited rate.

Tests need builds that take long enough to be interrupted. Shaping a container's network interface would need rights
on the engine's host, which a laptop's Docker does not give; a forwarder needs nothing.
"""

from __future__ import annotations

from pathlib import Path

from tests.cluster import Cluster

PROGRAM = Path(__file__).with_name("forward.py")


def start(cluster: Cluster, alias: str, target: str, port: int, bytes_per_second: int) -> None:
    """Nodes and Pods that connect to alias:port reach target:port, at that rate for all connections together.

    The registry behind must have a certificate for `alias`: TLS passes through untouched.
    """
    cluster.run_container(
        f"{cluster.name}-{alias}",
        cluster.engine.image("python"),
        ["python", "-c", PROGRAM.read_text(), target, str(port), str(bytes_per_second)],
        alias=alias,
    )


def stop(cluster: Cluster, alias: str) -> None:
    cluster.remove_container(f"{cluster.name}-{alias}")
