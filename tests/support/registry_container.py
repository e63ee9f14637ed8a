# SPDX-License-Identifier: Apache-2.0
"""A registry as a container beside a cluster's nodes: nodes and Pods name it, the host uses a published port.

Called by `upstream`, which everybody may use, and by `private_registry`, which has two that ask who is there.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.cluster import Cluster

from .images import Image
from .push import Pusher
from .tls import Authority

PORT = 5000
FILES = "/files"  # where a container finds its own: certificate, passwords, keys
START_SECONDS = 30.0


@dataclass(frozen=True)
class RegistryContainer:
    """A registry that runs and holds images."""

    cluster: Cluster
    host: str  # as nodes and Pods resolve it
    pusher: Pusher  # for tests that push something of their own
    authority: Authority
    images: Mapping[str, Image]

    @property
    def address(self) -> str:
        """host:port as this process reaches it."""
        return self.pusher.address

    @property
    def ca_pem(self) -> bytes:
        return self.authority.ca_pem

    def reference(self, name: str) -> str:
        """What an ImageCache or a Pod writes for the image `name`."""
        return f"{self.host}:{PORT}/{self.images[name].name}"

    def digest(self, name: str) -> str:
        """The digest that the tag of `name` has."""
        return self.images[name].digest

    def access_log(self) -> list[str]:
        """A line for every request since the start: who pulled what, and how often."""
        return self.cluster.engine.docker("logs", f"{self.cluster.name}-{self.host}").splitlines()


def serve(
    cluster: Cluster,
    host: str,
    files: Path,
    authority: Authority,
    pusher: Callable[[str], Pusher],
    other_names: tuple[str, ...] = (),
    auth: Mapping[str, Mapping[str, str]] | None = None,
    port: int = PORT,
) -> Pusher:
    """Starts the registry, or takes the one that runs and lets `pusher` in; the nodes trust it. One a host name.

    `files` is the folder with what it reads. Bind mounts must work there, as they must for the cluster's own folder.
    """
    certificate, key = authority.issue(certificate_names(cluster, host, *other_names), files)
    environment = {
        "REGISTRY_HTTP_ADDR": f":{port}",
        "REGISTRY_HTTP_TLS_CERTIFICATE": f"{FILES}/{certificate.name}",
        "REGISTRY_HTTP_TLS_KEY": f"{FILES}/{key.name}",
        "REGISTRY_STORAGE_DELETE_ENABLED": "true",  # tests take images away to see what happens
        "OTEL_TRACES_EXPORTER": "none",
    }
    for kind, options in (auth or {}).items():
        environment["REGISTRY_AUTH"] = kind
        environment |= {f"REGISTRY_AUTH_{kind}_{option}".upper(): value for option, value in options.items()}
    running = published(cluster, host, port)
    if running is None or not pusher(running).answers():
        cluster.run_container(
            f"{cluster.name}-{host}",
            cluster.engine.image("registry"),
            alias=host,
            publish={port: 0},  # 0: the engine picks a free port of the host
            volumes={files: f"{FILES}:ro"},
            environment=environment,
        )
        running = wait(cluster, host, port, lambda address: pusher(address).answers())
    cluster.trust_registry(f"{host}:{port}", authority.ca_pem.decode())
    return pusher(running)


def certificate_names(cluster: Cluster, host: str, *others: str) -> list[str]:
    return list(dict.fromkeys([host, *others, "localhost", "127.0.0.1", cluster.host_address]))


def published(cluster: Cluster, host: str, port: int) -> str | None:
    """host:port at which this process reaches the container of `host`, if it runs."""
    ports = cluster.engine.docker("port", f"{cluster.name}-{host}", f"{port}/tcp", check=False).split()
    return f"{cluster.host_address}:{ports[0].rpartition(':')[2]}" if ports else None


def wait(cluster: Cluster, host: str, port: int, answers: Callable[[str], bool]) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        address = published(cluster, host, port)
        if address is not None and answers(address):
            return address
        time.sleep(0.2)
    said = cluster.engine.docker("logs", "--tail", "20", f"{cluster.name}-{host}", check=False)
    raise RuntimeError(f"{host} does not answer after {START_SECONDS:.0f} s\n{said}")


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """One process makes secrets and starts containers; others wait, then find them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
