# SPDX-License-Identifier: Apache-2.0
"""The images of the benchmark of starts: about as large as they should be, gzip, and cold on any node."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tests.bench.dataset import Dataset
from tests.bench.runnable import about, described, factor, images
from tests.support.layers import Compression, Layer, programs


def layer(number: int, size: int, compression: Compression = "gzip") -> Layer:
    return Layer(f"sha256:{number:064}", size, f"sha256:{number + 1000:064}", 3 * size, compression, Path("/dev/null"))


LAYERS = tuple(layer(n, 40_000_000, "zstd" if n == 1 else "gzip") for n in range(14))


@pytest.mark.parametrize(("size", "numbers"), [
    (0, []), (20_000_000, [0]), (59_000_000, [0]), (61_000_000, [0, 2]), (200_000_000, [0, 2, 3, 4, 5]),
])
def test_layers_come_as_near_as_they_can(size: int, numbers: list[int]) -> None:
    assert about(LAYERS, size) == [LAYERS[number] for number in numbers]


def test_they_run_and_share_layers_with_each_other_alone(tmp_path: Path) -> None:
    large, medium = images(Dataset(tmp_path, LAYERS, {}), tmp_path, [400_000_000, 200_000_000])
    base = medium.own.layers[0]
    assert large.own.layers[: len(medium.own.layers)] == medium.own.layers
    assert base.digest not in {other.digest for other in LAYERS}
    assert set(programs("sh", "date", "sleep")) <= {*names_in(base)}
    assert "bench/start" in names_in(base), "else a node has it from others who have a shell"
    for image, size in ((medium, 200), (large, 400)):
        assert abs(image.own.compressed_size / 1e6 - size) <= 25
        assert image.name.startswith(f"bench/{image.own.compressed_size // 10**6}mb:")
        document = json.loads(image.top.data)
        assert {entry["mediaType"].rpartition("+")[2] for entry in document["layers"]} == {"gzip"}
    megabytes, count = large.own.compressed_size // 10**6, len(large.own.layers)
    assert described(large).startswith(f"{megabytes} MB are {count} gzip layers, ")
    assert described(large).endswith(f"MB unpacked ({factor(large):.2f} times)")
    assert 2.9 < factor(large) < 3.1


def names_in(found: Layer) -> list[str]:
    with tarfile.open(found.path) as archive:
        return archive.getnames()
