# SPDX-License-Identifier: Apache-2.0
"""The registries of the benchmark of starts, beside the cluster's nodes: one with the images, the same behind a link of
100 Mbit/s, and what many people have instead of a cache, a registry that pulls through. Called by `start`.

They are of its own, not the tests': when it ends, the images' gigabytes go with the containers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.cluster import Cluster
from tests.support import registry_container, slow_link
from tests.support.images import Image
from tests.support.layers import store
from tests.support.push import Pusher
from tests.support.registry_container import FILES, PORT
from tests.support.tls import Authority

NEAR, SLOW, MIRROR = "bench.test", "bench-slow.test", "bench-mirror.test"
LINK = 12_500_000  # bytes a second: 100 Mbit/s


@dataclass(frozen=True)
class Registries:
    """All three run. The mirror pulls over the slow link."""

    cluster: Cluster
    files: Path
    certificate: str
    key: str

    def reference(self, host: str, image: Image) -> str:
        return f"{host}:{PORT}/{image.name}"

    def empty_mirror(self) -> None:
        """Starts it anew: with its container goes all that it has stored."""
        self.cluster.run_container(
            _container(self.cluster, MIRROR), self.cluster.engine.image("registry"), alias=MIRROR, publish={PORT: 0},
            volumes={self.files: f"{FILES}:ro"},
            environment={
                "REGISTRY_HTTP_ADDR": f":{PORT}",
                "REGISTRY_HTTP_TLS_CERTIFICATE": f"{FILES}/{self.certificate}",
                "REGISTRY_HTTP_TLS_KEY": f"{FILES}/{self.key}",
                "REGISTRY_PROXY_REMOTEURL": f"https://{SLOW}:{PORT}",
                "SSL_CERT_FILE": f"{FILES}/ca.crt",
                "OTEL_TRACES_EXPORTER": "none",
            },
        )
        ca_file = self.files / "ca.crt"
        registry_container.wait(self.cluster, MIRROR, PORT, lambda address: Pusher(address, ca_file).answers())


@contextmanager
def running(cluster: Cluster, authority: Authority, folder: Path, images: Sequence[Image]) -> Iterator[Registries]:
    """The registries with these images in them, and nothing of them afterwards. `folder` keeps certificates."""
    remove(cluster)  # what a killed run left
    try:
        pusher = registry_container.serve(
            cluster, NEAR, folder, authority, lambda address: Pusher(address, authority.ca_file),
            other_names=(SLOW, MIRROR),
        )
        for image in images:
            pusher.push(image)
        slow_link.start(cluster, SLOW, NEAR, PORT, LINK)
        for host in (SLOW, MIRROR):
            cluster.trust_registry(f"{host}:{PORT}", authority.ca_pem.decode())
        store(folder / "ca.crt", authority.ca_pem)
        certificate, key = authority.issue(
            registry_container.certificate_names(cluster, NEAR, SLOW, MIRROR), folder,
        )
        registries = Registries(cluster, folder, certificate.name, key.name)
        registries.empty_mirror()
        yield registries
    finally:
        remove(cluster)


def remove(cluster: Cluster) -> None:
    for host in (MIRROR, SLOW, NEAR):
        cluster.remove_container(_container(cluster, host))
        for node in cluster.nodes:
            cluster.on_node(node, f"rm -rf /etc/containerd/certs.d/{host}:{PORT}")


def _container(cluster: Cluster, host: str) -> str:
    return f"{cluster.name}-{host}"
