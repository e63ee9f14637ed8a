# SPDX-License-Identifier: Apache-2.0
"""A Docker engine as everything above sees it: the machine's, or our own. Nothing above asks which one it is.

`life` picks one; tests use it through `Cluster.engine`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from .progress import ClusterError

# Docker passes these to builds by itself, without keeping them in the image.
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Engine:
    """Everything here survives a round trip through JSON: `life` keeps it in a cluster's state file."""

    provider: Literal["docker", "own-engine"]
    host_address: str  # where the host reaches ports that containers publish
    bind_address: str  # what these ports are bound to, seen from the engine
    images: Mapping[str, str] = field(default_factory=dict)  # role → reference
    environment: Mapping[str, str] = field(default_factory=dict)
    programs: str = ""  # folders with kind and kubectl, when they are not on PATH

    def run(self, *command: str, input: str | None = None, check: bool = True) -> str:
        """Runs docker, kind or kubectl against this engine; returns what it printed."""
        done = subprocess.run(
            command, input=input, capture_output=True, text=True, check=False, env=self.full_environment()
        )
        if check and done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip())[-4000:]
            raise ClusterError(f"{' '.join(command)}: failed with status {done.returncode}\n{said}")
        return done.stdout

    def full_environment(self) -> dict[str, str]:
        """This process's environment, changed so that programs find this engine, kind and kubectl."""
        return os.environ | dict(self.environment) | {"PATH": self.path}

    @property
    def path(self) -> str:
        """Ours first; each folder once, however often somebody evaluates `python -m tests.cluster env`."""
        folders = f"{self.programs}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin".split(":")
        return ":".join(folder for folder in dict.fromkeys(folders) if folder)

    def docker(self, *args: str, input: str | None = None, check: bool = True) -> str:
        return self.run("docker", *args, input=input, check=check)

    def image(self, role: str) -> str:
        """The reference of "python", "registry" or "pause", for docker run and as a build's base."""
        return self.images[role]

    def build(self, tag: str, context: Path, dockerfile: Path | None = None, **arguments: str) -> None:
        """docker build. On failure the error carries the end of the build's output."""
        command = ["build", "--tag", tag]
        for name, value in arguments.items():
            command += ["--build-arg", f"{name}={value}"]
        for name in PROXY_VARIABLES:
            if name in os.environ:
                command += ["--build-arg", name]
        if dockerfile is not None:
            command += ["--file", str(dockerfile)]
        self.docker(*command, str(context))

    def has_image(self, reference: str) -> bool:
        return bool(self.docker("images", "--quiet", reference).strip())
