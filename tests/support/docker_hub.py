# SPDX-License-Identifier: Apache-2.0
"""A registry beside the cluster that nodes and builders take for Docker Hub, for as long as a test lasts.

Only there do image names have a host that nobody writes, and a registry that has another name than they say: images of
docker.io come from registry-1.docker.io. Called by end-to-end tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import registry_container
from .images import Image
from .push import Pusher
from .registry_container import RegistryContainer
from .upstream import Upstream

NAME, HOST, PORT = "docker.io", "registry-1.docker.io", 443


@contextmanager
def docker_hub(upstream: Upstream, folder: Path, images: Iterable[Image]) -> Iterator[RegistryContainer]:
    """It has the authority of `upstream` and these images, and is gone at the end: the real one may be needed."""
    cluster, authority = upstream.cluster, upstream.authority
    try:
        with registry_container.lock(folder):
            pusher = registry_container.serve(
                cluster, HOST, folder / "server", authority, lambda address: Pusher(address, authority.ca_file),
                port=PORT,
            )
        cluster.trust_registry(NAME, authority.ca_pem.decode(), at=HOST)
        there = {image.name: image for image in images}
        for image in there.values():
            pusher.push(image)
        yield RegistryContainer(cluster, HOST, pusher, authority, there)
    finally:
        cluster.distrust_registry(NAME)
        cluster.distrust_registry(f"{HOST}:{PORT}")
        cluster.remove_container(f"{cluster.name}-{HOST}")
