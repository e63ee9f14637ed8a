# SPDX-License-Identifier: Apache-2.0
"""What kind is told: every node of a cluster in memory has the file that makes it so, and no other cluster has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.kind_config import CONTAINERD_UNIT, IN_MEMORY, render

FOLDER = Path("/somewhere")


def mounts(in_memory: bool, own_engine: str | None = None) -> list[list[dict[str, Any]]]:
    config = yaml.safe_load(render("node:1", FOLDER, own_engine, 0, in_memory))
    return [node.get("extraMounts", []) for node in config["nodes"]]


@pytest.mark.parametrize("own_engine", [None, "198.18.255.2"])
def test_nodes_in_memory_have_containerds_file_besides(own_engine: str | None) -> None:
    on_disk, in_memory = mounts(False, own_engine), mounts(True, own_engine)
    file = {
        "hostPath": f"{FOLDER}/{IN_MEMORY.name}", "containerPath": f"{CONTAINERD_UNIT}/{IN_MEMORY.name}",
        "readOnly": True,
    }
    assert [len(found) for found in on_disk] == [2, 0], "the API server's audit policy and log"
    assert in_memory == [[*found, file] for found in on_disk]


def test_the_memory_that_a_node_takes_is_bound() -> None:
    mount = next(line for line in IN_MEMORY.read_text().splitlines() if "mount -t tmpfs" in line)
    assert "size=6g" in mount
