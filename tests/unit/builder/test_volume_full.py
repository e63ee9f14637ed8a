# SPDX-License-Identifier: Apache-2.0
"""A volume that is full or runs full, in bytes or in files: the image that needs more is told so, the others are none
the worse, and with more room the next attempt fetches only what is missing."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.job import BuildJob, StoredAs
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import Layout
from imagecache_operator.builder.registry import PIECE as WIRE_PIECE

from tests.support.registry_process import running_registry
from tests.support.small_volume import SmallVolume, small_volume
from tests.support.tls import Authority

from .conftest import Run
from .faulty import FaultyRegistry, Handler, SmallImage, answers, ends_after
from .interruption import PATIENCE, Interruption, half_written, until
from .mortal import Mortal
from .reader import Reader

MIB = 2**20


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallVolume]:
    with small_volume(tmp_path / "small", size=6 * MIB) as volume:
        yield volume


@pytest.fixture
def volume(small: SmallVolume) -> Path:
    return small.path


@pytest.fixture
def app() -> SmallImage:
    return SmallImage([random.Random(1).randbytes(300_000), b"x" * 50_000])


def _reasons(outcome: Outcome) -> list[Reason | None]:
    return [image.reason for image in outcome.images]


def _layers(registry: FaultyRegistry) -> set[str]:
    """Digests of all blobs that were asked for."""
    return {path.rpartition("/")[2] for path in registry.paths() if "/blobs/" in path}


def _assert_says_what_to_do(message: str) -> None:
    assert "file system" in message
    assert "imageCacheSize" in message


@pytest.mark.parametrize("leave", [0, 200_000])
def test_full_from_the_start(
    leave: int, faulty: FaultyRegistry, run: Run, small: SmallVolume, app: SmallImage,
) -> None:
    foreign = small.fill(leave=leave)
    outcome = run(faulty.add("app", app))
    assert _reasons(outcome) == [Reason.NO_SPACE_LEFT]
    _assert_says_what_to_do(outcome.images[0].message)
    assert not _layers(faulty) & set(app.layer_digests)
    assert check(small.path) == []
    foreign.unlink()
    assert run(faulty.add("app", app)).succeeded
    assert check(small.path) == []


def test_no_file_more_from_the_start(faulty: FaultyRegistry, run: Run, small: SmallVolume, app: SmallImage) -> None:
    small.resize(nr_inodes=3)
    outcome = run(faulty.add("app", app))
    assert (outcome.reason, outcome.images) == (Reason.NO_SPACE_LEFT, ())
    _assert_says_what_to_do(outcome.message)
    small.resize(nr_inodes=1000)
    assert run(faulty.add("app", app)).succeeded


def test_an_image_that_inflates_beyond_it(
    faulty: FaultyRegistry, run: Run, small: SmallVolume, app: SmallImage, authority: Authority, tmp_path: Path,
) -> None:
    large = SmallImage([bytes(20 * MIB), b"small enough"])
    references = faulty.add("large", large), faulty.add("app", app)
    outcome = run(*references)
    assert _reasons(outcome) == [Reason.NO_SPACE_LEFT, None]
    _assert_says_what_to_do(outcome.images[0].message)
    assert check(small.path) == []
    with running_registry(small.path, tmp_path / "server", authority, readonly=True) as server:
        reader = Reader(server, references[1])
        reader.pull()
    assert reader.seen == [app.manifest["config"]["digest"]]

    small.resize(size=64 * MIB)
    faulty.requests.clear()
    assert run(*references).succeeded
    assert check(small.path) == []
    assert _layers(faulty) & {*large.layer_digests, *app.layer_digests} == {large.layer_digests[0]}


def test_somebody_else_fills_it_meanwhile(
    faulty: FaultyRegistry, run: Run, small: SmallVolume, app: SmallImage,
) -> None:
    large = SmallImage([random.Random(2).randbytes(2 * MIB)])
    interruption = Interruption(small.path, lambda: bool(small.fill(leave=1 * MIB)))
    faulty.fail(f"/v2/large/blobs/{large.layer_digests[0]}", interruption)
    references = faulty.add("large", large), faulty.add("app", app)
    outcome = run(*references)
    assert interruption.happened
    assert _reasons(outcome) == [Reason.NO_SPACE_LEFT, None]
    _assert_says_what_to_do(outcome.images[0].message)
    assert check(small.path) == []
    (small.path / "somebody-elses").unlink()
    faulty.requests.clear()
    assert run(*references).succeeded
    assert check(small.path) == []
    assert not _layers(faulty) & set(app.layer_digests)


def test_no_file_more_in_the_middle(faulty: FaultyRegistry, run: Run, small: SmallVolume, app: SmallImage) -> None:
    many = SmallImage([bytes([number]) * 1000 for number in range(60)])
    references = faulty.add("many", many), faulty.add("app", app)
    small.resize(nr_inodes=130)
    outcome = run(*references)
    assert _reasons(outcome) == [Reason.NO_SPACE_LEFT, None]
    _assert_says_what_to_do(outcome.images[0].message)
    assert check(small.path) == []
    complete = {
        digest for digest, diff_id in zip(many.layer_digests, many.diff_ids, strict=True)
        if Layout(small.path).has(diff_id)
    }
    assert 0 < len(complete) < 60
    small.resize(nr_inodes=1000)
    faulty.requests.clear()
    assert run(*references).succeeded
    assert check(small.path) == []
    assert _layers(faulty) & set(many.layer_digests) == set(many.layer_digests) - complete


def test_room_that_another_image_gives_back(
    faulty: FaultyRegistry, authority: Authority, volume: Path, tmp_path: Path,
) -> None:
    """A large image holds all but a little of the room when another one has its layer and wants its manifest; then
    the large one fails. The other one must be none the worse, nor one that comes after it."""
    held, layer = 8 * WIRE_PIECE, 40_000
    large, app, last = (
        SmallImage([random.Random(size).randbytes(size)], compress=bytes) for size in (held + 20_000, layer, 10)
    )
    references = faulty.add("large", large), faulty.add("app", app), faulty.add("last", last)
    app_is_through = threading.Event()
    interruption = Interruption(volume, lambda: app_is_through.wait(PATIENCE), cut=held, written=held)

    def after_the_large_one(handler: Handler, data: bytes) -> None:
        until(lambda: half_written(volume) == held)
        handler.answer(200, data)

    def after_app(handler: Handler, data: bytes) -> None:
        app_is_through.set()
        handler.answer(200, data)

    faulty.fail(f"/v2/large/blobs/{large.layer_digests[0]}", interruption)
    faulty.fail(f"/v2/app/blobs/{app.layer_digests[0]}", after_the_large_one)
    faulty.fail(f"/v2/last/blobs/{last.layer_digests[0]}", after_app)
    job = BuildJob(images=references, platforms=("linux/amd64",), capacity=held + layer + 100)
    # Of two threads one is with the large layer; the other asks for the last layer when it has done with the image.
    outcome = Mortal(job, volume, authority, tmp_path, options=("--workers", "2")).run().outcome
    assert interruption.happened
    assert _reasons(outcome) == [Reason.DOES_NOT_FIT, None, None]
    assert check(volume) == []


def test_what_is_half_there_counts_once(faulty: FaultyRegistry, run: Run, small: SmallVolume) -> None:
    """An original layer is gone on with, although its first half and all of it would be more than there is room for."""
    image = SmallImage([random.Random(5).randbytes(4 * MIB)])
    reference = faulty.add("app", image)
    path = f"/v2/app/blobs/{image.layer_digests[0]}"
    faulty.fail(path, ends_after(3 * MIB), *[answers(503)] * 10)
    assert _reasons(run(reference, stored_as=StoredAs.ORIGINAL)) == [Reason.REGISTRY_UNAVAILABLE]
    assert half_written(small.path) == 3 * MIB
    faulty.script.clear()
    faulty.requests.clear()
    assert run(reference, stored_as=StoredAs.ORIGINAL).succeeded
    assert [headers["range"] for asked, headers in faulty.requests if asked == path] == [f"bytes={3 * MIB}-"]
    assert check(small.path) == []
