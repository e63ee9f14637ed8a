# SPDX-License-Identifier: Apache-2.0
"""What the builder says to a person: bars while it runs, prose above them, a table at the end.

Only `command.py` imports it, and only when somebody reads: in a Pod rich would cost memory and time for nothing.
What goes into a file has no bars, no colours and no line breaks of its own.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from imagecache_operator.api.report import ImageProgress, ImageState, Outcome, Progress
from imagecache_operator.builder.estimate import Amount, Certainty, Contents, Estimate
from imagecache_operator.builder.space import in_words

_ENDLESS = 10_000  # columns of a file
_WIDE = 72  # columns; on a narrower terminal bars and bytes leave their place to names
_STATE_WIDTH = 7
_BYTES_WIDTH = 24
_BAR_WIDTH = 12  # at the least
_LINES_BESIDE = 3  # the total, the rate, and a line of prose
_SHORT_DIGEST = len("sha256:") + 12

_STYLES = {"warning": "yellow", "error": "red", "critical": "red"}
_MARKS = {Certainty.EXACT: "", Certainty.ESTIMATE: "≈ ", Certainty.AT_LEAST: "≥ "}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """A reader that went away must not end the build."""


class Terminal:
    """Reports for people (`report.Reporter`). The bars are there while it is entered as a context."""

    def __init__(self, stream: TextIO, images: Sequence[str]) -> None:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # some locales lack some of these letters
        attended = stream.isatty()
        self._images = images
        self._console = _Console(
            file=stream, force_terminal=attended, width=None if attended else _ENDLESS, highlight=False,
        )
        self._live = Live(
            console=self._console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False,
        )

    def __enter__(self) -> Terminal:
        with _reader_may_leave():
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        with _reader_may_leave():
            self._live.stop()

    def log(self, level: str, message: str) -> None:
        style = _STYLES.get(level)
        self._print(Text.assemble((f"{level}: ", style), message) if style else Text(message))

    def progress(self, progress: Progress) -> None:
        with _reader_may_leave():
            self._live.update(self._bars(progress), refresh=True)

    def outcome(self, outcome: Outcome) -> None:
        """How every image ended, if any was begun."""
        if not outcome.images:
            return
        self._print_table(("Size", "Result"), [
            (name, image.digest or "", in_words(image.size) if image.size else "", _result(image.reason))
            for name, image in zip(self._images, outcome.images, strict=True)
        ])

    def estimate(self, estimate: Estimate) -> None:
        """What would be fetched, what for, and whether there is room for it."""
        rows: list[_Row] = []
        for image in estimate.images:
            told = _numbers(image.contents) if image.contents else ("", "", "", "", _result(image.reason))
            rows.append((image.reference, image.digest or "", ", ".join(image.platforms), *told))
        rows.append(("Total, shared layers once", "", "", *_numbers(estimate.total)))
        failed = [image for image in estimate.images if image.reason]
        reason = ("Reason",) if failed else ()
        self._print_table(("Platforms", "Layers", "Compressed", "Unpacked", "To fetch", *reason), rows)
        if estimate.total.unpacked.certainty is not Certainty.EXACT:
            self._print(Text("≈ is what a layer's end or beginning says of its size, ≥ a lower bound."))
        for image in failed:
            self.log("error", f"{image.reference}: {image.reason}: {image.message}")
        self._print(Text(_room(estimate)))

    def _bars(self, progress: Progress) -> RenderableType:
        width, height = self._console.size
        wide = width >= _WIDE
        room = width - _STATE_WIDTH - 1 - (_BYTES_WIDTH + _BAR_WIDTH + 2 if wide else 0)
        room = max(1, min(room, max(map(len, ("Total", *self._images)))))
        bar = width - room - _STATE_WIDTH - _BYTES_WIDTH - 3
        total = ImageProgress(
            state=ImageState.PULLING if progress.bytes_total else ImageState.WAITING,
            bytes_done=progress.bytes_done, bytes_total=progress.bytes_total,
        )
        rows = [(self._images[p], progress.images[p]) for p in _most_important(progress, height - _LINES_BESIDE)]
        grid = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
        for name, image in (*rows, ("Total", total)):
            shown = Text(_end_of(name, room).ljust(room), no_wrap=True)
            state = Text(_state(image).rjust(_STATE_WIDTH), "red" if image.state is ImageState.FAILED else "")
            whole = max(1, image.bytes_total)
            done = whole if image.state is ImageState.PULLED else image.bytes_done
            cells = [shown, ProgressBar(whole, done, width=bar), state, _of(image)] if wide else [shown, state]
            grid.add_row(*cells, style="bold" if image is total else None)
        return Group(grid, Text(_speed(progress), no_wrap=True, overflow="ellipsis"))

    def _print_table(self, heads: Sequence[str], rows: Sequence[_Row]) -> None:
        """As a table, with whole digests if they have room; where even short ones have not, line after line."""
        for digest_width in (None, _SHORT_DIGEST):
            table = Table("Image", "Digest", box=None, pad_edge=False, header_style="bold")
            for head in heads:
                table.add_column(head, justify="left" if head in _TEXTS else "right")
            for name, digest, *cells in rows:
                table.add_row(name, digest[:digest_width], *cells)
            endless = self._console.options.update(max_width=_ENDLESS)
            if Measurement.get(self._console, endless, table).maximum <= self._console.width:
                self._print(table)
                return
        for name, digest, *cells in rows:
            told = zip(("Digest", *heads), (digest[:_SHORT_DIGEST], *cells), strict=False)
            parts = [Text.assemble(f"{head.lower()} ", cell) for head, cell in told if cell]
            self._print(Text.assemble(name))
            self._print(Text("  ").append(Text(", ").join(parts)))

    def _print(self, what: RenderableType) -> None:
        with _reader_may_leave():
            self._console.print(what)


@contextlib.contextmanager
def _reader_may_leave() -> Iterator[None]:
    with contextlib.suppress(OSError, ValueError):
        yield


_Row = Sequence[str | Text]  # name, digest, and what else there is to tell
_TEXTS = frozenset({"Platforms", "Reason", "Result"})


def _result(reason: str | None) -> Text:
    return Text(reason, style="red") if reason else Text(ImageState.PULLED, style="green")


def _numbers(contents: Contents) -> tuple[str | Text, ...]:
    fetched = in_words(contents.missing_compressed) if contents.missing_layers else "nothing"
    return str(contents.layers), in_words(contents.compressed), _amount(contents.unpacked), fetched


def _amount(amount: Amount) -> str:
    return _MARKS[amount.certainty] + in_words(amount.size)


def _room(estimate: Estimate) -> str:
    total, exact = estimate.total, estimate.total.to_write.certainty is Certainty.EXACT
    answer = {
        True: "They fit." if exact else "They should fit.",
        False: "They do not fit: give --size a larger number, or name fewer images.",
        None: "Whether they fit cannot be told before they are unpacked.",
    }[estimate.fits]
    return (
        f"{total.missing_layers} layers to fetch would take {_amount(total.to_write)} on the volume "
        f"({estimate.stored_as}); {in_words(estimate.left)} are left there "
        f"(size {in_words(estimate.capacity)}, used {in_words(estimate.used)}). {answer}"
    )


def _most_important(progress: Progress, lines: int) -> list[int]:
    """Places of the images that are shown: all, or those under way first, as many as there are lines for."""
    places = sorted(range(len(progress.images)), key=lambda p: progress.images[p].state is not ImageState.PULLING)
    return sorted(places[:max(1, lines)])


def _end_of(name: str, room: int) -> str:
    """A long reference ends with what tells it from others: the image's own name and its tag."""
    return name if len(name) <= room else f"…{name[len(name) - room + 1:]}"


def _state(image: ImageProgress) -> str:
    if image.state is ImageState.PULLING:
        return f"{image.bytes_done * 100 // max(1, image.bytes_total)} %"
    return image.state.lower()


def _of(image: ImageProgress) -> str:
    return f"{in_words(image.bytes_done)} of {in_words(image.bytes_total)}" if image.bytes_total else ""


def _speed(progress: Progress) -> str:
    if progress.rate is None:
        return ""
    left = progress.seconds_left
    return f"{in_words(progress.rate)}/s" + (f", {_duration(left)} left" if left is not None else "")


def _duration(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
