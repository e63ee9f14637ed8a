# SPDX-License-Identifier: Apache-2.0
"""Registries that have no time: limits on requests, bursts of errors, and how long the builder waits for them."""

from __future__ import annotations

import dataclasses
import io
import random
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check
from imagecache_operator.builder.patience import Limits

from . import faulty as faults
from .conftest import QUICK, Run
from .discretion import discreet
from .faulty import Fault, FaultyRegistry, Handler, SmallImage

MANIFEST = "/v2/team/app/manifests/1"


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([random.Random(11).randbytes(600_000)])


def _layer(image: SmallImage) -> str:
    return f"/v2/team/app/blobs/{image.layer_digests[0]}"


def _in(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds))


class Turnstile:
    """Lets nobody in before the time that it has told, and counts those who come too early."""

    def __init__(self, seconds: int, as_date: bool) -> None:
        self._seconds = seconds
        self._as_date = as_date
        self._opens: float | None = None
        self.too_early = 0

    def __call__(self, handler: Handler, data: bytes) -> None:
        now = time.time()
        if self._opens is None:
            # A date has no fractions of a second: it is the one before the time that is meant.
            self._opens = float(int(now) + self._seconds) if self._as_date else now + self._seconds
        elif now >= self._opens:
            handler.answer(200, data)
            return
        else:
            self.too_early += 1
        told = format_datetime(datetime.fromtimestamp(self._opens, UTC)) if self._as_date else str(self._seconds)
        handler.answer(429, b"", {"Retry-After": told})


@pytest.mark.parametrize(("seconds", "as_date"), [(1, False), (2, True)])
def test_it_waits_as_long_as_the_registry_asks(
    seconds: int, as_date: bool, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    turnstile = Turnstile(seconds, as_date)
    faulty.fail(_layer(image), *[turnstile] * 9)
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert turnstile.too_early == 0
    assert faulty.paths().count(_layer(image)) == 2


@pytest.mark.parametrize("told", [
    "0", "", "-5", "1.5", "soon", "٣", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 99 Foo 99999 99:99:99 GMT",
    "Thu, 01 Jan 1970 00:00:00 -0000", "Thu, 01 Jan 2999 00:00:00", "," * 10_000, None,
])
def test_what_makes_no_sense_as_a_time_is_no_reason_to_wait(
    told: str | None, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    headers = {} if told is None else {"Retry-After": told.encode().decode("latin-1")}
    faulty.fail(_layer(image), faults.answers(429, headers), faults.answers(503, headers))
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []


@pytest.mark.parametrize("told", ["7200", "9" * 400, _in(7200), "Fri, 31 Dec 9999 23:59:59 GMT"], ids=[
    "seconds", "very many seconds", "a date", "the last date",
])
@pytest.mark.parametrize(("status", "reason"), [
    (429, Reason.TOO_MANY_REQUESTS), (503, Reason.REGISTRY_UNAVAILABLE),
])
def test_it_does_not_wait_for_hours(
    told: str, status: int, reason: Reason, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    faulty.fail(_layer(image), *[faults.answers(status, {"Retry-After": told})] * 9)
    (result,) = run(faulty.add("team/app", image)).images
    assert result.reason is reason
    assert result.message.startswith(f"The registry {faulty.address} ")
    assert result.message.endswith("it is asked again later, or use a mirror." if status == 429 else "again later.")
    assert faulty.paths().count(_layer(image)) == 1
    assert check(volume) == []


@pytest.mark.parametrize("statuses", [
    [408], [429] * 4, [500] * 4, [502] * 4, [503] * 4, [504, 599], [500, 502, 503, 429],
], ids=str)
def test_a_burst_passes(
    statuses: list[int], faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    burst = [faults.answers(status) for status in statuses]
    for path in (MANIFEST, _layer(image), f"/v2/team/app/blobs/{image.manifest['config']['digest']}"):
        faulty.fail(path, *burst)
    assert run(faulty.add("team/app", image)).succeeded
    assert check(volume) == []
    assert len(faulty.requests) == 3 * (len(burst) + 1)


@pytest.mark.parametrize(("fault", "reason"), [
    (faults.answers(429), Reason.TOO_MANY_REQUESTS), (faults.answers(500), Reason.REGISTRY_UNAVAILABLE),
    (faults.resets_after(10), Reason.REGISTRY_UNAVAILABLE),
])
@pytest.mark.parametrize("path", ["manifest", "layer"])
def test_trouble_that_stays_is_told(
    path: str, fault: Fault, reason: Reason, faulty: FaultyRegistry, run: Run, volume: Path, image: SmallImage,
) -> None:
    bad = _layer(image) if path == "layer" else MANIFEST
    faulty.fail(bad, *[fault] * 99)
    outcome = run(faulty.add("team/app", image), faulty.add("team/other", SmallImage([b"other"])))
    assert [i.reason for i in outcome.images] == [reason, None]
    assert faulty.paths().count(bad) == QUICK.failures_in_a_row
    assert check(volume) == []


def _gives(count: int) -> Fault:
    """A piece of what was asked for, and the end of the connection."""

    def fault(handler: Handler, data: bytes) -> None:
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        span = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        handler.answer(206 if start else 200, data[start:], span, cut=count)
        handler.hang_up()

    return fault


@pytest.mark.parametrize(("failures", "reason"), [(40, None), (2, Reason.REGISTRY_UNAVAILABLE)])
def test_failures_with_progress_between_them_are_counted_apart(
    failures: int, reason: Reason | None, faulty: FaultyRegistry, run: Run, volume: Path,
) -> None:
    """More breaks than failures in a row are allowed, each after a piece that came; at some number it ends anyway."""
    image = SmallImage([random.Random(12).randbytes(1_200_000)])
    faulty.fail(_layer(image), *[_gives(300_000)] * 4)
    limits = dataclasses.replace(QUICK, failures_in_a_row=2, failures_in_all=failures)
    outcome = run(faulty.add("team/app", image), faulty.add("team/other", SmallImage([b"other"])), limits=limits)
    assert [i.reason for i in outcome.images] == [reason, None]
    assert check(volume) == []


def test_waiting_has_an_end_too(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    limits = Limits(first_delay=0.1, longest_delay=0.1, waiting_in_all=0.3, failures_in_a_row=99, failures_in_all=99)
    faulty.fail(MANIFEST, *[faults.answers(503)] * 99)
    assert run(faulty.add("team/app", image), limits=limits).images[0].reason is Reason.REGISTRY_UNAVAILABLE
    assert 1 < len(faulty.requests) < 99


def test_a_stop_ends_the_waiting(
    faulty: FaultyRegistry, run: Run, image: SmallImage, stop: threading.Event,
) -> None:
    def busy(handler: Handler, _: bytes) -> None:
        handler.answer(503, b"", {"Retry-After": "3600"})
        stop.set()

    faulty.fail(MANIFEST, busy)
    limits = dataclasses.replace(QUICK, waiting_in_all=10_000)
    outcome = run(faulty.add("team/app", image), limits=limits)
    assert [outcome.reason, outcome.images[0].reason] == [Reason.CANCELLED] * 2
