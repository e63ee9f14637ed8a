# SPDX-License-Identifier: Apache-2.0
"""From the JSON of nodes to facts: which platforms there are, which kubelets, and which nodes are not ready. Pure; used
by `observe.py` and `reading.py` for passes over caches, and by `controller/injection.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imagecache_operator.planning.observed import Kubelet

Object = dict[str, Any]

_VIRTUAL = "virtual-kubelet"  # that project's name, in the label and the taint of its nodes


def platform(node: Object) -> str:
    """The platform of a node, as images name it."""
    info = node["status"]["nodeInfo"]
    return f"{info['operatingSystem']}/{info['architecture']}"


def not_ready(node: Object) -> str:
    """Why nothing can be expected of it, to continue a sentence; empty where it is ready.

    Of a node that is lost, Kubernetes tells this first. What its Pods say of themselves is then what they said last.
    """
    conditions = (node.get("status") or {}).get("conditions") or []
    ready: Object = next((c for c in conditions if c.get("type") == "Ready"), {})
    if ready.get("status") in (None, "True"):
        return ""
    words = ready.get("message") or ready.get("reason")
    return f"its node {node['metadata']['name']} is not ready" + (f" ({words})" if words else "")


def kubelets(nodes: Sequence[Object]) -> tuple[Kubelet, ...]:
    """Of each version one node, the first by name: there may be thousands."""
    found: dict[tuple[str, bool], Kubelet] = {}
    for node in sorted(nodes, key=lambda n: str(n["metadata"]["name"])):
        version = str(node["status"]["nodeInfo"].get("kubeletVersion", ""))
        taints = ((node.get("spec") or {}).get("taints")) or []
        virtual = (node["metadata"].get("labels") or {}).get("type") == _VIRTUAL or any(
            taint["key"] == f"{_VIRTUAL}.io/provider" for taint in taints
        )
        found.setdefault((version, virtual), Kubelet(version, node["metadata"]["name"], virtual))
    return tuple(found[key] for key in sorted(found))
