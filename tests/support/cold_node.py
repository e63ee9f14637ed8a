# SPDX-License-Identifier: Apache-2.0
"""Makes a node as cold as one that is new: it forgets images, and what was unpacked of them.

Called by those who compare starts: the demo and the benchmark. By `ctr`, which every kind node has.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence

from tests.cluster import Cluster

from .kube import until

# What nodes have from the registries of tests and from caches; the operator's own images come from neither.
FROM_TESTS = r"[\w-]+\.test:\d+/|localhost:\d+/|imc-[\w-]+\.caches\.test/|docker\.io/library/imagecache-test-"
_CTR = "ctr --namespace k8s.io"
_SECONDS = 60


def forget(cluster: Cluster, node: str, references: str, layers: Iterable[Sequence[str]]) -> None:
    """Removes the images whose reference begins like the regular expression `references`, and waits until nothing is
    left of `layers`: the diff_ids of each image, in order.

    Raises AssertionError if something is: a Pod or another image still uses it.
    """
    names = referring(cluster.on_node(node, f"{_CTR} images ls"), references)
    if names:
        cluster.on_node(node, f"{_CTR} images rm {' '.join(names)} >/dev/null")
    chains = {chain for diff_ids in layers for chain in chain_ids(diff_ids)}

    def left() -> list[str]:
        # containerd collects its garbage when it likes; at the end of a lease that is waited for, at once. (`content
        # prune` would also take the layers of other images, which are on the node but not unpacked yet.)
        collect = f"{_CTR} leases rm --sync $({_CTR} leases create) >/dev/null"
        listed = cluster.on_node(node, f"{collect}\n{_CTR} snapshots ls")
        return sorted(chains & set(re.findall(r"sha256:[0-9a-f]{64}", listed)))

    until(lambda: not left(), f"{node} has forgotten the layers", _SECONDS, lambda: f"still there: {left()[:3]}")


def knows(cluster: Cluster, node: str, references: str) -> bool:
    """Whether the node has an image whose reference begins like that."""
    return bool(referring(cluster.on_node(node, f"{_CTR} images ls"), references))


def referring(listing: str, references: str) -> list[str]:
    """From what `ctr images ls` prints: those images under all of their names, one of which is the config's digest."""
    rows = [line.split() for line in listing.splitlines()[1:]]
    targets = {row[2] for row in rows if re.match(references, row[0])}
    return [row[0] for row in rows if row[2] in targets]


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The names under which containerd keeps what it unpacks: each stands for a layer and for all below it."""
    chains: list[str] = []
    for diff_id in diff_ids:
        below = f"{chains[-1]} {diff_id}" if chains else None
        chains.append(f"sha256:{hashlib.sha256(below.encode()).hexdigest()}" if below else diff_id)
    return chains
