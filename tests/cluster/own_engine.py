# SPDX-License-Identifier: Apache-2.0
"""A Docker engine of our own, for machines on which none runs (our CI): start, find, stop. Called by `life`.

Debian's dockerd runs in network, mount and PID namespaces of its own. So it changes none of the machine's networking
but one link, one route and one NAT rule, its mounts are invisible outside, and ending one process ends everything.
Its images stay in the cache folder; its containers do not outlive it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from . import cache, machine
from .progress import ClusterError, Progress, tail

STATE = machine.RUN / "engine.json"
# What the machine's kernel must allow at the least, while the engine runs: to pass packets on to it, and more than two
# clusters, whose kubelets and systemds each watch files.
KERNEL = {"/proc/sys/net/ipv4/ip_forward": 1, "/proc/sys/fs/inotify/max_user_instances": 512}
DOCKER_HOST = f"unix://{machine.SOCKET}"
# containerd's shims put their sockets below /run/containerd, whatever we say: give the engine a private one.
PRIVATE_RUN = 'mkdir -p /run/containerd && mount -t tmpfs none /run/containerd && exec "$@"'


def data_root() -> Path:
    return cache.home() / "engine"


def _clamp() -> Path:
    return cache.home() / "runc-clamp"


def running() -> bool:
    return _pid() is not None and _answers()


def is_ours() -> bool:
    """False when the engine belongs to another cache folder: there is one engine, but maybe more of those."""
    try:
        return bool(json.loads(STATE.read_text())["data_root"] == str(data_root()))
    except (OSError, ValueError, KeyError):
        return True  # nobody's


def start(progress: Progress) -> bool:
    """Starts the engine if it doesn't run, and says whether. It outlives this process: later `up`s find it."""
    if running():
        if not is_ours():
            raise ClusterError(f"An engine of another cache folder runs ({STATE}): `down` with that one first.")
        return False
    stop(progress)
    progress.note("starting our own Docker engine")
    _connect()
    log = cache.home() / "logs" / "engine.log"
    log.parent.mkdir(exist_ok=True)
    data_root().mkdir(exist_ok=True)
    # A copy: the engine outlives this process, and maybe this clone. Not in /run, which may be mounted noexec.
    shutil.copy2(cache.HERE / "images" / "runc-clamp", _clamp())
    with log.open("wb") as output:
        # nsenter and unshare exec in place, so this PID is unshare's, and with it everything inside ends.
        process = subprocess.Popen(
            _command(), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    before = {setting: int(Path(setting).read_text()) for setting in KERNEL}
    STATE.write_text(json.dumps({"data_root": str(data_root()), "kernel": before}))
    for setting, least in KERNEL.items():
        Path(setting).write_text(f"{max(least, before[setting])}\n")

    def answers() -> bool:
        if process.poll() is not None:
            raise ClusterError(f"the Docker engine ended at once:\n{tail(log)}")
        return _answers()

    progress.wait_until("the engine answers", answers, timeout=60)
    _forget_containers()
    return True


def ensure_network(name: str, subnet: str) -> None:
    """The Docker network of a cluster. Made here: kind would give it an address of its own choice, and a larger MTU."""
    docker = ["docker", "-H", DOCKER_HOST, "network"]
    if name not in machine.sh(*docker, "ls", "--format", "{{.Name}}").split():
        mtu = f"com.docker.network.driver.mtu={_mtu()}"
        machine.sh(*docker, "create", "--subnet", subnet, "--opt", mtu, name)


def stop(progress: Progress) -> None:
    """Ends the engine and everything in it, then removes what the kernel keeps. Also right when nothing runs."""
    pid = _pid()
    if pid is not None:
        progress.note("stopping our own Docker engine")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        with contextlib.suppress(ProcessLookupError):
            if children:
                os.kill(int(children[0]), signal.SIGTERM)  # dockerd, PID 1 in there: lets it close its databases
        with contextlib.suppress(ClusterError):
            progress.wait_until("the engine has ended", lambda: _pid() is None, timeout=15, pause=0.1)
        if _pid() is not None:
            os.kill(pid, signal.SIGKILL)
            progress.wait_until("the engine is gone", lambda: _pid() is None, timeout=15, pause=0.1)
    with contextlib.suppress(OSError, ValueError, KeyError):
        for setting, before in json.loads(STATE.read_text())["kernel"].items():
            Path(setting).write_text(f"{before}\n")
    found = machine.sweep()
    if found and pid is None:
        progress.note(f"removed leftovers of an earlier run: {len(found)} (first: {found[0]})")


def _pid() -> int | None:
    """The engine's outermost process, known by what it is told to do: only we name this socket to an `unshare`."""
    for pid, words in machine.processes():
        if words[0] == "unshare" and DOCKER_HOST in words:
            return pid
    return None


def _answers() -> bool:
    command = ["docker", "-H", DOCKER_HOST, "version"]
    return machine.SOCKET.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0


def _connect() -> None:
    """One link between the machine and the engine's network namespace, routed in and masqueraded out."""
    sh, netns, mtu = machine.sh, machine.NETNS, str(_mtu())
    machine.RUN.mkdir(mode=0o700)
    sh("ip", "netns", "add", netns)
    sh("ip", "link", "add", machine.LINK, "mtu", mtu, "type", "veth", "peer", "name", "eth0", "netns", netns)
    sh("ip", "addr", "add", f"{machine.HOST_ADDRESS}/30", "dev", machine.LINK)
    sh("ip", "link", "set", machine.LINK, "up")
    sh("ip", "-n", netns, "link", "set", "lo", "up")
    sh("ip", "-n", netns, "addr", "add", f"{machine.ENGINE_ADDRESS}/30", "dev", "eth0")
    sh("ip", "-n", netns, "link", "set", "eth0", "mtu", mtu, "up")
    sh("ip", "-n", netns, "route", "add", "default", "via", machine.HOST_ADDRESS)
    sh("ip", "route", "replace", machine.ROUTED, "via", machine.ENGINE_ADDRESS)
    sh("iptables", "-t", "nat", "-A", *machine.NAT_RULE)


def _mtu() -> int:
    """That of the way out. With a larger one, big packets of `docker build` would vanish on the machine's own link."""
    words = machine.sh("ip", "route", "show", "default", check=False).split()
    device = words[words.index("dev") + 1] if "dev" in words else "lo"
    return min(1500, int(Path("/sys/class/net", device, "mtu").read_text()))


def _command() -> list[str]:
    return [
        *("nsenter", f"--net=/run/netns/{machine.NETNS}"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("env", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        *("sh", "-c", PRIVATE_RUN, "sh"),
        *("dockerd", "--host", DOCKER_HOST, "--pidfile", str(machine.RUN / "dockerd.pid")),
        *("--data-root", str(data_root()), "--exec-root", str(machine.RUN / "exec")),
        *("--add-runtime", f"clamp={_clamp()}", "--default-runtime", "clamp"),
        *("--cgroup-parent", machine.CGROUP_PARENT, "--exec-opt", "native.cgroupdriver=cgroupfs"),
        # The default pools are private ranges that may be somebody's real network; 198.18.0.0/15 is for tests.
        *("--bip", "198.18.2.1/24", "--default-address-pool", "base=198.18.4.0/22,size=24"),
        *("--mtu", str(_mtu())),
    ]


def _forget_containers() -> None:
    """Nodes of an engine that died do not come back to life: their addresses and routes are gone."""
    docker = ["docker", "-H", DOCKER_HOST]
    old = machine.sh(*docker, "ps", "--all", "--quiet").split()
    if old:
        machine.sh(*docker, "rm", "--force", "--volumes", *old)
    machine.sh(*docker, "volume", "prune", "--force")
    machine.sh(*docker, "network", "prune", "--force")
