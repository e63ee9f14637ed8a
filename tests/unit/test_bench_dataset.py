# SPDX-License-Identifier: Apache-2.0
"""The benchmark's images: large enough or refused, of files that come once, kept, and what their description says."""

from __future__ import annotations

import sysconfig
from collections import Counter
from pathlib import Path

import pytest
import zstandard

from tests.bench.dataset import IMAGES, Extent, arranged, kept
from tests.bench.files import Kind, anything, portions, runs
from tests.cluster import ClusterError
from tests.support import programs
from tests.support.layers import Layer, sha256

SOURCES = Path(sysconfig.get_path("stdlib"), "asyncio")
TINY = Extent("tiny", raw=300_000, compressed=50_000, layer_sizes=(20_000, 60_000), layers=9)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place of its own for what is kept. The registry's program stays where it is."""
    programs.registry()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def tree(folder: Path, *sizes: int) -> Path:
    folder.mkdir(parents=True)
    for number, size in enumerate(sizes):
        (folder / f"{number}").write_bytes(b"x" * size)
    return folder


def sizes(found: list[list[Path]]) -> list[list[int]]:
    return [[path.stat().st_size for path in files] for files in found]


def taken(*folders: Path, layers: tuple[int, ...], kinds: tuple[Kind, ...] = (anything,)) -> list[list[Path]]:
    return [list(files.values()) for files in portions(folders, layers, kinds)]


def test_a_layer_has_the_files_that_fit(tmp_path: Path) -> None:
    found = taken(tree(tmp_path / "a", 40, 70, 60, 500, 30, 70), layers=(100,))
    assert sizes(found) == [[40, 60], [30, 70]]


def test_what_is_left_of_a_folder_is_no_layer_when_it_is_little(tmp_path: Path) -> None:
    assert sizes(taken(tree(tmp_path / "a", 100, 49), layers=(100,))) == [[100]]
    assert sizes(taken(tree(tmp_path / "b", 100, 51), layers=(100,))) == [[100], [51]]


def test_sizes_take_turns_and_folders_come_one_after_the_other(tmp_path: Path) -> None:
    first, second = tree(tmp_path / "first", *[10] * 30), tree(tmp_path / "second", *[10] * 25)
    found = taken(first, second, layers=(100, 120))
    assert [files[0].parent for files in found] == [first, first, first, second, second]
    assert [len(files) for files in found] == [10, 12, 8, 10, 12]


def test_a_file_comes_once(tmp_path: Path) -> None:
    inner = tree(tmp_path / "outer" / "inner", *[10] * 20)
    (inner / "link").symlink_to(inner / "0")
    (tmp_path / "outer" / "other").symlink_to(inner)
    found = [path for files in taken(tmp_path / "outer", inner, layers=(50,)) for path in files]
    assert sorted(found) == sorted(inner / f"{n}" for n in range(20))


def test_what_runs_comes_first_and_the_rest_where_there_is_too_little(tmp_path: Path) -> None:
    program = b"\x7fELF" + bytes(46)
    contents = {
        "one/source.py": b"x" * 50, "one/tool": program, "one/tool-2": program,
        "two/site-packages/pure/module.py": b"x" * 50, "two/site-packages/fast/module.py": b"x" * 50,
        "two/site-packages/fast/lib/native.so": program, "two/site-packages/single.py": b"x" * 50,
    }
    for path, content in contents.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    folders = tmp_path / "one", tmp_path / "two"
    found = [
        sorted(path.relative_to(tmp_path).as_posix() for path in files)
        for files in taken(*folders, layers=(100,), kinds=(runs, anything))
    ]
    assert found == [
        ["one/tool", "one/tool-2"],
        ["two/site-packages/fast/lib/native.so", "two/site-packages/fast/module.py"],
        ["one/source.py"],
        ["two/site-packages/pure/module.py", "two/site-packages/single.py"],
    ]


def test_images_share_their_bases_and_use_every_layer() -> None:
    layers = [Layer(f"sha256:{n}", n, "", n, "gzip", Path()) for n in range(14)]
    images = arranged(layers)
    uses = Counter(layer.digest for parts in images.values() for layer in parts)
    assert len(images) == IMAGES
    assert [uses[layer.digest] for layer in layers] == [6, 3, 3, *[1] * 11]
    assert all(parts[0] is layers[0] for parts in images.values())


def test_what_is_made_is_what_is_described(home: Path) -> None:
    dataset = kept(TINY, [SOURCES], print)
    assert len(dataset.layers) >= TINY.layers
    assert dataset.raw >= TINY.raw
    assert dataset.compressed >= TINY.compressed
    for layer in dataset.layers:
        data = layer.path.read_bytes()
        assert (sha256(data), len(data)) == (layer.digest, layer.size)
    zstd = next(layer for layer in dataset.layers if layer.compression == "zstd")
    raw = zstandard.ZstdDecompressor().decompress(zstd.path.read_bytes(), max_output_size=zstd.raw_size)
    assert (sha256(raw), len(raw)) == (zstd.diff_id, zstd.raw_size)
    assert {digest for digests in dataset.images.values() for digest in digests} == {x.digest for x in dataset.layers}


def test_images_are_made_once(home: Path) -> None:
    said: list[str] = []
    first = kept(TINY, [SOURCES], said.append)
    assert len(said) == 1
    assert kept(TINY, [], said.append) == first
    assert len(said) == 1


def test_a_machine_with_too_little_is_told_so(home: Path, tmp_path: Path) -> None:
    little = tree(tmp_path / "little", *[10_000] * 8)
    with pytest.raises(ClusterError, match=rf"too few files.*{little} give 2 layers"):
        kept(TINY, [little], print)
    assert list(home.rglob("dataset.json")) == []
