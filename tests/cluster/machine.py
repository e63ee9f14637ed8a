# SPDX-License-Identifier: Apache-2.0
"""What our own engine leaves in the machine's kernel, by name: to find it, and to sweep it away.

Called by `own_engine` before each start and after each stop. A CI machine that ends a job kills the processes but
keeps network namespaces, links, routes, NAT rules and cgroup folders: the next run meets them.
Everything carries a name or an address of ours, so that nothing else is ever touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

NAME = "imagecache-operator"
RUN = Path("/run") / NAME  # socket and state of the engine: per machine, gone after a reboot like the engine itself
SOCKET = RUN / "docker.sock"
NAMED = Path("/run/netns")  # where the ip command keeps named network namespaces
NETNS = "imc-engine"
LINK = "imc-engine"
HOST_ADDRESS, ENGINE_ADDRESS, UPLINK = "198.18.255.1", "198.18.255.2", "198.18.255.0/30"
ROUTED = "198.18.0.0/17"  # all that lives behind the engine: containers and nodes
CGROUP_PARENT = f"/{NAME}"
CGROUPS = Path("/sys/fs/cgroup")
ENGINE_PROGRAMS = ("nsenter", "unshare", "dockerd", "containerd", "containerd-shim-runc-v2", "docker-proxy")
NAT_RULE = ["POSTROUTING", "-s", UPLINK, "-j", "MASQUERADE"]


def sh(*command: str, check: bool = True) -> str:
    """Runs a program of the system. Without `check`, one that fails or isn't installed printed nothing."""
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    if not check and shutil.which(command[0], path=path) is None:
        return ""
    environment = os.environ | {"PATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def leftovers() -> list[str]:
    """Everything of ours on this machine, as readable lines. Empty after `down` of the last cluster."""
    if sys.platform != "linux":
        return []
    routes = [line for line in sh("ip", "route", check=False).splitlines() if f"dev {LINK}" in line]
    rules = [line for line in sh("iptables", "-t", "nat", "-S", check=False).splitlines() if UPLINK in line]
    named = [("network namespace", NAMED / NETNS), ("link", Path("/sys/class/net", LINK)), ("folder", RUN)]
    return [
        *(f"process {pid}: {' '.join(words).strip()[:120]}" for pid, words in processes()),
        *(f"{kind} {path.name}" for kind, path in named if path.exists()),
        *(f"route {route.strip()}" for route in routes),
        *(f"NAT rule {rule}" for rule in rules),
        *(f"mount {point}" for point in _mounts()),
        *(f"cgroup folder {folder}" for folder in _cgroup_folders() if folder.name == NAME),
    ]


def sweep() -> list[str]:
    """Removes what dead runs left; the caller has made sure that no engine lives. Returns what was found."""
    found = leftovers()
    sh("iptables", "-t", "nat", "-D", *NAT_RULE, check=False)
    sh("ip", "netns", "del", NETNS, check=False)
    if os.path.ismount(NAMED) and not any(NAMED.iterdir()):
        sh("umount", str(NAMED), check=False)  # `ip netns add` makes it a mount, and again when it needs to
    # The kernel takes the link away some time after its namespace. Deleting it by hand is the quick way.
    sh("ip", "link", "del", LINK, check=False)
    for point in _mounts():
        sh("umount", "--lazy", point, check=False)
    for _ in range(50):
        for folder in _cgroup_folders():
            with contextlib.suppress(OSError):  # busy until the kernel has buried the last process
                folder.rmdir()
        if not list(_cgroup_folders()) and not Path("/sys/class/net", LINK).exists():
            break
        time.sleep(0.1)
    if RUN.exists():
        sh("rm", "-rf", str(RUN))
    return found


def processes() -> Iterator[tuple[int, list[str]]]:
    """The engine and all it started: by our socket or state folder in the command line, or by our cgroup."""
    for entry in Path("/proc").glob("*"):  # nothing where there is no /proc
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            cgroups = (entry / "cgroup").read_text()
        except OSError:
            continue  # ended while we looked
        engine = Path(words[0]).name in ENGINE_PROGRAMS and any(str(RUN) in word for word in words)
        if engine or f":{CGROUP_PARENT}" in cgroups:
            yield int(entry.name), words


def _mounts() -> list[str]:
    ours = [str(RUN), str(NAMED / NETNS), f"/{NAME}/engine/"]
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if any(mark in point for mark in ours)]


def _cgroup_folders() -> list[Path]:
    """Deepest first, the order in which they can be removed. One tree with cgroup v2, one per controller with v1."""
    roots = [CGROUPS / NAME, *(controller / NAME for controller in CGROUPS.iterdir() if controller.is_dir())]
    return [Path(path) for root in roots for path, _, _ in os.walk(root, topdown=False)]
