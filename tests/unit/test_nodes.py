# SPDX-License-Identifier: Apache-2.0
"""From nodes to facts: their platforms, kubelets and pools."""

from __future__ import annotations

from typing import Any

from imagecache_operator.cluster import nodes
from imagecache_operator.planning.observed import Kubelet, Pool


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


def test_nodes_that_take_images_in_the_same_way_are_a_pool() -> None:
    def one(name: str, runtime: str = "containerd://2.3.7", ready: str = "True", **more: Any) -> dict[str, Any]:
        info = {
            "kubeletVersion": "v1.37.2", "containerRuntimeVersion": runtime, "operatingSystem": "linux",
            "architecture": "amd64", **more.pop("info", {}),
        }
        conditions = [{"type": "Ready", "status": ready}]
        return {"metadata": {"name": name, **more}, "status": {"nodeInfo": info, "conditions": conditions}}

    found = [
        one("b"), one("a"), one("c", "cri-o://1.37.0"), one("lost", ready="Unknown"),
        one("going", deletionTimestamp="2026-03-01T12:00:00Z"),
        one("gpu", labels={"karpenter.sh/nodepool": "gpu", "other": "x"}), one("away", "containerd://1.7", "False"),
        one("win", info={"operatingSystem": "windows"}), one("v", labels={"type": "virtual-kubelet"}),
        one("out", labels={"imagecache.dev/canary": "none"}), one("in", labels={"imagecache.dev/canary": "x"}),
    ]
    same = "v1.37.2, containerd://2.3.7, linux/amd64"
    assert nodes.pools(found) == nodes.pools(found[::-1]) == (
        Pool("v1.37.2, containerd://1.7, linux/amd64", "linux/amd64", ()),
        Pool(same, "linux/amd64", ("a", "b", "in")),
        Pool(f"{same}, pool gpu", "linux/amd64", ("gpu",)),
        Pool("v1.37.2, cri-o://1.37.0, linux/amd64", "linux/amd64", ("c",)),
    )
