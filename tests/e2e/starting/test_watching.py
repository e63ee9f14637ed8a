# SPDX-License-Identifier: Apache-2.0
"""List and watch on a real API server: what it sends is what the webhook's store understands."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from imagecache_operator import names
from imagecache_operator.admission.store import Store
from imagecache_operator.cluster.client import Client
from imagecache_operator.cluster.watching import follow, follow_metadata
from kubernetes import client, config

from tests.support.kube import Cache, Kube, until


@pytest.fixture
def api(kube: Kube) -> Client:
    configuration = client.Configuration()
    config.load_kube_config(str(kube.cluster.kubeconfig), client_configuration=configuration)
    return Client(configuration, connections=2)


def known(store: Store, name: str) -> str | None:
    """Why the cache cannot be used; None while it is not known."""
    return next((o.unusable for o in store.offers or () if o.cache == name), None)


def test_the_store_follows_the_cluster(api: Client, make_cache: Callable[..., Cache]) -> None:
    store, stop = Store(), threading.Event()
    for what, arguments in (
        (follow, (api, names.KIND, store.caches, stop)), (follow_metadata, (api, "Namespace", store.namespaces, stop)),
    ):
        threading.Thread(target=what, args=arguments, daemon=True).start()
    try:
        until(lambda: store.offers is not None, "caches and namespaces are listed")
        assert store.namespace("kube-system").labels
        cache = make_cache("watched", "registry.test:5000/team/none:1", serve=False)
        until(lambda: known(store, "watched") == "is not to be served (spec.serve is false)", "it is seen")
        cache.delete("--wait=false")
        until(lambda: known(store, "watched") is None, "its end is seen", 180)
    finally:
        stop.set()


def test_a_watch_ends_by_itself(api: Client) -> None:
    _, version = api.list_versioned(names.KIND)
    assert all(kind in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK") for kind, _ in api.watch(names.KIND, version, 1))
