# SPDX-License-Identifier: Apache-2.0
"""Images of Docker Hub, whose names may be written in four ways: a cache that has one of them has all of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.cluster import cache as kept
from tests.support.docker_hub import docker_hub
from tests.support.images import Image, never_seen
from tests.support.kube import Cache, Kube, until
from tests.support.registry_container import RegistryContainer
from tests.support.starts import Starts, images_of, layers_asked, volumes
from tests.support.upstream import Upstream

CACHE = "e2e-docker-hub"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Image]:
    """Two, one of them `latest`. Docker Hub keeps what has no owner below library/."""
    found = []
    for tag in ("1.0", "latest"):
        word = uuid.uuid4().hex
        folder = tmp_path_factory.mktemp("hub")
        found.append(never_seen(folder, f"library/imagecache-test-{word[:12]}:{tag}", word))
    return found


@pytest.fixture(scope="module")
def hub(upstream: Upstream, images: list[Image]) -> Iterator[RegistryContainer]:
    with docker_hub(upstream, kept.home() / "hub", images) as found:
        yield found


def test_a_short_name_and_all_that_it_stands_for_are_one_image(
    hub: RegistryContainer, images: list[Image], kube: Kube, starts: Starts,
) -> None:
    numbered, latest = (image.repository.removeprefix("library/") for image in images)
    found = Cache(kube, CACHE)
    found.apply([f"{numbered}:1.0", latest])
    try:
        found.wait_for("Available")
        found.wait_until_served()
        until(lambda: starts.would_be_injected(f"{numbered}:1.0", CACHE), "the webhook knows the cache", 30)
        before = len(hub.access_log())
        started = starts.start(
            "short", f"docker.io/library/{numbered}:1.0", f"library/{numbered}:1.0", f"docker.io/{latest}:latest",
            f"index.docker.io/library/{latest}", latest, ask=CACHE,
        )
        assert len(volumes(started)) == 2, "each image once, whatever it is called"
        new = {image.own.layer_digests[-1] for image in images}
        assert layers_asked(hub, before, new) == set(), "no node can have them but from the cache"
        asked = "".join(hub.access_log()[before:])
        assert f"/v2/{images[0].repository}/manifests/" in asked, "what a name means is its registry's to say"
        assert {image_id.partition("@")[2] for _, image_id in images_of(started)} == {i.digest for i in images}
    finally:
        found.delete()
