# SPDX-License-Identifier: Apache-2.0
"""Layers that unpack for ever, on a volume whose file system is smaller than what was asked for."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.layout import Layout

from tests.support.small_volume import small_volume

from .conftest import GIB, Run
from .content import OCI_TAR, Bench, image_of, packed
from .faulty import FaultyRegistry


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    with small_volume(tmp_path / "small", size=8 * 2**20) as small:
        yield small.path


@pytest.mark.parametrize("bomb", [
    packed(bytes(10_000_000)) * 300, zstandard.compress(bytes(100_000_000)) * 1000,
], ids=["gzip", "zstd"])
def test_they_stop_at_the_free_space(
    bomb: bytes, faulty: FaultyRegistry, run: Run, volume: Path, output: io.StringIO,
) -> None:
    reference = faulty.add("bomb", image_of(bomb, b"no", OCI_TAR))
    Bench(faulty, run, volume, output).refuses(reference, Reason.NO_SPACE_LEFT, "make room", capacity=GIB)
    assert Layout(volume).used() < 1_000_000
