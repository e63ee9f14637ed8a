# SPDX-License-Identifier: Apache-2.0
"""Looks at the machine before anything starts: which provider it can have, and what is missing. Called by `life`."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess

from .machine import SOCKET
from .progress import ClusterError, Progress

GO = (1, 26, 8)
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # an ordinary PATH lacks where Debian keeps dockerd
# Program → Debian's package. tar, mount and the like are on every Debian.
DEBIAN_PACKAGES = {
    "dockerd": "docker.io",
    "docker": "docker.io",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "jq": "jq",
}
WHERE = {
    "docker": "Docker's command line: https://docs.docker.com/engine/install/",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start/#installation",
    "kubectl": "https://kubernetes.io/docs/tasks/tools/",
}


def docker_answers() -> bool:
    """Is there an engine, other than ours, where the docker command looks by default?"""
    if os.environ.get("DOCKER_HOST") == f"unix://{SOCKET}" or shutil.which("docker") is None:
        return False
    try:
        done = subprocess.run(["docker", "version"], capture_output=True, timeout=15, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def is_linux_root() -> bool:
    return platform.system() == "Linux" and os.geteuid() == 0


def check_docker() -> None:
    missing = [program for program in WHERE if shutil.which(program) is None]
    if missing:
        raise ClusterError(
            "A Docker engine answers, so the cluster will be an ordinary kind cluster. For that, please install: "
            + "; ".join(f"{program} ({WHERE[program]})" for program in missing)
        )


def check_own_engine(progress: Progress) -> None:
    """Installs missing Debian packages; whatever else is missing is named, all of it at once."""
    missing = []
    if platform.system() != "Linux":
        missing.append("Linux")
    elif os.geteuid() != 0:
        missing.append("root (the engine makes network namespaces and mounts)")
    go = _go_version()
    if go is None or go < GO:
        found = "none found" if go is None else f"found {'.'.join(map(str, go))}"
        missing.append(f"Go {'.'.join(map(str, GO))} or newer ({found}; https://go.dev/dl/)")
    packages = _missing_packages()
    if packages and not missing:
        install(packages, progress)
        packages = _missing_packages()
    missing += [f"the Debian package {package}" for package in packages]
    if missing:
        raise ClusterError(
            "No Docker engine answers, and this machine can't have one of our own. Either start Docker (then kind and"
            " kubectl are all that is needed), or provide what is missing for our own engine: " + "; ".join(missing)
        )


def install(packages: list[str], progress: Progress) -> None:
    """Installs Debian packages where that is possible. Says so; whether it worked is for the caller to see."""
    if not is_linux_root() or shutil.which("apt-get") is None:
        return
    progress.note(f"installing Debian packages: {' '.join(packages)}")
    subprocess.run(["apt-get", "update", "--quiet"], capture_output=True, check=False)
    # RUNLEVEL: installing docker.io must not start a second engine, with networks of its own.
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0:
        progress.note(f"apt-get failed: {done.stderr.strip()[-500:]}")


def _missing_packages() -> list[str]:
    absent = (package for program, package in DEBIAN_PACKAGES.items() if shutil.which(program, path=PATH) is None)
    return sorted(set(absent))


def _go_version() -> tuple[int, ...] | None:
    if shutil.which("go") is None:
        return None
    command = ["go", "env", "GOVERSION"]
    text = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/").stdout
    found = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else None
