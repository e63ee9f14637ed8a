# SPDX-License-Identifier: Apache-2.0
"""A real registry (CNCF distribution) as a process on the loopback interface, with TLS of a test authority.

Called by tests of the builder: as the registry that images come from, and, read-only on what the builder wrote,
as the judge of whether a stock registry can serve it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .programs import registry
from .push import Pusher
from .tls import Authority

START_SECONDS = 20.0


class NoRegistryError(Exception):
    """The registry does not start; the message says why."""


@dataclass(frozen=True)
class RegistryProcess:
    """A registry that runs."""

    address: str  # host:port
    root: Path
    authority: Authority

    @property
    def pusher(self) -> Pusher:
        return Pusher(self.address, self.authority.ca_file)


@contextlib.contextmanager
def running_registry(
    root: Path, folder: Path, authority: Authority, readonly: bool = False
) -> Iterator[RegistryProcess]:
    """A registry that keeps its content below `root` until the block ends. `folder` is for its own files."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = authority.issue(["127.0.0.1", "localhost"], folder / "tls")
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = folder / "registry.yml"
    settings.write_text(
        "version: 0.1\n"
        "log: {level: warn, accesslog: {disabled: true}}\n"
        "storage:\n"
        f"  filesystem: {{rootdirectory: '{root}'}}\n"
        f"  maintenance: {{readonly: {{enabled: {str(readonly).lower()}}}, uploadpurging: {{enabled: false}}}}\n"
        f"http: {{addr: '{address}', tls: {{certificate: '{certificate}', key: '{key}'}}}}\n"
    )
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [registry(), "serve", str(settings)], stdout=output, stderr=output,
            env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        _wait(process, Pusher(address, authority.ca_file), log)
        yield RegistryProcess(address, root, authority)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], pusher: Pusher, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while not pusher.answers():
        if process.poll() is not None or time.monotonic() > end:
            raise NoRegistryError(f"{registry()} does not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
