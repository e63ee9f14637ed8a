# SPDX-License-Identifier: Apache-2.0
"""A volume with more than one at it: a second builder ends at once and does no harm, and readers find each image as it
was or as it will be, whenever they look."""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.job import BuildJob, StoredAs
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check

from tests.support.registry_process import RegistryProcess, running_registry
from tests.support.tls import Authority

from .conftest import GIB
from .faulty import FaultyRegistry, SmallImage
from .mortal import RENAME, Mortal
from .reader import Reader

ALL = 10**6  # more touches than there are


def _job(*references: str, stored_as: StoredAs = StoredAs.DECOMPRESSED) -> BuildJob:
    return BuildJob(images=references, platforms=("linux/amd64",), capacity=GIB, stored_as=stored_as)


def _files(volume: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in volume.rglob("*") if path.is_file()}


def test_a_second_builder_ends_at_once_and_says_why(
    faulty: FaultyRegistry, authority: Authority, volume: Path, tmp_path: Path,
) -> None:
    """At every tenth touch of the first one, which stands still meanwhile."""
    image = SmallImage([random.Random(1).randbytes(400_000), b"x" * 1000])
    mortal = Mortal(_job(faulty.add("a", image)), volume, authority, tmp_path)
    touches = len(Mortal(mortal.job, tmp_path / "undisturbed", authority, tmp_path).run().touches)
    locked = 0
    with mortal.started(signal.SIGSTOP, 1, ALL) as first:
        while first.halted():
            if len(first.touches) % (touches // 10) == 0 and (volume / ".imagecache/lock").exists():
                before = _files(volume)
                second = mortal.run()
                assert second.ended() == 1
                assert second.outcome.reason is Reason.INTERNAL
                assert "Another builder" in second.outcome.message
                assert second.outcome.images == ()
                assert _files(volume) == before
                locked += 1
            first.go_on()
        assert first.ended() == 0
        assert first.outcome.succeeded
    assert locked > 5
    assert check(volume) == []


@pytest.fixture
def server(tmp_path: Path, authority: Authority, volume: Path) -> Iterator[RegistryProcess]:
    """A stock registry, read-only, on the volume."""
    with running_registry(volume, tmp_path / "server", authority, readonly=True) as process:
        yield process


@pytest.mark.parametrize("stored_as", StoredAs)
def test_readers_find_images_whole_at_every_moment(
    stored_as: StoredAs, faulty: FaultyRegistry, server: RegistryProcess, authority: Authority, volume: Path,
    tmp_path: Path,
) -> None:
    """One image moves to a new content, another one appears. The builder stands still before each of its touches."""
    base = random.Random(2).randbytes(50_000)
    old, new, other = (SmallImage([base, word * 5000]) for word in (b"old", b"new", b"other"))
    moved = faulty.add("moved", old)
    mortal = Mortal(_job(moved, stored_as=stored_as), volume, authority, tmp_path)
    assert mortal.run().outcome.succeeded

    faulty.add("moved", new)
    appearing = faulty.add("appearing", other)
    readers = Reader(server, moved), Reader(server, appearing)
    mortal = Mortal(_job(moved, appearing, stored_as=stored_as), volume, authority, tmp_path)
    with mortal.started(signal.SIGSTOP, 1, ALL) as attempt:
        while attempt.halted():
            for reader in readers:
                reader.pull()
            attempt.go_on()
        assert attempt.ended() == 0
        assert attempt.touches.count(RENAME) > 10
    for reader in readers:
        reader.pull()
    _assert_once(readers[0].seen, old.manifest["config"]["digest"], new.manifest["config"]["digest"])
    _assert_once(readers[1].seen, None, other.manifest["config"]["digest"])


def _assert_once(seen: list[str | None], before: str | None, after: str | None) -> None:
    """First one, from some moment on the other, and nothing else."""
    change = seen.index(after)
    assert change > 0
    assert seen == [before] * change + [after] * (len(seen) - change)
