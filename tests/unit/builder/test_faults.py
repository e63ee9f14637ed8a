# SPDX-License-Identifier: Apache-2.0
"""Registries that misbehave: what the builder survives, and what it says when it does not."""

from __future__ import annotations

import dataclasses
import gzip
import io
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import Layout

from . import faulty as faults
from .blobs import blobs_of_images
from .conftest import Run
from .discretion import discreet
from .faulty import FaultyRegistry, Handler, SmallImage, sha256


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


def _bytes(count: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(count)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([_bytes(1_000_000)])


def _layer(image: SmallImage, place: int = 0, name: str = "team/app") -> str:
    return f"/v2/{name}/blobs/{image.layer_digests[place]}"


def _assert_complete(outcome: Outcome, volume: Path, image: SmallImage) -> None:
    assert outcome.succeeded, outcome
    assert check(volume) == []
    assert all(Layout(volume).has(diff_id) for diff_id in image.diff_ids)


@pytest.mark.parametrize("fault", [faults.resets_after(600_000), faults.ends_after(600_000)])
def test_it_goes_on_where_the_connection_broke(
    fault: faults.Fault, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    faulty.fail(_layer(image), fault)
    _assert_complete(run(faulty.add("team/app", image)), volume, image)
    ranges = [headers.get("range") for path, headers in faulty.requests if path == _layer(image)]
    assert ranges[0] is None
    assert len(ranges) == 2
    assert ranges[1] is not None
    assert 200_000 < int(ranges[1].removeprefix("bytes=").removesuffix("-")) <= 600_000


def test_one_bad_image_does_not_stop_the_others(
    faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    good, other = faulty.add("team/app", image), faulty.add("team/other", SmallImage([_bytes(1000, 2)]))
    outcome = run(good, f"{faulty.address}/team/missing:1", "Not A Reference", other)
    assert [i.reason for i in outcome.images] == [None, Reason.NOT_FOUND, Reason.UNSUPPORTED, None]
    assert check(volume) == []


def test_wrong_bytes_are_the_registrys_fault(faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage) -> None:
    data = bytearray(image.blobs[image.layer_digests[0]])
    data[500_000] ^= 1
    faulty.fail(_layer(image), *[faults.sends(bytes(data))] * 2)
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is Reason.DIGEST_MISMATCH
    assert result.message.startswith("The registry")
    assert not Layout(volume).has(image.diff_ids[0])


def test_wrong_bytes_once_are_forgiven(faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage) -> None:
    faulty.fail(_layer(image), faults.sends(b"x" * len(image.blobs[image.layer_digests[0]])))
    _assert_complete(run(faulty.add("team/app", image)), volume, image)


def test_a_wrong_diff_id_is_the_images_fault(faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage) -> None:
    image.config["rootfs"]["diff_ids"] = [sha256(b"something else")]
    image.refresh()
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is Reason.DIGEST_MISMATCH
    assert "damaged as published" in result.message
    assert faulty.paths().count(_layer(image)) == 1
    assert not blobs_of_images(volume)


def test_damaged_compression_is_the_images_fault(faulty: FaultyRegistry, run: Run) -> None:
    image = SmallImage([_bytes(100_000)], compress=lambda raw: gzip.compress(raw)[:-100])
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is Reason.DIGEST_MISMATCH
    assert "damaged as published" in result.message


def test_a_manifest_that_is_not_the_one_asked_for(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    reference = faulty.add("team/app", image).removesuffix(":1") + "@" + sha256(b"wanted")
    faulty.documents[f"/v2/team/app/manifests/{sha256(b'wanted')}"] = (faults.OCI_MANIFEST, image.body)
    assert run(reference).images[0].reason is Reason.DIGEST_MISMATCH


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_a_bomb_meets_the_bound_and_the_others_live(
    compress: Callable[[bytes], bytes], faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    bomb = SmallImage([bytes(200_000_000)], compress=compress)
    outcome = run(faulty.add("team/bomb", bomb), faulty.add("team/app", image), capacity=10_000_000)
    assert [i.reason for i in outcome.images] == [Reason.DOES_NOT_FIT, None]
    assert outcome.used < 10_000_000
    assert check(volume) == []


def test_what_cannot_fit_is_not_begun(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    (result,) = run(faulty.add("team/app", image), capacity=500_000).images
    assert result.reason is Reason.DOES_NOT_FIT
    assert _layer(image) not in faulty.paths()


def test_what_is_there_counts_and_a_second_run_fetches_manifests_only(
    faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    reference = faulty.add("team/app", image)
    first = run(reference, capacity=1_100_000)
    _assert_complete(first, volume, image)
    faulty.requests.clear()
    assert run(reference, capacity=1_100_000) == first
    assert faulty.paths() == ["/v2/team/app/manifests/1"]


def test_a_layer_comes_from_the_other_registry(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    faulty.fail(_layer(image), *[faults.answers(403)] * 9)
    outcome = run(faulty.add("team/app", image), elsewhere.add("team/app", image))
    _assert_complete(outcome, volume, image)


def test_a_shared_layer_is_fetched_once(faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage) -> None:
    again = dataclasses.replace(image, layers=[*image.layers, _bytes(5000, 3)])
    outcome = run(faulty.add("team/app", image), faulty.add("team/app", again, "2"), faulty.add("team/third", image))
    _assert_complete(outcome, volume, again)
    assert len([p for p in faulty.paths() if image.layer_digests[0] in p]) == 1


@pytest.mark.timeout(25)  # less than the builder's patience with silence
def test_a_stop_ends_within_seconds_and_keeps_what_is_complete(
    faulty: FaultyRegistry, run: Run, volume: Path, stop: threading.Event,
) -> None:
    image = SmallImage([_bytes(300_000), _bytes(1000, 2)])
    layout = Layout(volume)

    def falls_silent(handler: Handler, data: bytes) -> None:
        handler.answer(200, data, cut=100_000)
        end = time.monotonic() + 20
        while not layout.has(image.diff_ids[1]) and time.monotonic() < end:
            time.sleep(0.01)
        stop.set()
        handler.client_left(60)
        handler.hang_up()

    faulty.fail(_layer(image), falls_silent)
    outcome = run(faulty.add("team/app", image))
    assert outcome.reason is Reason.CANCELLED
    assert outcome.images[0].reason is Reason.CANCELLED
    assert Layout(volume).has(image.diff_ids[1])
    stop.clear()
    _assert_complete(run(faulty.add("team/app", image)), volume, image)
