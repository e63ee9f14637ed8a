# SPDX-License-Identifier: Apache-2.0
"""What `kind create cluster` is told: the files below kind/ plus what differs between machines. Called by `life`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from . import cache

IN_MEMORY = cache.HERE / "kind" / "in-memory.conf"
CONTAINERD_UNIT = "/etc/systemd/system/containerd.service.d"
SLOTS = 8  # clusters at a time with our own engine, each with its own addresses and API server port


def pod_subnet(slot: int) -> str:
    """Pods never leave a node under their own address, yet distinct ranges are easier to read in a packet dump."""
    return f"198.18.{64 + 8 * slot}.0/21"


def node_subnet(slot: int) -> str:
    """Nodes, and the registries beside them."""
    return f"198.18.{16 + slot}.0/24"


def render(
    node_image: str, folder: Path, own_engine_address: str | None, slot: int, in_memory: bool = False,
) -> str:
    """The configuration as YAML; also what tells whether a running cluster is still the one that is wanted.

    `in_memory`: its nodes keep images in memory, in place of the machine's disk. `folder` then has IN_MEMORY too.
    """
    config = _load("cluster.yaml")
    policy = {"hostPath": str(folder / "audit-policy"), "containerPath": "/etc/kubernetes/audit"}
    log = {"hostPath": str(folder / "audit"), "containerPath": "/var/log/kubernetes/audit"}
    mounts = [policy | {"readOnly": True}, log]
    config["nodes"] = [
        {"role": "control-plane", "image": node_image, "extraMounts": mounts},
        {"role": "worker", "image": node_image},
    ]
    if in_memory:
        unit = {"hostPath": str(folder / IN_MEMORY.name), "containerPath": f"{CONTAINERD_UNIT}/{IN_MEMORY.name}"}
        for node in config["nodes"]:
            node["extraMounts"] = [*node.get("extraMounts", []), unit | {"readOnly": True}]
    if own_engine_address is not None:
        ours = _load("own-engine.yaml")
        config["kubeadmConfigPatches"] += ours["kubeadmConfigPatches"]
        config["networking"] = ours["networking"] | {
            "podSubnet": pod_subnet(slot),
            "serviceSubnet": f"198.19.{16 * slot}.0/20",
            "apiServerAddress": own_engine_address,
            "apiServerPort": 6443 + slot,  # kind can't look for a free port in the engine's network namespace
        }
    return yaml.safe_dump(config, sort_keys=False)


def _load(file: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((cache.HERE / "kind" / file).read_text())
    return loaded
