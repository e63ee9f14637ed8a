# SPDX-License-Identifier: Apache-2.0
"""The registry that test images come from: a container beside a cluster's nodes, TLS with our own authority.

Nodes, Pods and ImageCaches name its images `registry.test:5000/team/app:2.1`; the host pushes to a published
port. Called by end-to-end tests, and as a program by `make demo`.
"""

from __future__ import annotations

from pathlib import Path

import click

from tests.cluster import cache, life
from tests.cluster.cluster import Cluster

from . import registry_container
from .images import make_images
from .push import Pusher
from .registry_container import RegistryContainer
from .tls import Authority

HOST = "registry.test"
SLOW_HOST = "slow.test"  # the same registry behind a slow link (`slow_link`); its certificate is good for both names
PORT = registry_container.PORT


class Upstream(RegistryContainer):
    """The registry with all test images, which everybody may pull."""

    @classmethod
    def start(cls, cluster: Cluster, folder: Path, host: str = HOST) -> Upstream:
        """Starts it, or takes the one that runs. `folder` keeps certificates and blobs, which one is enough of for all
        clusters."""
        with registry_container.lock(folder):
            authority = Authority.create(folder / "tls")
            pusher = registry_container.serve(
                cluster, host, folder / "server", authority,
                lambda address: Pusher(address, authority.ca_file), other_names=(SLOW_HOST,),
            )
        images = make_images(folder / "blobs")
        for image in images.values():
            pusher.push(image)
        return cls(cluster, host, pusher, authority, images)


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
