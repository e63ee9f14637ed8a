# SPDX-License-Identifier: Apache-2.0
"""At the edges of what a spec may say: the longest name, the most images, more than any volume holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from imagecache_operator import names

from tests.support.images import declare_larger
from tests.support.kube import Cache, until
from tests.support.upstream import PORT, Upstream

MOST_IMAGES = 20


def test_the_longest_name(make_cache: Callable[..., Cache], upstream: Upstream) -> None:
    """Too long for labels and for names of Pods and volumes: nothing but annotations may carry it."""
    name = "e" + "2" * 126 + "e"
    cache = make_cache(name, upstream.reference("base/tools:1.0"))
    cache.wait_for("Available")
    assert cache.volume()["metadata"]["annotations"][names.ANNOTATION_CACHE_NAME] == name
    events = [e for e in cache.kube.list("events", namespace="default") if e["involvedObject"]["name"] == name]
    assert "Available" in {e["reason"] for e in events}
    uid = cache.uid
    cache.delete()
    until(lambda: cache.object is None and not cache.children(uid), "nothing is left of the cache", 60)


def test_the_most_images(make_cache: Callable[..., Cache], upstream: Upstream) -> None:
    source = upstream.images["base/tools:1.0"]
    images = [f"many/image-{number}:{'t' * 100}" for number in range(MOST_IMAGES)]
    for image in images:
        upstream.pusher.push(dataclasses.replace(source, name=image))
    cache = make_cache("e2e-most-images", *(f"{upstream.host}:{PORT}/{image}" for image in images))
    status = cache.wait_for("Available")
    assert [i["digest"] for i in status["images"]] == [source.digest] * MOST_IMAGES
    row = cache.kube.cluster.kubectl("get", "imc", cache.name, "--no-headers").split()
    assert row[:3] == [cache.name, "Available", str(MOST_IMAGES)]


def test_an_image_that_cannot_fit_is_refused_before_its_first_layer(
    make_cache: Callable[..., Cache], upstream: Upstream,
) -> None:
    large = declare_larger(upstream.images["base/tools:1.0"], "large/than-any:1", 15 * 2**30)
    upstream.pusher.push(large)
    before = len(upstream.access_log())
    reference = f"{upstream.host}:{PORT}/{large.name}"
    cache = make_cache("e2e-too-large", reference)
    status = cache.wait_for("Failed")
    assert cache.condition("Ready")["reason"] == "DoesNotFit"
    assert status["images"][0]["reason"] == "DoesNotFit"
    assert "imageCacheSize" in status["message"]
    asked = [line for line in upstream.access_log()[before:] if "large/than-any" in line]
    assert [line for line in asked if "/manifests/" in line], "the builder was there"
    assert not [line for line in asked for digest in large.own.layer_digests if digest in line]
