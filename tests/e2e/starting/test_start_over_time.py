# SPDX-License-Identifier: Apache-2.0
"""Pods start whatever becomes of their cache, and from it again as soon as there is one. Its name is as long as it may
be, so that all that carries it is seen to have room."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from imagecache_operator import names
from imagecache_operator.api.imagecache import MAX_NAME_LENGTH

from tests.support import as_operator
from tests.support.kube import NAMESPACE, Cache, Kube, Object, until
from tests.support.starts import Starts, reason, volumes
from tests.support.upstream import Upstream

IMAGE = "data/only:5"
LONGEST = f"e2e-{'n' * (MAX_NAME_LENGTH - 4)}"
# A namespace is a label of DNS. Kubelet keeps a Pod's logs in a folder called <namespace>_<name>_<UID>, and 255
# characters are all that a file system takes: so no Pod with a longer name runs in such a namespace, whoever makes it.
NAMESPACE_OF_USERS = f"e2e-{'s' * 59}"
RUNS = "p" * (255 - len(NAMESPACE_OF_USERS) - 36 - 2)
POD = "p" * 253  # the API server's limit


@pytest.fixture(scope="module")
def cache(kube: Kube, upstream: Upstream) -> Iterator[Cache]:
    found = Cache(kube, LONGEST)
    made(found, upstream)
    yield found
    found.delete()


def made(cache: Cache, upstream: Upstream) -> None:
    cache.apply([upstream.reference(IMAGE)], {"retentionDays": 1, "onExpiry": "Delete"})
    try:
        cache.wait_for("Available")
        cache.wait_until_served()
    except AssertionError:
        cache.delete()
        raise


@pytest.fixture
def long_namespace(kube: Kube) -> Iterator[str]:
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE_OF_USERS}})
    account = ("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    kube.cluster.kubectl("-n", NAMESPACE_OF_USERS, *account)
    yield NAMESPACE_OF_USERS
    kube.cluster.kubectl("delete", "namespace", NAMESPACE_OF_USERS, "--wait=false")


def test_names_at_their_limits(
    cache: Cache, kube: Kube, upstream: Upstream, long_namespace: str,
) -> None:
    there = Starts(kube, upstream, long_namespace)
    wanted, image = there.manifest(POD, there.reference(IMAGE), ask=LONGEST), there.reference(IMAGE)
    until(lambda: there.would_be_injected(image, LONGEST), "the webhook knows the cache", 30)
    assert len(volumes(there.dry_run(wanted))) == 1
    there.forget(IMAGE)
    before = there.logged()
    try:
        started = there.start(RUNS, image, ask=LONGEST)
        assert started["metadata"]["annotations"][names.ANNOTATION_INJECTED] == LONGEST
        assert there.layers_asked(before, IMAGE) == set()
        # Its use is told of the cache, and a miss of the Pod: both are named by UIDs.
        until(lambda: "lastUsedTime" in cache.status, "the use is in status", 30)
        there.create(f"{RUNS[:-1]}m", image, ask=f"{LONGEST[:-1]}m")
        until(lambda: told(there, f"{RUNS[:-1]}m"), "the miss is told of the Pod", 30)
    finally:
        there.remove()


def told(starts: Starts, name: str) -> bool:
    return any(e["reason"] == "NotInjected" for e in starts.events(name))


def test_pods_start_before_during_and_after(cache: Cache, starts: Starts, kube: Kube, upstream: Upstream) -> None:
    """The volume is lost, the cache is built anew, it expires and is deleted, and is made again."""
    image = starts.reference(IMAGE)

    def starts_from_it(name: str) -> None:
        until(lambda: starts.would_be_injected(image, LONGEST), "the webhook knows that the cache is served", 30)
        starts.remove()
        starts.forget(IMAGE)
        before = starts.logged()
        assert len(volumes(starts.start(name, image, ask=LONGEST))) == 1
        assert starts.layers_asked(before, IMAGE) == set()

    def starts_all_the_same(name: str) -> Object:
        """On a cold node. Whether the webhook knows already what has just happened is left to chance."""
        starts.remove()
        starts.forget(IMAGE)
        return starts.start(name, image, ask=LONGEST)

    starts_from_it("before")
    kube.delete("pvc", cache.volume()["metadata"]["name"], NAMESPACE, "--wait=false")
    starts_all_the_same("while-the-volume-goes")
    cache.wait_for("Unavailable")
    until(lambda: not starts.would_be_injected(image, LONGEST), "the webhook knows that the cache is lost", 30)
    assert "is Unavailable" in reason(starts_all_the_same("without-the-volume"))
    cache.annotate(f"{names.ANNOTATION_RETRY}=once")
    starts_all_the_same("while-it-is-built")
    cache.wait_for("Available")
    cache.wait_until_served()
    starts_from_it("when-it-is-built")

    uid = cache.uid
    as_operator.the_day_after_tomorrow(kube).run_once(cache.name, uid)
    starts_all_the_same("while-it-is-deleted")
    until(lambda: cache.object is None and not cache.children(uid), "the expired cache leaves nothing", 60)
    until(lambda: "there is no ImageCache" in reason(starts.dry_run(starts.manifest("probe", image, ask=LONGEST))),
          "the webhook knows that it is gone", 30)
    assert volumes(starts_all_the_same("when-it-is-gone")) == []

    made(cache, upstream)
    starts_from_it("when-it-is-made-again")
