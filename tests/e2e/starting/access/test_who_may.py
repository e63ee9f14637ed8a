# SPDX-License-Identifier: Apache-2.0
"""Whoever may use a private cache starts from it. Real registries that ask for passwords, real kubelets."""

from __future__ import annotations

import re
from collections.abc import Callable

from imagecache_operator import names

from tests.support import cold_node, pods
from tests.support.kube import Cache, Kube, Object, until
from tests.support.private_registry import PrivateRegistry
from tests.support.starts import layers_asked, volumes
from tests.support.upstream import Upstream

from .private import (
    CACHE,
    OTHER,
    OTHERS_IMAGE,
    OURS,
    SECRET,
    THEIRS,
    address,
    allow,
    answer,
    carrier,
    login,
    pull_secrets,
    works,
)


def test_ours_starts_from_it_and_the_registry_is_asked_for_no_layer(
    private: Cache, image: str, make: Callable[..., Object], kube: Kube, registry: PrivateRegistry, upstream: Upstream,
) -> None:
    assert private.condition("Served")["message"] == f"For 1 namespace ({OURS})"
    before = len(registry.access_log())
    manifest = make(image, OURS, cache=CACHE, imagePullSecrets=[{"name": "regcred"}])
    pods.runs(kube, manifest)
    pod = pods.running(kube, manifest)
    assert volumes(pod) == [f"{address(private)}/{carrier(private)}"]
    assert pull_secrets(pod) == ["regcred", SECRET]
    assert layers_asked(registry, before, upstream.images[OTHERS_IMAGE].own.layer_digests) == set()
    assert pod["status"]["containerStatuses"][0]["image"] == image


def test_pull_secrets_of_the_service_account_stay(
    private: Cache, image: str, make: Callable[..., Object], kube: Kube,
) -> None:
    kube.apply({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "puller", "namespace": OURS},
        "imagePullSecrets": [{"name": "regcred"}],
    })
    manifest = make(image, OURS, cache=CACHE, serviceAccountName="puller")
    pods.runs(kube, manifest)
    assert pull_secrets(pods.running(kube, manifest)) == ["regcred", SECRET]


def test_a_namespace_that_is_admitted_later_starts_from_it_too(
    kube: Kube, other: Cache, image: str, upstream: Upstream, make: Callable[..., Object],
) -> None:
    allow(other, [THEIRS, OURS])
    try:
        works(kube, OURS, other)
        manifest = make(upstream.reference(OTHERS_IMAGE), OURS, cache=OTHER)
        pods.runs(kube, manifest)
        assert len(volumes(pods.running(kube, manifest))) == 1
    finally:
        allow(other, [THEIRS])


def test_after_the_key_was_thrown_away(private: Cache, image: str, make: Callable[..., Object], kube: Kube) -> None:
    """What a person does after a leak."""
    before = works(kube, OURS, private)
    kube.delete("secret", names.ACCESS_KEY_SECRET)
    restart = "imagecache.dev/retry=e2e-access"  # else the look comes within minutes
    private.annotate(restart)
    until(lambda: login(kube, OURS, private) not in (None, before), "there is another password", 60)
    works(kube, OURS, private)
    until(lambda: answer(kube, f"{address(private)}/v2/", before) == "401", "the old one is dead", 100)
    manifest = make(image, OURS, cache=CACHE, imagePullSecrets=[{"name": "regcred"}])
    pods.runs(kube, manifest)
    assert cold_node.knows(kube.cluster, kube.cluster.nodes[0], re.escape(f"{address(private)}/"))
