# SPDX-License-Identifier: Apache-2.0
"""The stage of the end-to-end tests: a kind cluster, an upstream registry, the operator installed as a user would."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster import Cluster, cache
from tests.support import private_registry
from tests.support.images import Image, never_seen
from tests.support.install import install
from tests.support.kube import Cache, Kube
from tests.support.private_registry import PrivateRegistry
from tests.support.starts import CACHE, IMAGES, SPACE, Starts
from tests.support.upstream import PORT, Upstream


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/e2e/" in item.path.as_posix():
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(600))


@pytest.fixture(scope="session")
def upstream(cluster: Cluster) -> Upstream:
    """The registry with all test images, as registry.test:5000 (and slow.test:5000, see `slow_link`)."""
    return Upstream.start(cluster, cache.home() / "upstream")


@pytest.fixture(scope="session")
def basic_registry(upstream: Upstream) -> PrivateRegistry:
    """basic.test:5000, which gives everything to whoever has a password."""
    return private_registry.start_basic(upstream, cache.home() / "private")


@pytest.fixture(scope="session")
def token_registry(upstream: Upstream) -> PrivateRegistry:
    """token.test:5000, which gives each account what its token of auth.test:5001 says."""
    return private_registry.start_token(upstream, cache.home() / "private")


@pytest.fixture(scope="session")
def kube(cluster: Cluster, upstream: Upstream) -> Kube:
    """The cluster with the operator of this working tree in it."""
    install(cluster, upstream.ca_pem)
    return Kube(cluster)


@pytest.fixture
def make_cache(kube: Kube, request: pytest.FixtureRequest) -> Iterator[Callable[..., Cache]]:
    """Makes ImageCaches and removes them after the test, whatever happened."""
    made: list[Cache] = []

    def make(name: str, *images: str, **spec: object) -> Cache:
        found = Cache(kube, name)
        made.append(found)
        found.apply(images, spec)
        return found

    yield make
    for found in made:
        found.delete()


@pytest.fixture(scope="package")
def space(kube: Kube) -> Iterator[str]:
    """A namespace of users that enforces `restricted`. Made once: it takes its time to go."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SPACE, "labels": labels}})
    account = ("-n", SPACE, "wait", "--for=create", "serviceaccount/default", "--timeout=60s")
    kube.cluster.kubectl(*account)  # Pods are refused before
    yield SPACE
    kube.cluster.kubectl("delete", "namespace", SPACE, "--timeout=120s")


@pytest.fixture
def starts(kube: Kube, upstream: Upstream, space: str) -> Iterator[Starts]:
    """Makes Pods in `space`, and removes them after the test, whatever happened."""
    found = Starts(kube, upstream, space)
    yield found
    found.remove()


@pytest.fixture(scope="session")
def large_image(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Image:
    """A layer that is small at its registry and large on a cache, where it lies decompressed: 64 MB that a node takes
    long enough to be interrupted."""
    image = never_seen(tmp_path_factory.mktemp("large"), "team/large:1", "the same again \n" * 2**22)
    upstream.pusher.push(image)
    return image


@pytest.fixture(scope="package")
def public_cache(kube: Kube, upstream: Upstream, large_image: Image) -> Iterator[Cache]:
    """The cache of which most Pods of tests start: Available, served, and as it was after each test."""
    images = [*map(upstream.reference, IMAGES), f"{upstream.host}:{PORT}/{large_image.name}"]
    with Cache(kube, CACHE).served(images) as found:
        yield found
