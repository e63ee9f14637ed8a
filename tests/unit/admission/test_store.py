# SPDX-License-Identifier: Apache-2.0
"""Caches and namespaces kept ready: what was listed, and what has happened since."""

from __future__ import annotations

from typing import Any

from imagecache_operator.admission.store import Store
from imagecache_operator.planning.observed import Namespace

from tests.unit.planning.offers import CREATED, TRAIN, cache


def store_with(*caches: dict[str, Any]) -> Store:
    store = Store()
    store.namespaces.replace([])
    store.caches.replace(list(caches))
    return store


def seen(store: Store) -> dict[str, str] | None:
    return None if store.offers is None else {o.cache: o.unusable for o in store.offers}


def namespace(name: str, **labels: str) -> dict[str, Any]:
    return {"metadata": {
        "name": name, "uid": f"uid-of-{name}", "labels": labels, "creationTimestamp": CREATED.isoformat(),
    }}


def test_nothing_is_known_before_both_are_listed() -> None:
    for order in (("caches", "namespaces"), ("namespaces", "caches")):
        store = Store()
        assert seen(store) is None
        for part in order:
            assert seen(store) is None
            getattr(store, part).replace([])
        assert seen(store) == {}


def test_it_follows_what_happens_to_caches() -> None:
    store = store_with(cache("a", TRAIN), cache("b", TRAIN))
    store.caches.changed(cache("a", TRAIN, spec={"serve": False}))
    store.caches.changed(cache("c", TRAIN))
    store.caches.deleted(cache("b", TRAIN))
    store.caches.deleted(cache("never", TRAIN))
    assert seen(store) == {"a": "is not to be served (spec.serve is false)", "c": ""}
    store.caches.replace([cache("b", TRAIN)])
    assert seen(store) == {"b": ""}


def test_it_follows_what_happens_to_namespaces() -> None:
    store = store_with()
    store.namespaces.replace([namespace("a", tier="gold"), namespace("b")])
    assert store.namespace("a") == Namespace("a", "uid-of-a", {"tier": "gold"}, CREATED)
    store.namespaces.changed(namespace("b", tier="iron"))
    store.namespaces.changed(namespace("c", tier="lead"))
    store.namespaces.deleted(namespace("a"))
    assert [store.namespace(name).labels for name in "abc"] == [None, {"tier": "iron"}, {"tier": "lead"}]


def test_of_a_namespace_that_is_not_known_yet_the_name_counts() -> None:
    without = {"matchExpressions": [{"key": "closed", "operator": "DoesNotExist"}]}
    allowed = {"names": ["new"], "selector": without}
    store = store_with(cache("ml", TRAIN, spec={"allowedNamespaces": allowed}))
    offers = store.offers
    assert offers is not None
    assert [n for n in ("new", "other") if offers[0].admitted.has(store.namespace(n))] == ["new"]


def test_a_namespace_without_labels() -> None:
    store = store_with()
    for_a, for_b = namespace("a"), namespace("b")
    del for_a["metadata"]["labels"]
    for_b["metadata"]["labels"] = None
    store.namespaces.replace([for_a, for_b])
    assert [store.namespace(name).labels for name in "ab"] == [{}, {}]


def test_who_reads_has_one_whole_state() -> None:
    store = store_with(cache("a", TRAIN))
    before = store.offers
    assert before is not None
    store.caches.deleted(cache("a", TRAIN))
    assert [o.cache for o in before] == ["a"]


def test_what_no_version_of_ours_wrote_is_a_cache_that_cannot_be_used() -> None:
    broken = cache("a", TRAIN)
    broken |= {"spec": "no object", "status": ["no", "object"]}
    store = store_with(broken, cache("b", TRAIN))
    assert seen(store) == {"a": "has a spec that breaks the rules", "b": ""}
