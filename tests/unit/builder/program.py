# SPDX-License-Identifier: Apache-2.0
"""The builder as a process, with nothing in its environment that it was not given. For tests of its command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from imagecache_operator import names

PROGRAM = (sys.executable, "-m", "imagecache_operator", "builder")

_ROOT = Path(__file__).resolve().parents[3]


def environment(ca_file: Path | None = None, **more: str) -> dict[str, str]:
    """`ca_file` is the authority of the test's registries."""
    authorities = {names.ENV_CA_FILE: str(ca_file)} if ca_file else {}
    return {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(_ROOT / "operator"), "LC_ALL": "C.UTF-8", **authorities, **more,
    }


def run(*options: str | Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What it said, and its exit status."""
    return subprocess.run(
        [*PROGRAM, *map(str, options)], env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )
