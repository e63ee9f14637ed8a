# SPDX-License-Identifier: Apache-2.0
"""The one thing that suites share: the kind cluster, brought up once for whoever asks first."""

from __future__ import annotations

import os

import pytest

from tests.cluster import Cluster, up

# Not the demo's: a run of the tests ends by taking its cluster down.
NAME = os.environ.get("IMAGECACHE_TEST_CLUSTER", "imagecache-test")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """A running cluster. Cold, it takes a while to make, and says what it is doing past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return up(NAME)
