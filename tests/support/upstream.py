# SPDX-License-Identifier: Apache-2.0
"""The registry that test images come from: a container beside a cluster's nodes, TLS with our own authority.

Nodes, Pods and ImageCaches name its images `registry.test:5000/team/app:2.1`; the host pushes to a published
port. Called by end-to-end tests, and as a program by `make demo`.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from tests.cluster import cache, life
from tests.cluster.cluster import Cluster

from .images import Image, make_images
from .push import Pusher
from .tls import Authority

HOST = "registry.test"
SLOW_HOST = "slow.test"  # the same registry behind a slow link (`slow_link`); its certificate is good for both names
PORT = 5000
START_SECONDS = 30.0


@dataclass(frozen=True)
class Upstream:
    """A registry that runs and holds all test images."""

    cluster: Cluster
    host: str  # as nodes and Pods resolve it
    address: str  # host:port as this process reaches it
    authority: Authority
    images: Mapping[str, Image]

    @classmethod
    def start(cls, cluster: Cluster, folder: Path, host: str = HOST) -> Upstream:
        """Starts it, or takes the one that runs. `folder` keeps certificates and blobs. One a host name.

        Bind mounts must work there, as they must for the cluster's own folder. Clusters of one engine share a
        network, and a node may reach another cluster's registry: with one folder for all of them the
        certificates and the content are the same.
        """
        container = _container(cluster, host)
        with _lock(folder):
            authority = Authority.create(folder / "tls")
            address = _published(cluster, container)
            if address is None or not Pusher(address, authority.ca_file).answers():
                names = dict.fromkeys([host, SLOW_HOST, "localhost", "127.0.0.1", cluster.host_address])
                certificate, key = authority.issue(list(names), folder / "server")
                _run(cluster, container, host, certificate, key)
                address = _wait(cluster, container, authority)
        images = make_images(folder / "blobs")
        cluster.trust_registry(f"{host}:{PORT}", authority.ca_pem.decode())
        pusher = Pusher(address, authority.ca_file)
        for image in images.values():
            pusher.push(image)
        return cls(cluster, host, address, authority, images)

    @property
    def ca_pem(self) -> bytes:
        return self.authority.ca_pem

    @property
    def pusher(self) -> Pusher:
        """For tests that push something of their own."""
        return Pusher(self.address, self.authority.ca_file)

    def reference(self, name: str) -> str:
        """What an ImageCache or a Pod writes for the image `name`."""
        return f"{self.host}:{PORT}/{self.images[name].name}"

    def digest(self, name: str) -> str:
        """The digest that the tag of `name` has."""
        return self.images[name].digest

    def access_log(self) -> list[str]:
        """A line for every request since the start: who pulled what, and how often."""
        return self.cluster.engine.docker("logs", _container(self.cluster, self.host)).splitlines()


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One process makes the authority and starts the container; others wait, then find both."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _container(cluster: Cluster, host: str) -> str:
    return f"{cluster.name}-{host}"


def _run(cluster: Cluster, container: str, host: str, certificate: Path, key: Path) -> None:
    cluster.run_container(
        container,
        cluster.engine.image("registry"),
        alias=host,
        publish={PORT: 0},  # 0: the engine picks a free port of the host
        volumes={certificate.parent: "/tls:ro"},
        environment={
            "REGISTRY_HTTP_ADDR": f":{PORT}",
            "REGISTRY_HTTP_TLS_CERTIFICATE": f"/tls/{certificate.name}",
            "REGISTRY_HTTP_TLS_KEY": f"/tls/{key.name}",
            "REGISTRY_STORAGE_DELETE_ENABLED": "true",  # tests take images away to see what happens
            "OTEL_TRACES_EXPORTER": "none",
        },
    )


def _published(cluster: Cluster, container: str) -> str | None:
    """host:port of the registry's port, if the container runs."""
    ports = cluster.engine.docker("port", container, f"{PORT}/tcp", check=False).split()
    return f"{cluster.host_address}:{ports[0].rpartition(':')[2]}" if ports else None


def _wait(cluster: Cluster, container: str, authority: Authority) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        address = _published(cluster, container)
        if address is not None and Pusher(address, authority.ca_file).answers():
            return address
        time.sleep(0.2)
    said = cluster.engine.docker("logs", "--tail", "20", container, check=False)
    raise RuntimeError(f"the registry {container} does not answer after {START_SECONDS:.0f} s\n{said}")


@click.command()
@click.option("--name", default=life.DEFAULT_NAME, show_default=True, help="The cluster's name.")
def main(name: str) -> None:
    """Starts the registry beside a cluster that is up, and prints what it holds."""
    cluster = life.find(name)
    if cluster is None:
        raise click.ClickException(f"no cluster {name!r} is up; those that are: {', '.join(life.names()) or 'none'}")
    upstream = Upstream.start(cluster, cache.home() / "upstream")
    for image in upstream.images.values():
        megabytes = image.own.compressed_size / 1e6
        click.echo(f"{upstream.reference(image.name)}  {image.digest}  {megabytes:.1f} MB")


if __name__ == "__main__":
    main()
