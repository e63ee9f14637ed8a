# SPDX-License-Identifier: Apache-2.0
"""Programs of others that tests need on this machine: found, or fetched the way the cluster fetches its own.

A test never skips because one is missing: it gets it here, or fails with a sentence that says how to get it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

from tests.cluster import ClusterError, releases, requirements
from tests.cluster import cache as kept
from tests.cluster.binaries import Binaries
from tests.cluster.life import PUBLIC_IMAGES
from tests.cluster.progress import Progress

REGISTRY_VARIABLE = "IMAGECACHE_REGISTRY_BINARY"


@cache
def registry() -> str:
    """The registry of CNCF distribution 3: from the image that Docker users pull, or built from its Go module."""
    if named := os.environ.get(REGISTRY_VARIABLE):
        return named
    progress = Progress(print)
    with kept.lock(progress):
        if requirements.docker_answers():
            return str(_out_of_image(PUBLIC_IMAGES["registry"], "/bin/registry"))
        if shutil.which("go"):
            return str(Binaries(releases.chosen()).build_one("registry", progress))
    raise ClusterError(
        "These tests need the registry program of CNCF distribution 3. Start Docker, or install Go, or name the "
        f"program in {REGISTRY_VARIABLE}."
    )


@cache
def skopeo() -> str:
    """skopeo, which judges images without knowing us."""
    if shutil.which("skopeo") is None:
        requirements.install(["skopeo"], Progress(print))
    found = shutil.which("skopeo")
    if found is None:
        raise ClusterError("These tests need skopeo (https://github.com/containers/skopeo/blob/main/install.md).")
    return found


def _out_of_image(image: str, path: str) -> Path:
    target = kept.home() / "programs" / image.replace("/", "_").replace(":", "-")
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        container = _docker("create", image).strip()
        partial = target.with_suffix(".partial")
        _docker("cp", f"{container}:{path}", str(partial))
        _docker("rm", container)
        partial.rename(target)
    return target


def _docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClusterError(f"docker {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
