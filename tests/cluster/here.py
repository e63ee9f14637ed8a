# SPDX-License-Identifier: Apache-2.0
"""What this machine needs to reach package indexes: certificates, pip and apt configuration. Called by `base_images`.

All of it goes into the *base* images. So Dockerfiles built on top say `pip install` and nothing else, and are the same
on a laptop and behind a company's proxy.
"""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

BUNDLE = "/etc/ssl/certs/ca-certificates.crt"  # where Debian's programs, Python and pip look
# Not find-links and the like: these are folders of this machine, which no build can see.
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "default-timeout", "cert")
APT_KEYS = tuple(f"Acquire::{key}" for key in ("Check-", "Retries", "http::", "https::"))


@functools.cache
def files() -> dict[str, str]:
    """Path in the image → content."""
    found = {"/etc/pip.conf": _pip(), "/etc/apt/apt.conf.d/90machine": _apt()}
    bundle = os.environ.get("SSL_CERT_FILE") or BUNDLE
    if Path(bundle).is_file():
        found[BUNDLE] = Path(bundle).read_text(errors="replace")
    return found


def _pip() -> str:
    """pip's own view of its configuration files and PIP_* variables, reduced to what a build can use."""
    values: dict[str, str] = {}
    for line in sorted(_output("python3", "-m", "pip", "config", "list"), reverse=True):  # ":env:" last: it wins
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in PIP_KEYS:
            values[key.removeprefix("default-")] = value.strip("'\"")
    if "cert" in values:
        values["cert"] = BUNDLE
    return "[global]\n" + "".join(f"{key} = {value}\n" for key, value in sorted(values.items()))


def _apt() -> str:
    """apt's settings for fetching; `apt-config dump` prints them in the syntax that it reads."""
    lines = _output("apt-config", "dump", "Acquire")
    return "".join(f"{line}\n" for line in lines if line.startswith(APT_KEYS) and ' "";' not in line)


def _output(*command: str) -> list[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
