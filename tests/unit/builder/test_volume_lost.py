# SPDX-License-Identifier: Apache-2.0
"""A volume that cannot be written, or is taken away under the builder's hands: the outcome says so in words, never
that an image is complete which is not there, and on a sound volume the next attempt finishes the work."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.job import StoredAs
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import OWN_FOLDER, TREE

from tests.support.small_volume import SmallVolume, small_volume

from .conftest import Run
from .faulty import FaultyRegistry, SmallImage
from .interruption import Interruption, until


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallVolume]:
    with small_volume(tmp_path / "small", size=64 * 2**20) as volume:
        yield volume


@pytest.fixture
def volume(small: SmallVolume) -> Path:
    return small.path


class Two:
    """An image that is complete soon, and a large one in whose middle something happens, once the other is there."""

    def __init__(self, registry: FaultyRegistry, volume: Path, act: Callable[[], object]) -> None:
        self.registry = registry
        self.app = SmallImage([b"x" * 5000, b"y" * 1000])
        self.large = SmallImage([random.Random(1).randbytes(2_000_000), b"z" * 1000])
        self.references = registry.add("large", self.large), registry.add("app", self.app)
        self._repositories = volume / TREE / "repositories" / registry.address.replace(":", "_")

        def when_app_is_there() -> None:
            until(self.tag("app").is_file)
            act()

        self.interruption = Interruption(volume, when_app_is_there)
        registry.fail(f"/v2/large/blobs/{self.large.layer_digests[0]}", self.interruption)

    def tag(self, name: str) -> Path:
        return self._repositories / name / "_manifests/tags/1/current/link"

    def asked(self) -> set[str]:
        return {path.rpartition("/")[2] for path in self.registry.paths()} & {
            *self.app.layer_digests, *self.large.layer_digests,
        }


def _assert_in_words(outcome: Outcome, place: int, words: str) -> None:
    assert outcome.images[place].reason is Reason.INTERNAL
    assert words in outcome.images[place].message


def test_read_only_from_the_start(faulty: FaultyRegistry, run: Run, small: SmallVolume) -> None:
    small.turn_read_only()
    outcome = run(faulty.add("app", SmallImage([b"x" * 1000])))
    assert (outcome.reason, outcome.images) == (Reason.INTERNAL, ())
    assert "Read-only file system" in outcome.message
    assert faulty.paths() == []


def test_read_only_in_the_middle(faulty: FaultyRegistry, run: Run, small: SmallVolume) -> None:
    two = Two(faulty, small.path, small.turn_read_only)
    outcome = run(*two.references)
    assert two.interruption.happened
    _assert_in_words(outcome, 0, "Read-only file system")
    assert outcome.images[1].reason is None
    small.turn_writable()
    faulty.requests.clear()
    assert run(*two.references).succeeded
    assert two.large.layer_digests[0] in two.asked()
    assert not two.asked() & set(two.app.layer_digests)
    assert check(small.path) == []


def test_read_only_and_complete_is_complete(faulty: FaultyRegistry, run: Run, small: SmallVolume) -> None:
    reference = faulty.add("app", SmallImage([b"x" * 1000]))
    assert run(reference).succeeded
    small.turn_read_only()
    assert run(reference).reason is Reason.INTERNAL, "a builder that cannot lock the volume promises nothing about it"
    assert check(small.path) == []


def test_unmounted_in_the_middle(faulty: FaultyRegistry, run: Run, small: SmallVolume) -> None:
    two = Two(faulty, small.path, small.vanish)
    outcome = run(*two.references)
    assert two.interruption.happened
    _assert_in_words(outcome, 0, "volume")
    _assert_in_words(outcome, 1, "volume")
    assert run(*two.references).succeeded
    assert check(small.path) == []


@pytest.mark.parametrize("stored_as", [StoredAs.DECOMPRESSED, StoredAs.ORIGINAL])
@pytest.mark.parametrize("folder", [TREE.parts[0], str(TREE / "blobs"), str(TREE / "repositories"), OWN_FOLDER])
def test_a_folder_removed_in_the_middle(
    folder: str, stored_as: StoredAs, faulty: FaultyRegistry, run: Run, small: SmallVolume,
) -> None:
    two = Two(faulty, small.path, lambda: shutil.rmtree(small.path / folder))
    outcome = run(*two.references, stored_as=stored_as)
    assert two.interruption.happened
    for name, result in zip(("large", "app"), outcome.images, strict=True):
        problems = [problem for problem in check(small.path) if f"/{name}" in problem]
        if result.reason is None:
            assert two.tag(name).is_file()
            assert problems == []
        else:
            assert result.reason is Reason.INTERNAL
            assert "volume" in result.message
    if outcome.images[0].reason:
        assert not two.tag("large").exists()
    assert run(*two.references, stored_as=stored_as).succeeded
    assert check(small.path) == []
