# SPDX-License-Identifier: Apache-2.0
"""What happens when something goes away in the middle: the cache, the operator, the builder, the registry's image."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support import slow_link
from tests.support.kube import Cache, Kube, until
from tests.support.upstream import PORT, SLOW_HOST, Upstream


@pytest.fixture(scope="module")
def slow(kube: Kube, upstream: Upstream) -> Iterator[Callable[[str], str]]:
    """References of the same images over a link so slow that a build takes its time: about 12 MB in 15 s."""
    slow_link.start(kube.cluster, SLOW_HOST, upstream.host, PORT, 800_000)
    yield lambda name: f"{SLOW_HOST}:{PORT}/{name}"
    slow_link.stop(kube.cluster, SLOW_HOST)


def _is_pulling(cache: Cache) -> bool:
    return cache.condition("Ready").get("reason") == "Pulling"


def _nothing_left(kube: Kube, cache: Cache, uid: str) -> bool:
    return cache.object is None and not cache.children(uid)


def test_progress_moves_while_pulling(make_cache: Callable[..., Cache], slow: Callable[[str], str]) -> None:
    cache = make_cache("e2e-progress", slow("team/app:2.1"))
    until(lambda: _is_pulling(cache), "the builder pulls", 90)
    seen: set[str] = set()

    def moved() -> bool:
        seen.add(str(cache.status.get("progress")))
        return len([p for p in seen if p.endswith(" %") and p not in ("0 %", "100 %")]) >= 1

    until(moved, "progress is between 0 and 100 per cent", 60, lambda: str(seen))
    image = cache.status["images"][0]
    assert image["state"] in ("Pulling", "Pulled")
    cache.wait_for("Available")


def test_deleted_while_creating(kube: Kube, make_cache: Callable[..., Cache], slow: Callable[[str], str]) -> None:
    cache = make_cache("e2e-deleted-creating", slow("team/app:2.1"))
    until(lambda: _is_pulling(cache), "the builder pulls", 90)
    uid = cache.uid
    cache.delete()
    until(lambda: _nothing_left(kube, cache, uid), "nothing is left of the cache", 60)


def test_deleted_while_available(kube: Kube, make_cache: Callable[..., Cache], upstream: Upstream) -> None:
    cache = make_cache("e2e-deleted-available", upstream.reference("base/tools:1.0"))
    cache.wait_for("Available")
    uid = cache.uid
    cache.delete()
    until(lambda: _nothing_left(kube, cache, uid), "nothing is left of the cache", 60)


def test_operator_killed_during_a_build(
    kube: Kube, make_cache: Callable[..., Cache], slow: Callable[[str], str],
) -> None:
    cache = make_cache("e2e-killed-building", slow("team/app:2.1"))
    until(lambda: _is_pulling(cache), "the builder pulls", 90)
    builder = cache.builders()[0]["metadata"]["uid"]
    killed = kube.kill_operator()
    kube.operator_is_back(killed)
    # The same builder goes on; nobody starts another one beside it.
    assert [b["metadata"]["uid"] for b in cache.builders()] in ([builder], [])
    status = cache.wait_for("Available")
    assert status["attempt"]["number"] == 1
    until(lambda: not cache.builders(), "the builder Pod is removed", 30)


def test_operator_killed_during_a_deletion(
    kube: Kube, make_cache: Callable[..., Cache], slow: Callable[[str], str],
) -> None:
    cache = make_cache("e2e-killed-deleting", slow("team/app:2.1"))
    until(lambda: _is_pulling(cache), "the builder pulls", 90)
    uid = cache.uid
    # The object is in Deleting before the next operator has ever seen it: kopf starts no daemon for it then.
    kube.cluster.kubectl("delete", "imagecache", cache.name, "--wait=false")
    killed = kube.kill_operator()
    kube.operator_is_back(killed)
    until(lambda: _nothing_left(kube, cache, uid), "nothing is left of the cache", 90)


def test_builder_deleted_by_hand(
    kube: Kube, make_cache: Callable[..., Cache], slow: Callable[[str], str],
) -> None:
    """A second attempt follows, and does not fetch again what is there."""
    cache = make_cache("e2e-builder-deleted", slow("team/app:2.1"))  # the largest: kubectl must be faster
    # Told as soon as it runs. On a busy machine it might be done by the time that it is told to pull.
    until(lambda: cache.status.get("attempt", {}).get("state") == "Running", "the builder has been seen to run", 90)
    kube.delete("pod", cache.builders()[0]["metadata"]["name"], "imagecache-system", "--wait=false")
    status = cache.wait_for("Available")
    assert status["attempt"]["number"] == 2


def test_failing_images_are_all_named(make_cache: Callable[..., Cache], upstream: Upstream) -> None:
    good, missing = upstream.reference("base/tools:1.0"), f"{upstream.host}:{PORT}/base/tools:no-such-tag"
    gone = f"{upstream.host}:{PORT}/no/such-image:1"
    cache = make_cache("e2e-failing", good, missing, gone)
    status = cache.wait_for("Failed")
    assert cache.condition("Ready")["reason"] == "ImageFailed"
    assert cache.condition("Stalled")["status"] == "True"
    states = {i["reference"]: (i["state"], i.get("reason")) for i in status["images"]}
    assert states == {good: ("Pulled", None), missing: ("Failed", "NotFound"), gone: ("Failed", "NotFound")}
    assert missing in status["message"]
    assert gone in status["message"]
    assert good not in status["message"]
