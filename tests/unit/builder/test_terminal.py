# SPDX-License-Identifier: Apache-2.0
"""What a person sees: bars in a real terminal of any size, then a table; nothing of it in a file or in a Pod."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from imagecache_operator.api.report import ImageProgress, ImageState, Progress

from tests.support.images import Image
from tests.support.registry_process import RegistryProcess
from tests.support.tls import Authority

from .faulty import Fault, FaultyRegistry, Handler, SmallImage, trickles
from .program import PROGRAM, environment
from .pseudo_terminal import PseudoTerminal

BAR = "━"


def _command(volume: Path, *more: str) -> list[str]:
    return [*PROGRAM, "--output", str(volume), "--termination-log", os.devnull, *more]


Command = Callable[..., list[str]]


@pytest.fixture
def command(registry: RegistryProcess, images: dict[str, Image], volume: Path) -> Command:
    """The builder with one image that is there and one that is not."""
    platform = f"linux/{images['team/multi:1.0'].own.architecture}"
    asked = ("--image", f"{registry.address}/team/multi:1.0", "--image", f"{registry.address}/missing:1")
    return lambda *more: _command(volume, *asked, "--platform", platform, *more)


def test_a_person_sees_bars_and_in_the_end_a_table(
    command: Command, registry: RegistryProcess, images: dict[str, Image],
) -> None:
    with PseudoTerminal(100) as terminal:
        terminal.run(command(), environment(registry.authority.ca_file))
        assert terminal.finish() == 1
        screen = terminal.screen
    assert BAR in terminal.output
    assert "100 %" in terminal.output
    there, missing = f"{registry.address}/team/multi:1.0", f"{registry.address}/missing:1"
    head, *rows = (line.split() for line in screen[-3:])
    assert head == ["Image", "Digest", "Size", "Result"]
    size = rows[0][2]
    assert rows == [[there, images["team/multi:1.0"].digest[:19], size, "MiB", "Pulled"], [missing, "NotFound"]]
    assert abs(float(size) - images["team/multi:1.0"].own.raw_size / 2**20) < 0.2
    assert not any(BAR in line for line in screen), "the bars are gone"
    assert screen[0].startswith(f"error: {missing}: NotFound: The registry ")
    assert terminal.output.rindex("\x1b[?25h") > terminal.output.rindex("\x1b[?25l"), "the cursor is back"


def _in_steps(released: threading.Event) -> Fault:
    """A hundredth every twentieth of a second; after the release all the rest."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.answer(200, data, cut=0)
        step = len(data) // 100
        for start in range(0, len(data), step):
            handler.wfile.write(data[start:start + step])
            handler.wfile.flush()
            released.wait(0.05)

    return fault


def test_the_total_has_a_rate_and_the_time_that_is_left(
    faulty: FaultyRegistry, authority: Authority, volume: Path,
) -> None:
    image = SmallImage([random.Random(3).randbytes(30_000_000)])
    released = threading.Event()
    faulty.fail(f"/v2/a/blobs/{image.layer_digests[0]}", _in_steps(released))
    with PseudoTerminal(100) as terminal:
        asked = ("--image", faulty.add("a", image), "--platform", "linux/amd64")
        terminal.run(_command(volume, *asked), environment(authority.ca_file))
        terminal.read_until("/s, 0:")
        terminal.read_until(" left")
        released.set()
        assert terminal.finish() == 0
    assert " of 28.6 MiB" in terminal.output


def test_ctrl_c_leaves_the_terminal_in_order(faulty: FaultyRegistry, authority: Authority, volume: Path) -> None:
    image = SmallImage([random.Random(3).randbytes(300_000)])
    faulty.fail(f"/v2/a/blobs/{image.layer_digests[0]}", trickles(60))
    with PseudoTerminal(100) as terminal:
        asked = ("--image", faulty.add("a", image), "--platform", "linux/amd64")
        terminal.run(_command(volume, *asked), environment(authority.ca_file))
        terminal.read_until(" 0 %")
        terminal.interrupt()
        assert terminal.finish() == 1
    *_, prose, head, row = terminal.screen
    assert head.split() == ["Image", "Digest", "Size", "Result"]
    assert row.split()[-1] == "Cancelled"
    assert prose == "0 of 1 images are complete"
    assert not any(BAR in line for line in terminal.screen)


