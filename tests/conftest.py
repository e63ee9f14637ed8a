# SPDX-License-Identifier: Apache-2.0
"""What suites share: the kind cluster, brought up once for whoever asks first, and that one process has it."""

from __future__ import annotations

import os

import pytest

from tests.cluster import Cluster, up

# Not the demo's: a run of the tests ends by taking its cluster down.
NAME = os.environ.get("IMAGECACHE_TEST_CLUSTER", "imagecache-test")


@pytest.hookimpl(tryfirst=True)  # before xdist looks for groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With several processes (`make test`), one of them has all that needs the cluster for itself, in the usual order;
    most of its time it waits, while another asks its API server about things that nobody else looks at, and does the
    rest."""
    for item in items:
        path = item.path.as_posix()
        if "tests/e2e/" in path or "tests/life/" in path:
            item.add_marker(pytest.mark.xdist_group("cluster"))
        elif item.get_closest_marker("e2e"):
            item.add_marker(pytest.mark.xdist_group("api-server"))


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A running cluster. Cold, it takes a while to make, and says what it is doing past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return up(NAME)
