# SPDX-License-Identifier: Apache-2.0
"""From nodes to facts: their platforms and kubelets."""

from __future__ import annotations

from typing import Any

from imagecache_operator.cluster import nodes
from imagecache_operator.planning.observed import Kubelet


def node(name: str, version: str | None, labels: Any = None, **spec: Any) -> dict[str, Any]:
    info = {} if version is None else {"kubeletVersion": version}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": {"nodeInfo": info}}


def test_of_each_version_of_kubelet_one_node_is_told() -> None:
    taint = {"key": "virtual-kubelet.io/provider", "value": "some", "effect": "NoSchedule"}
    found = [
        node("c", "v1.37.2"), node("b", "v1.37.2", taints=[{"key": "gpu", "effect": "NoSchedule"}]),
        node("d", "v1.36.0"), node("e", None),
        node("v", "v1.37.2", {"type": "virtual-kubelet"}), node("w", "v1.30.0-vk", taints=[taint]),
        node("x", "v1.36.0", {"type": "large"}, taints=None),
    ]
    expected = (
        Kubelet("", "e"), Kubelet("v1.30.0-vk", "w", virtual=True), Kubelet("v1.36.0", "d"), Kubelet("v1.37.2", "b"),
        Kubelet("v1.37.2", "v", virtual=True),
    )
    assert nodes.kubelets(found) == nodes.kubelets(found[::-1]) == expected


def test_a_nodes_platform_is_as_images_name_it() -> None:
    one = {"status": {"nodeInfo": {"operatingSystem": "linux", "architecture": "arm64"}}}
    assert nodes.platform(one) == "linux/arm64"
