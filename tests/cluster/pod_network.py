# SPDX-License-Identifier: Apache-2.0
"""The Pod network of a cluster on our own engine, where kind's CNI image can't be pulled. Called by `life`.

Per node: a veth pair for each Pod (the `ptp` plugin), routes to the other nodes' Pods, and source NAT for everything
that leaves the cluster. Not the `bridge` plugin: with it, Pods' queries to Docker's DNS lose their way back.
"""

from __future__ import annotations

import json
from typing import Any

from .cluster import Cluster
from .progress import Progress


def connect(cluster: Cluster, pod_subnet: str, progress: Progress) -> None:
    nodes: list[dict[str, Any]] = []

    def all_have_a_range() -> bool:
        nodes[:] = json.loads(cluster.kubectl("get", "nodes", "--output", "json"))["items"]
        return all("podCIDR" in node["spec"] for node in nodes)

    progress.wait_until("every node has a range of Pod addresses", all_have_a_range, timeout=120)
    ranges = {node["metadata"]["name"]: node["spec"]["podCIDR"] for node in nodes}
    addresses = {node["metadata"]["name"]: _address(node) for node in nodes}
    for name, own_range in ranges.items():
        routes = "".join(
            f"ip route replace {other_range} via {addresses[other]}\n"
            for other, other_range in ranges.items()
            if other != name
        )
        script = (
            "set -eu\n"
            f"{routes}"
            f"iptables -t nat -A POSTROUTING -s {own_range} ! -d {pod_subnet} -j MASQUERADE\n"
            f"cat >/etc/cni/net.d/10-pods.conflist <<'END'\n{json.dumps(_cni(own_range))}\nEND\n"
        )
        cluster.engine.docker("exec", "--interactive", name, "bash", input=script)


def _address(node: dict[str, Any]) -> str:
    addresses = node["status"]["addresses"]
    return next(str(entry["address"]) for entry in addresses if entry["type"] == "InternalIP")


def _cni(pod_range: str) -> dict[str, Any]:
    ipam = {"type": "host-local", "ranges": [[{"subnet": pod_range}]], "routes": [{"dst": "0.0.0.0/0"}]}
    ptp = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return {
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [ptp, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }
