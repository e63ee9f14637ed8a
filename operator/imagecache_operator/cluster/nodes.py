# SPDX-License-Identifier: Apache-2.0
"""From the JSON of nodes to facts: which platforms there are, which kubelets, and which nodes are not ready. Pure; used
by `observe.py` and `reading.py` for passes over caches, and by `controller/injection.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from imagecache_operator import names
from imagecache_operator.planning.observed import Kubelet, Pool

Object = dict[str, Any]

_VIRTUAL = "virtual-kubelet"  # that project's name, in the label and the taint of its nodes
# By which the usual tools name the pool that they made a node for: its nodes share an operating system image and a
# configuration of the container runtime, of which nothing else tells.
POOL_LABELS = (
    "cloud.google.com/gke-nodepool", "eks.amazonaws.com/nodegroup", "karpenter.sh/nodepool",
    "kubernetes.azure.com/agentpool",
)


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
        virtual = _is_virtual(node)
        found.setdefault((version, virtual), Kubelet(version, node["metadata"]["name"], virtual))
    return tuple(found[key] for key in sorted(found))


def pools(nodes: Sequence[Object]) -> tuple[Pool, ...]:
    """Nodes on which Pods can start from caches, by what decides how they take images. Without those that a user has
    taken out of it."""
    ready: dict[tuple[str, str], list[str]] = {}
    for node in sorted(nodes, key=lambda n: str(n["metadata"]["name"])):
        labels = node["metadata"].get("labels") or {}
        if _is_virtual(node) or not platform(node).startswith("linux/") or labels.get(names.LABEL_CANARY) == names.NONE:
            continue
        there = ready.setdefault((_pool(node, labels), platform(node)), [])
        if not not_ready(node) and "deletionTimestamp" not in node["metadata"]:
            there.append(node["metadata"]["name"])
    return tuple(Pool(*common, tuple(there)) for common, there in sorted(ready.items()))


def _pool(node: Object, labels: Object) -> str:
    info = node["status"]["nodeInfo"]
    of_user = next((f"pool {labels[label]}" for label in POOL_LABELS if labels.get(label)), "")
    said = (info.get("kubeletVersion"), info.get("containerRuntimeVersion"), platform(node), of_user)
    return ", ".join(str(words) for words in said if words)


def _is_virtual(node: Object) -> bool:
    taints = ((node.get("spec") or {}).get("taints")) or []
    return (node["metadata"].get("labels") or {}).get("type") == _VIRTUAL or any(
        taint["key"] == f"{_VIRTUAL}.io/provider" for taint in taints
    )
