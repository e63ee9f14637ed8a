# SPDX-License-Identifier: Apache-2.0
"""What the builder says: whole lines, short lines, and nothing that belongs to nobody's eyes."""

from __future__ import annotations

import io
import json
import logging
import time

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageState, Progress
from imagecache_operator.api.text import printable
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.progress import Board, Rate
from imagecache_operator.builder.report import Lines, LogLines, ProgressLines


@pytest.fixture
def output() -> io.StringIO:
    return io.StringIO()


def _logger(output: io.StringIO) -> logging.Logger:
    logger = logging.Logger("test")
    logger.addHandler(LogLines(Lines(output)))
    return logger


def test_a_log_line_is_one_line_of_json(output: io.StringIO) -> None:
    _logger(output).warning("one\ntwo \x1b[31mred %s", "\u202e\ud800")
    (line,) = output.getvalue().splitlines()
    assert json.loads(line) == {"type": "log", "level": "warning", "message": "one?two ?[31mred ??"}


def test_an_exception_is_told_by_type_and_place_only(output: io.StringIO) -> None:
    try:
        raise RuntimeError("https://storage.example/?signature=s3cret")
    except RuntimeError as error:
        _logger(output).error("unexpected", exc_info=error)
    assert "RuntimeError at test_report.py:" in output.getvalue()
    assert "s3cret" not in output.getvalue()


def test_progress_is_short_and_at_most_once_a_second(output: io.StringIO) -> None:
    board = Board(20)
    said = ProgressLines(Lines(output), board)
    for place in range(20):
        board.expect([place], 10**15)
        board.set_state(place, ImageState.PULLING)
        board.add([place], 10**15)
        said.tick()
    said.say()
    said.say()
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert max(map(len, lines)) < 8192
    last = Progress.model_validate_json(lines[-1])
    assert last.model_copy(update={"rate": None, "seconds_left": None}) == board.snapshot()


def test_a_shared_layer_counts_once_in_the_sums() -> None:
    board = Board(2)
    board.expect([0, 1], 10)
    board.add([0, 1], 7)
    board.add([0, 1], -3)
    now = board.snapshot()
    assert (now.bytes_done, now.bytes_total) == (4, 10)
    assert [(i.bytes_done, i.bytes_total) for i in now.images] == [(4, 10)] * 2


@pytest.mark.parametrize(("seen", "rate"), [
    ([(0, 0.0)], None),
    ([(0, 0.0), (100, 0.4)], None),  # too early
    ([(0, 0.0), (100, 0.5)], 200),
    ([(0, 0.0), (0, 90.0), (500, 91.0)], 500),  # the time before the first byte does not count
    ([(900, 50.0), (1400, 51.0)], 500),  # nor what was there when the counting began
    ([(0, 0.0), *((100 * n, float(n)) for n in range(1, 31))], 100),
    ([(0, 0.0), (10_000, 1.0), *((10_000 + 100 * n, 1.0 + n) for n in range(1, 12))], 100),  # a burst is forgotten
    ([(0, 0.0), (1000, 1.0), (1000, 6.0)], 167),
    ([(0, 0.0), (1000, 1.0), *((1000, 1.0 + n) for n in range(1, 13))], 0),  # nothing comes any more
    ([(0, 0.0), (1000, 1.0), (200, 2.0)], 100),
    ([(1000, 0.0), (200, 1.0)], 0),  # taken back
])
def test_the_rate_is_that_of_the_last_ten_seconds(seen: list[tuple[int, float]], rate: int | None) -> None:
    meter = Rate()
    assert [meter.measure(done, now) for done, now in seen][-1] == rate


def test_a_line_tells_rate_and_time_left_when_there_is_something_to_tell(output: io.StringIO) -> None:
    board = Board(1)
    said = ProgressLines(Lines(output), board)
    board.expect([0], 10**9)
    said.say()
    while "secondsLeft" not in output.getvalue():
        board.add([0], 1)
        said.say()
        time.sleep(0.05)
    first, last = (json.loads(line) for line in (output.getvalue().splitlines()[n] for n in (0, -1)))
    assert {"rate", "secondsLeft"} & first.keys() == set()
    assert last["secondsLeft"] == -(-(10**9 - last["bytesDone"]) // last["rate"])
    assert Progress.model_validate(first).rate is None, "a line of an older builder is read as well"


def test_a_reader_that_went_away_ends_nothing(output: io.StringIO) -> None:
    output.close()
    Lines(output).write("x")


def test_text_from_outside_is_shortened() -> None:
    assert printable("a" * 500, 10) == "a" * 9 + "…"
    assert len(ImageError(Reason.INTERNAL, "x" * 10_000).message) == 400
