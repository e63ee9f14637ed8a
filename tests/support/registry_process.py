# SPDX-License-Identifier: Apache-2.0
"""A real registry (CNCF distribution) as a process on the loopback interface, with TLS of a test authority.

Called by tests of the builder: as the registry that images come from, one that everybody may use or one that asks
for a password or a token; and, read-only on what the builder wrote, as the judge of whether a stock registry can
serve it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import private_files, token_service
from .accounts import htpasswd, make_accounts
from .programs import registry
from .push import Pusher
from .tls import Authority
from .token_service.service import Account

START_SECONDS = 20.0
NAMES = ("127.0.0.1", "localhost")


class NoRegistryError(Exception):
    """The registry does not start; the message says why."""


@dataclass(frozen=True)
class RegistryProcess:
    """A registry that runs."""

    address: str  # host:port
    root: Path
    authority: Authority
    accounts: Mapping[str, Account] = field(default_factory=dict)  # who may log in, by name

    @property
    def pusher(self) -> Pusher:
        return Pusher(self.address, self.authority.ca_file, self.accounts.get("pusher"))


@contextlib.contextmanager
def running_registry(
    root: Path,
    folder: Path,
    authority: Authority,
    readonly: bool = False,
    auth: Mapping[str, Mapping[str, str]] | None = None,
    accounts: Mapping[str, Account] | None = None,
) -> Iterator[RegistryProcess]:
    """A registry that keeps its content below `root` until the block ends. `folder` is for its own files."""
    certificate, key = authority.issue(NAMES, folder / "tls")
    address = _free_address()
    settings = folder / "registry.yml"
    settings.write_text(
        "version: 0.1\n"
        "log: {level: warn, accesslog: {disabled: true}}\n"
        "storage:\n"
        f"  filesystem: {{rootdirectory: '{root}'}}\n"
        f"  maintenance: {{readonly: {{enabled: {str(readonly).lower()}}}, uploadpurging: {{enabled: false}}}}\n"
        f"http: {{addr: '{address}', tls: {{certificate: '{certificate}', key: '{key}'}}}}\n"
        f"auth: {json.dumps(auth or {})}\n"
    )
    process = RegistryProcess(address, root, authority, accounts or {})
    with _running([registry(), "serve", str(settings)], folder / "registry.log", process.pusher.answers):
        yield process


@contextlib.contextmanager
def running_basic_registry(root: Path, folder: Path, authority: Authority) -> Iterator[RegistryProcess]:
    """One with passwords: whoever logs in may use everything."""
    accounts = {name: account for name, account in make_accounts(folder).items() if name}
    passwords = folder / "htpasswd"
    private_files.write(passwords, htpasswd(accounts.values()))
    auth = {"htpasswd": {"realm": "test", "path": str(passwords)}}
    with running_registry(root, folder, authority, auth=auth, accounts=accounts) as process:
        yield process


@contextlib.contextmanager
def running_token_registry(
    root: Path, folder: Path, authority: Authority, accounts: Mapping[str, Account] | None = None
) -> Iterator[RegistryProcess]:
    """One with a token service beside it, which gives these accounts (or those of `accounts.py`) what they may do."""
    accounts = accounts or make_accounts(folder)
    key = token_service.signing_key(folder)
    certificate = authority.issue(NAMES, folder / "tls")
    settings, jwks = folder / "tls" / "tokens.json", folder / "jwks.json"
    service = "registry on loopback"
    private_files.write(settings, token_service.settings(service, key, certificate, accounts.values()))
    jwks.write_text(token_service.jwks(key))
    address = _free_address()
    host, _, port = address.rpartition(":")
    command = [sys.executable, str(token_service.PROGRAM), str(settings), host, port]
    with _running(command, folder / "tokens.log", lambda: _accepts(host, int(port))):
        auth = {"token": token_service.registry_auth(address, service, str(jwks))}
        with running_registry(root, folder, authority, auth=auth, accounts=accounts) as process:
            yield process


@contextlib.contextmanager
def _running(command: Sequence[str], log: Path, answers: Callable[[], bool]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, env={**os.environ, "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not answers():
            if process.poll() is not None or time.monotonic() > end:
                raise NoRegistryError(f"{command[0]} does not start:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _free_address() -> str:
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _accepts(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=5):
        return True
    return False
