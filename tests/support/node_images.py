# SPDX-License-Identifier: Apache-2.0
"""What a node has pulled, and making it forget: end-to-end tests and benchmarks start Pods on cold nodes with it.

By containerd's own client, which every kind node has. The kubelet hears of it: containerd's CRI plug-in follows the
image store.
"""

from __future__ import annotations

import re

from tests.cluster import Cluster

# Test registries and servers of caches, which have a port; what was loaded for the tests themselves has none.
_PULLED = re.compile(r"^(localhost|[a-z]+\.test):[0-9]+/")


def forget(cluster: Cluster, node: str) -> None:
    """Removes all that the node has pulled from test registries and caches, with the layers that nobody else needs.

    Whoever still runs from such an image goes on; its layers stay until it ends.
    """
    rows = [row.split()[:3] for row in cluster.on_node(node, f"{_CTR} images ls").splitlines()[1:]]
    # One image has several names: tag, digest, image ID. While one of them is left, so are its layers.
    doomed = {digest for name, _, digest in rows if _PULLED.match(name)}
    names = [name for name, _, digest in rows if digest in doomed]
    if names:
        cluster.on_node(node, f"{_CTR} images rm --sync {' '.join(names)} >/dev/null")


_CTR = "ctr --namespace k8s.io"