@pytest.mark.parametrize("columns", [20, 44, 71])
@pytest.mark.parametrize("plan", [(), ("--plan",)])
def test_a_narrow_terminal_is_never_too_narrow(
    columns: int, plan: tuple[str, ...], command: Command, registry: RegistryProcess, images: dict[str, Image],
) -> None:
    with PseudoTerminal(columns) as terminal, PseudoTerminal(10_000) as endless:
        terminal.run(command(*plan), environment(registry.authority.ca_file))
        assert terminal.finish() == 1
        endless.output = terminal.output  # without the breaks that the terminal itself makes
        assert max(map(len, endless.screen)) <= columns, "a line that the terminal breaks spoils the next picture"
    shown = "".join(line.strip() for line in terminal.screen)
    for word in ("team/multi:1.0", images["team/multi:1.0"].digest[:19], "NotFound"):
        assert word in shown
    assert BAR not in terminal.output


_TWO_PICTURES = """
import sys
from imagecache_operator.api.report import Progress
from imagecache_operator.builder.terminal import Terminal
before, after = map(Progress.model_validate_json, sys.argv[1:])
with Terminal(sys.stdout, [f"registry.example/team/app-{n}:1" for n in range(20)]) as terminal:
    terminal.progress(before)
    terminal.log("info", "between two pictures")
    terminal.progress(after)
    sys.stdin.read()
"""


def test_a_low_terminal_shows_what_is_under_way() -> None:
    states = [ImageState.PULLED] * 9 + [ImageState.PULLING] + [ImageState.WAITING] * 10
    before = Progress(
        images=tuple(ImageProgress(state=s, bytes_done=1, bytes_total=3) for s in states), bytes_done=12,
        bytes_total=60, rate=2048, seconds_left=3725,
    )
    after = before.model_copy(update={"rate": 2_000_000, "seconds_left": 59})
    with PseudoTerminal(100, rows=6) as terminal:
        pictures = [picture.model_dump_json(by_alias=True) for picture in (before, after)]
        terminal.run([sys.executable, "-c", _TWO_PICTURES, *pictures], environment())
        terminal.read_until("0:59 left")
        prose, *picture, total, speed = terminal.screen
    assert "2.0 KiB/s, 1:02:05 left" in terminal.output
    assert prose == "between two pictures"
    assert len(picture) <= 4
    assert any("app-9:1" in line and "33 %" in line for line in picture)
    assert total.startswith("Total ")
    assert "20 %" in total
    assert speed == "1.9 MiB/s, 0:59 left"


def test_colours_are_left_out_for_who_does_not_want_them(command: Command, registry: RegistryProcess) -> None:
    seen = {}
    for wish in ({}, {"NO_COLOR": "1"}, {"TERM": "dumb"}):
        with PseudoTerminal(100) as terminal:
            terminal.run(command("--plan"), environment(registry.authority.ca_file, **wish))
            assert terminal.finish() == 1
        seen[tuple(wish)] = terminal
    assert seen[()].colours
    assert not seen["NO_COLOR",].colours
    assert "\x1b" not in seen["TERM",].output


def test_a_terminal_that_knows_no_control_sequences_gets_none(command: Command, registry: RegistryProcess) -> None:
    with PseudoTerminal(100) as terminal:
        terminal.run(command(), environment(registry.authority.ca_file, TERM="dumb"))
        assert terminal.finish() == 1
    assert "\x1b" not in terminal.output
    assert "Result" in terminal.output


def test_a_file_gets_prose_and_whole_digests(
    command: Command, registry: RegistryProcess, images: dict[str, Image],
) -> None:
    done = subprocess.run(
        command("--log-format", "text"), env=environment(registry.authority.ca_file), capture_output=True, text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert BAR not in done.stdout
    assert images["team/multi:1.0"].digest in done.stdout
    assert sum(line.endswith(": check name and tag.") for line in done.stdout.splitlines()) == 1


def test_a_reader_that_went_away_ends_nothing(command: Command, registry: RegistryProcess, volume: Path) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    try:
        done = subprocess.run(
            command("--log-format", "text"), env=environment(registry.authority.ca_file), stdout=theirs,
            stderr=subprocess.PIPE, text=True, check=False,
        )
    finally:
        os.close(theirs)
    assert (done.returncode, done.stderr) == (1, "")
    assert list(volume.rglob("_manifests/tags/1.0"))


@pytest.mark.parametrize(("form", "needed"), [("json", False), ("auto", False), ("text", True)])
def test_what_draws_for_people_is_not_even_loaded_for_others(
    form: str, needed: bool, command: Command, registry: RegistryProcess,
) -> None:
    python, *rest = command("--log-format", form)
    timed = [python, "-X", "importtime", *rest]
    done = subprocess.run(
        timed, env=environment(registry.authority.ca_file), capture_output=True, text=True, check=False,
    )
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "click" in loaded
    assert ("rich" in loaded) is needed
