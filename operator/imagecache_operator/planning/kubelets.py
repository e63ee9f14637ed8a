# SPDX-License-Identifier: Apache-2.0
"""What the cluster's kubelets are too old for. Pure; `webhook.py` asks before Pods are injected, and whoever serves
private caches asks before that.

Each answer is for the whole cluster, because nobody knows beforehand on which node a Pod will land: one kubelet that is
too old is enough. The words say which one, as part of a sentence; empty ones mean that nothing is in the way.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from imagecache_operator.api.text import printable
from imagecache_operator.planning.observed import Kubelet
from imagecache_operator.settings import Injection

Version = tuple[int, int]

# Image volumes are on by default. Before, the API server or the kubelet may not know them, and no such Pod starts.
IMAGE_VOLUMES = (1, 35)
# A Pod that has not the credentials of an image does not get it for the only reason that it is on the node already.
CHECKS_CREDENTIALS = (1, 35)
# Image volumes are looked at when a container starts, not at each sync with an event each time
# (kubernetes/kubernetes#138644).
LOOKS_ONCE = (1, 37)

# What follows the numbers is the distribution's (-eks-…, +k3s1, -gke.…), but for what is not finished yet.
_VERSION = re.compile(r"v?([0-9]{1,4})\.([0-9]{1,4})(?![0-9])(\.[0-9]+-(?:alpha|beta)\b)?", re.ASCII)


def why_no_injection(injection: Injection, kubelets: Collection[Kubelet]) -> str:
    """Why Pods are not injected; empty where they are. `injection` is the setting."""
    if injection is Injection.OFF:
        return "the settings say so"
    return why_not_at_all(kubelets) if injection is Injection.ON else why_not_by_default(kubelets)


def why_not_by_default(kubelets: Collection[Kubelet]) -> str:
    """Why Pods are not injected unless somebody asks for it."""
    for kubelet in kubelets:
        if kubelet.virtual:
            return f"node {kubelet.node} is virtual, and may take no Pod with an image volume"
    return _too_old(kubelets, LOOKS_ONCE, unknown=True)


def why_not_at_all(kubelets: Collection[Kubelet]) -> str:
    """Why Pods are not injected even where somebody asks for it: it would keep them from starting. Of what cannot be
    judged here, that person knows more."""
    return _too_old(kubelets, IMAGE_VOLUMES, unknown=False)


def why_not_private(kubelets: Collection[Kubelet]) -> str:
    """Why nodes may not take private images from a cache: Pods of others could use them there.

    Virtual nodes do not count: what they run is elsewhere, and nothing there takes images from a cache.
    """
    return _too_old(kubelets, CHECKS_CREDENTIALS, unknown=True)


def version(text: str) -> Version | None:
    """Major and minor. An alpha or beta of a version is taken for the one before: it may not have all of it yet."""
    found = _VERSION.match(text)
    return (int(found[1]), int(found[2]) - bool(found[3])) if found else None


def _too_old(kubelets: Collection[Kubelet], wanted: Version, *, unknown: bool) -> str:
    if not kubelets:
        return "the cluster has no nodes yet" if unknown else ""
    needed = ".".join(map(str, wanted))
    for kubelet in _oldest_first(k for k in kubelets if not k.virtual):
        found = version(kubelet.version)
        if found is None and unknown:
            return f"the kubelet of node {kubelet.node} names no version that can be read, and {needed} is needed"
        if found is not None and found < wanted:
            return f"the kubelet of node {kubelet.node} is {printable(kubelet.version, 60)}, and {needed} is needed"
    return ""


def _oldest_first(kubelets: Iterable[Kubelet]) -> list[Kubelet]:
    """Those that say nothing first. The same each time, so that the words stay the same."""
    return sorted(kubelets, key=lambda k: (version(k.version) or (0, 0), k.version, k.node))
