# SPDX-License-Identifier: Apache-2.0
"""The caches kept ready: what was listed, and what has happened since."""

from __future__ import annotations

from imagecache_operator.admission.store import Store

from tests.unit.planning.offers import TRAIN, cache


def seen(store: Store) -> dict[str, str] | None:
    return None if store.offers is None else {o.cache: o.unusable for o in store.offers}


def test_nothing_is_known_before_the_first_list() -> None:
    store = Store()
    assert seen(store) is None
    store.replace([])
    assert seen(store) == {}


def test_it_follows_what_happens() -> None:
    store = Store()
    store.replace([cache("a", TRAIN), cache("b", TRAIN)])
    store.changed(cache("a", TRAIN, spec={"serve": False}))
    store.changed(cache("c", TRAIN))
    store.deleted(cache("b", TRAIN))
    store.deleted(cache("never", TRAIN))
    assert seen(store) == {"a": "is not to be served (spec.serve is false)", "c": ""}
    store.replace([cache("b", TRAIN)])
    assert seen(store) == {"b": ""}


def test_who_reads_has_one_whole_state() -> None:
    store = Store()
    store.replace([cache("a", TRAIN)])
    before = store.offers
    assert before is not None
    store.deleted(cache("a", TRAIN))
    assert [o.cache for o in before] == ["a"]


def test_what_no_version_of_ours_wrote_is_a_cache_that_cannot_be_used() -> None:
    store = Store()
    broken = cache("a", TRAIN)
    broken |= {"spec": "no object", "status": ["no", "object"]}
    store.replace([broken, cache("b", TRAIN)])
    assert seen(store) == {"a": "has a spec that breaks the rules", "b": ""}
