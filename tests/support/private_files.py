# SPDX-License-Identifier: Apache-2.0
"""Files with secrets of the private test registries. Called by `accounts`, `token_service` and who starts the two."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def kept(path: Path, make: Callable[[], str]) -> str:
    """The content of a file that only its owner may read; made when it is not there."""
    if not path.exists():
        write(path, make())
    return path.read_text()


def write(path: Path, content: str) -> None:
    """For the owner alone, and by a rename: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, partial = tempfile.mkstemp(dir=path.parent)  # mode 0600
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    Path(partial).replace(path)
