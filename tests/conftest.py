# SPDX-License-Identifier: Apache-2.0
"""What suites share: a kind cluster for each process that asks, and which process has which tests."""

from __future__ import annotations

import os

import pytest

from tests.cluster import Cluster, up

# Not the demo's: a run of the tests ends by taking its clusters down.
NAME = os.environ.get("IMAGECACHE_TEST_CLUSTER", "imagecache-test")
HALVES = ("tests/e2e/building/", "tests/e2e/starting/")


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (`make test`), each half of the end-to-end tests is done by one, in the usual order: most
    of its time it waits. Those that only ask the API server are done by one too, for the sake of what they share."""
    for item in items:
        half = next((half for half in HALVES if half in item.path.as_posix()), None)
        if half is not None:
            item.add_marker(pytest.mark.xdist_group(half))
        elif item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.xdist_group("api-server"))


def cluster_name(worker: str) -> str:
    """The first process, and one that is alone, has the cluster that the Makefile has brought up."""
    return NAME if worker in ("", "gw0") else f"{NAME}-{worker}"


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A running cluster, which no other process uses. Cold, it takes a while to make, and says what it is doing past
    pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return up(cluster_name(os.environ.get("PYTEST_XDIST_WORKER", "")))
