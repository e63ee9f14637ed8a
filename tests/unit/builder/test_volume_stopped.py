# SPDX-License-Identifier: Apache-2.0
"""A builder that is told to stop, at any moment and whatever it waits for: it ends soon, says that it was stopped,
keeps what is complete, and the next attempt finishes the work."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagecache_operator import names
from imagecache_operator.api.job import BuildJob
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import Layout

from tests.support.tls import Authority

from .conftest import GIB
from .faulty import FaultyRegistry, SmallImage, answers, trickles
from .mortal import GRACE, Attempt, Mortal

STOPS = 21
RETRY_AFTER = answers(429, {"Retry-After": "100"})
NUMBERS = (signal.SIGTERM, signal.SIGINT)

Start = Callable[..., contextlib.AbstractContextManager[Attempt]]


def _image(seed: int) -> SmallImage:
    data = random.Random(seed)
    return SmallImage([data.randbytes(500_000), data.randbytes(60_000)])


def _job(*references: str) -> BuildJob:
    return BuildJob(images=references, platforms=("linux/amd64",), capacity=GIB)


def _assert_stopped(attempt: Attempt) -> None:
    assert attempt.ended() == 1
    assert attempt.outcome.reason is Reason.CANCELLED
    assert {image.reason for image in attempt.outcome.images} <= {None, Reason.CANCELLED}


def _until(holds: Callable[[], bool], attempt: Attempt) -> None:
    deadline = time.monotonic() + GRACE
    while not holds():
        assert attempt.process.poll() is None, "the builder has ended meanwhile"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_stop_at_any_moment(faulty: FaultyRegistry, authority: Authority, tmp_path: Path) -> None:
    """The last image never comes during the first attempt, so that each stop finds a builder that is at work."""
    images = [_image(1), _image(2), SmallImage([b"late"])]
    references = [faulty.add(f"image-{number}", image) for number, image in enumerate(images)]
    (late,) = images[2].layer_digests
    digests = {
        digest: diff_id for image in images[:2]
        for digest, diff_id in zip(image.layer_digests, image.diff_ids, strict=True)
    }
    two_of_three = _job(*references[:2], references[2].replace("image-2", "no-such-image"))
    touches = len(Mortal(two_of_three, tmp_path / "two", authority, tmp_path).run().touches)
    kept = set()
    for number in range(STOPS):
        mortal = Mortal(_job(*references), tmp_path / f"volume-{number}", authority, tmp_path)
        faulty.script[f"/v2/image-2/blobs/{late}"] = [RETRY_AFTER]
        moment = 1 + touches * 9 // 10 * number // STOPS
        attempt = mortal.run(signal.SIGTERM, moment)
        assert len(attempt.touches) >= moment
        _assert_stopped(attempt)
        assert [p for p in check(mortal.volume) if "no layout" not in p] == []
        complete = {digest for digest, diff_id in digests.items() if Layout(mortal.volume).has(diff_id)}
        kept.add(len(complete))

        faulty.script.clear()
        faulty.requests.clear()
        assert mortal.run().outcome.succeeded
        assert check(mortal.volume) == []
        asked = {path.rpartition("/")[2] for path in faulty.paths()}
        assert asked & digests.keys() == digests.keys() - complete
    assert len(kept) > 2


@pytest.mark.parametrize("what", ["manifests/1", "blobs"])
def test_a_stop_while_the_registry_asks_for_patience(
    what: str, faulty: FaultyRegistry, authority: Authority, tmp_path: Path,
) -> None:
    image = SmallImage([b"x" * 1000])
    path = f"/v2/a/{what}" if what != "blobs" else f"/v2/a/blobs/{image.layer_digests[0]}"
    faulty.fail(path, RETRY_AFTER)
    mortal = Mortal(_job(faulty.add("a", image)), tmp_path / "volume", authority, tmp_path)
    with mortal.started() as attempt:
        _until(lambda: path in faulty.paths(), attempt)
        attempt.process.send_signal(signal.SIGTERM)
        _assert_stopped(attempt)
    assert mortal.run().outcome.succeeded


def test_a_stop_while_the_registry_is_silent(faulty: FaultyRegistry, authority: Authority, tmp_path: Path) -> None:
    """Told twice, as by a person who has lost patience."""
    image = SmallImage([random.Random(3).randbytes(300_000), b"x" * 1000])
    path = f"/v2/a/blobs/{image.layer_digests[0]}"
    faulty.fail(path, trickles(60))
    mortal = Mortal(_job(faulty.add("a", image)), tmp_path / "volume", authority, tmp_path)
    layout = Layout(mortal.volume)
    with mortal.started() as attempt:
        _until(lambda: path in faulty.paths() and layout.has(image.diff_ids[1]), attempt)
        for _ in range(2):
            attempt.process.send_signal(signal.SIGTERM)
        _assert_stopped(attempt)
    assert layout.has(image.diff_ids[1])
    assert mortal.run().outcome.succeeded
    assert check(mortal.volume) == []


@pytest.fixture
def deaf() -> Iterator[socket.socket]:
    """Takes connections, and does not even say in which cipher."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def test_a_stop_while_a_connection_is_made(deaf: socket.socket, authority: Authority, tmp_path: Path) -> None:
    mortal = Mortal(_job(f"127.0.0.1:{deaf.getsockname()[1]}/a:1"), tmp_path / "volume", authority, tmp_path)
    with mortal.started() as attempt:
        deaf.settimeout(GRACE)
        connection, _ = deaf.accept()
        with connection:
            attempt.process.send_signal(signal.SIGTERM)
            _assert_stopped(attempt)


def test_a_stop_before_the_job_is_read(faulty: FaultyRegistry, authority: Authority, tmp_path: Path) -> None:
    """The credentials come through a pipe, so that the builder stands still until they are written."""
    image = SmallImage([b"x" * 1000])
    pipe = tmp_path / "credentials"
    os.mkfifo(pipe)
    mortal = Mortal(
        _job(faulty.add("a", image)), tmp_path / "volume", authority, tmp_path,
        environment={names.ENV_CREDENTIALS_FILE: str(pipe)},
    )
    with mortal.started() as attempt:
        found: list[int] = []

        def opened() -> bool:
            with contextlib.suppress(OSError):  # until somebody reads
                found.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
            return bool(found)

        _until(opened, attempt)
        attempt.process.send_signal(signal.SIGTERM)
        with open(found[0], "w") as file:
            file.write("{}")
        _assert_stopped(attempt)
    assert faulty.paths() == []


def test_a_storm_of_signals(faulty: FaultyRegistry, authority: Authority, tmp_path: Path) -> None:
    """A second one may come while the first is being dealt with."""
    image = SmallImage([b"x" * 1000])
    path = f"/v2/a/blobs/{image.layer_digests[0]}"
    for _ in range(5):
        faulty.script[path] = [RETRY_AFTER]
        faulty.requests.clear()
        mortal = Mortal(_job(faulty.add("a", image)), tmp_path / "volume", authority, tmp_path)
        with mortal.started() as attempt:
            _until(lambda: path in faulty.paths(), attempt)
            deadline = time.monotonic() + GRACE
            while attempt.process.poll() is None and time.monotonic() < deadline:
                for number in NUMBERS:
                    attempt.process.send_signal(number)
            _assert_stopped(attempt)
