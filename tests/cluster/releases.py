# SPDX-License-Identifier: Apache-2.0
"""The Kubernetes releases that the cluster can run, and which one it does run: one table, read by everything here."""

from __future__ import annotations

import os
from dataclasses import dataclass

from .progress import ClusterError

DEFAULT = "v1.37.2"


@dataclass(frozen=True)
class Release:
    """What differs between releases.

    `node_image` is one of those that kind v0.33.0 was released with: there is one for each minor release, so the patch
    may be another one than `kubernetes`, which is what we build ourselves. By digest, as kind asks for.
    etcd, coredns and pause are the *names* that this release's kubeadm asks for. Where we build the node image,
    the binaries behind these names are the versions in go/etcd and go/coredns: the same for all releases.
    """

    kubernetes: str
    go_module: str  # folder below go/
    etcd: str
    coredns: str
    pause: str
    node_image: str  # where a Docker engine can pull


RELEASES = {
    release.kubernetes: release
    for release in (
        Release(
            "v1.37.2",
            "kubernetes-1.37",
            "3.7.0-0",
            "v1.14.6",
            "3.10.2",
            "kindest/node:v1.37.0@sha256:a1ed56cfb0e7b93589bdf97c8cd566405a265939e3620fc4f5de89adff580ae5",
        ),
        Release(
            "v1.36.3",
            "kubernetes-1.36",
            "3.6.8-0",
            "v1.14.2",
            "3.10.2",
            "kindest/node:v1.36.4@sha256:099e049362a1526b2db71494e1947aae99bd16290d7c895f2b7ea312e3cbfaed",
        ),
    )
}


def chosen() -> Release:
    """IMAGECACHE_KUBERNETES picks the release; IMAGECACHE_NODE_IMAGE another image for it, on a Docker engine."""
    wanted = os.environ.get("IMAGECACHE_KUBERNETES") or DEFAULT
    if wanted not in RELEASES:
        raise ClusterError(f"IMAGECACHE_KUBERNETES={wanted}: known releases are {', '.join(RELEASES)}")
    return RELEASES[wanted]
