# SPDX-License-Identifier: Apache-2.0
"""Registries that misbehave: what the builder survives, and what it says when it does not."""

from __future__ import annotations

import dataclasses
import gzip
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import Layout

from tests.unit.builder import faulty as faults
from tests.unit.builder.conftest import QUICK, Run
from tests.unit.builder.faulty import FaultyRegistry, SmallImage, sha256


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


def test_it_starts_again_where_the_registry_knows_no_ranges(
    faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    faulty.fail(_layer(image), faults.ends_after(600_000), faults.ignores_range())
    _assert_complete(run(faulty.add("team/app", image)), volume, image)


def test_a_wrong_range_is_not_taken(faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage) -> None:
    wrong = faults.answers(206, {"Content-Range": "bytes 5-9/10"}, b"12345")
    faulty.fail(_layer(image), faults.ends_after(600_000), wrong)
    _assert_complete(run(faulty.add("team/app", image)), volume, image)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_it_waits_for_what_passes(
    status: int, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    fault = faults.answers(status)
    faulty.fail("/v2/team/app/manifests/1", fault, fault)
    faulty.fail(_layer(image), fault, fault)
    _assert_complete(run(faulty.add("team/app", image)), volume, image)


def test_it_waits_as_long_as_the_registry_asks(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    faulty.fail(_layer(image), faults.answers(429, {"Retry-After": "1"}))
    begin = time.monotonic()
    assert run(faulty.add("team/app", image)).succeeded
    assert time.monotonic() - begin >= 1


def test_it_does_not_wait_for_hours(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    faulty.fail(_layer(image), faults.answers(429, {"Retry-After": "7200"}))
    begin = time.monotonic()
    assert run(faulty.add("team/app", image)).images[0].reason is Reason.TOO_MANY_REQUESTS
    assert time.monotonic() - begin < 5


@pytest.mark.parametrize(("status", "reason"), [
    (401, Reason.UNAUTHORIZED), (403, Reason.DENIED), (404, Reason.NOT_FOUND), (400, Reason.REGISTRY_UNAVAILABLE),
])
def test_a_refusal_is_final_and_has_its_reason(
    status: int, reason: Reason, faulty: FaultyRegistry, run: Run, image: SmallImage,
) -> None:
    faulty.fail("/v2/team/app/manifests/1", *[faults.answers(status)] * 5)
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is reason
    assert faulty.address in result.message
    assert len(faulty.requests) == 1


def test_trouble_that_stays_is_told(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    faulty.fail(_layer(image), *[faults.answers(503)] * 100)
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is Reason.REGISTRY_UNAVAILABLE
    assert len(faulty.requests) == 2 + QUICK.failures_in_a_row


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


@pytest.mark.parametrize("length", [0, 10, 2_000_000])
def test_a_wrong_length_is_the_registrys_fault(
    length: int, faulty: FaultyRegistry, run: Run, image: SmallImage,
) -> None:
    faulty.fail(_layer(image), *[faults.sends(b"x" * length)] * 2)
    assert run(faulty.add("team/app", image)).images[0].reason is Reason.DIGEST_MISMATCH


def test_a_wrong_diff_id_is_the_images_fault(faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage) -> None:
    image.config["rootfs"]["diff_ids"] = [sha256(b"something else")]
    image.refresh()
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is Reason.DIGEST_MISMATCH
    assert "damaged as published" in result.message
    assert faulty.paths().count(_layer(image)) == 1
    assert not list((volume / "docker/registry/v2").rglob("data"))


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


def test_a_stop_ends_within_seconds_and_keeps_what_is_complete(
    faulty: FaultyRegistry, run: Run, volume: Path, stop: threading.Event,
) -> None:
    image = SmallImage([_bytes(300_000), _bytes(1000, 2)])
    faulty.fail(_layer(image), faults.trickles(60))
    threading.Timer(0.7, stop.set).start()
    begin = time.monotonic()
    outcome = run(faulty.add("team/app", image))
    assert time.monotonic() - begin < 6
    assert outcome.reason is Reason.CANCELLED
    assert outcome.images[0].reason is Reason.CANCELLED
    assert Layout(volume).has(image.diff_ids[1])
    stop.clear()
    _assert_complete(run(faulty.add("team/app", image)), volume, image)
