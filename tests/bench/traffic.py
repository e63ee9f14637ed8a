# SPDX-License-Identifier: Apache-2.0
"""What a registry has sent, by its own access log. Called by `builder` and `trial`.

The builder could miscount what it fetched; the registry has no reason to. Bytes are those of answers, so what was on
its way to a builder that was killed counts too.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.registry_process import RegistryProcess, running_registry
from tests.support.tls import Authority

# A setting of the registry's; an environment variable takes precedence over the file.
_ACCESS_LOG = "REGISTRY_LOG_ACCESSLOG_DISABLED"

_BLOB_SENT = re.compile(r'"GET /v2/\S+/blobs/(sha256:[0-9a-f]{64}) HTTP/[0-9.]+" 20[06] ([0-9]+) ')


@dataclass(frozen=True)
class Traffic:
    """The log of a registry that runs."""

    log: Path

    def now(self) -> int:
        """A moment, for `since`."""
        return self.log.stat().st_size

    def since(self, moment: int) -> Counter[str]:
        """Bytes sent of each blob, by digest, in answers that have ended since then."""
        with self.log.open("rb") as file:
            file.seek(moment)
            return sent(file.read().decode(errors="replace"))


def sent(log: str) -> Counter[str]:
    """Bytes of each blob in the lines of an access log."""
    found: Counter[str] = Counter()
    for digest, count in _BLOB_SENT.findall(log):
        found[digest] += int(count)
    return found


@contextlib.contextmanager
def watched_registry(root: Path, folder: Path, authority: Authority) -> Iterator[tuple[RegistryProcess, Traffic]]:
    """A registry as `running_registry` starts it, and its access log."""
    os.environ[_ACCESS_LOG] = "false"
    try:
        with running_registry(root, folder, authority) as registry:
            yield registry, Traffic(folder / "registry.log")
    finally:
        del os.environ[_ACCESS_LOG]
