# SPDX-License-Identifier: Apache-2.0
"""The two stages of the suite. The real one needs the kind cluster (marker e2e)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import pytest
from imagecache_operator.cluster.api import RESOURCES, Api

from .stages import DOUBLE, MemoryStage, RealStage, Stage, define_double

_numbers = itertools.count(1)


@pytest.fixture(scope="module", params=["memory", pytest.param("real", marks=pytest.mark.e2e)])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    define_double()
    if request.param == "memory":
        yield MemoryStage()
    else:
        real = RealStage(request.getfixturevalue("cluster"))
        yield real
        real.close()
    del RESOURCES[DOUBLE]


@pytest.fixture
def api(stage: Stage) -> Api:
    return stage.api


@pytest.fixture
def name() -> Callable[[], str]:
    """Makes names that no other test uses."""
    return lambda: f"thing-{next(_numbers)}"
