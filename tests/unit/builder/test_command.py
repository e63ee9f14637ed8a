# SPDX-License-Identifier: Apache-2.0
"""The builder as a process: the job from its environment, the outcome in a file, signals, and sudden death."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from imagecache_operator import names
from imagecache_operator.api.job import BuildJob
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import Layout

from tests.support.images import Image
from tests.support.registry_process import RegistryProcess
from tests.support.tls import Authority

from .conftest import GIB
from .faulty import FaultyRegistry, SmallImage, trickles

ROOT = Path(__file__).resolve().parents[3]
MORTAL = Path(__file__).with_name("mortal.py")


def _environment(registry_ca: Path, job: BuildJob | None = None) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator"), names.ENV_CA_FILE: str(registry_ca),
        **({names.ENV_JOB: json.dumps(job.to_json_dict())} if job else {}),
    }


def _command(volume: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "imagecache_operator.builder.command", "--output", str(volume), *more]


def test_the_command_does_its_job_from_the_environment(
    registry: RegistryProcess, images: dict[str, Image], volume: Path, tmp_path: Path,
) -> None:
    job = BuildJob(
        images=(f"{registry.address}/team/multi:1.0", f"{registry.address}/missing:1"), platforms=("linux/amd64",),
        capacity=GIB,
    )
    message = tmp_path / "message"
    done = subprocess.run(
        _command(volume, "--termination-log", str(message)), env=_environment(registry.authority.ca_file, job),
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 1, done
    assert done.stderr == ""
    outcome = Outcome.from_termination_message(message.read_text())
    assert [i.reason for i in outcome.images] == [None, Reason.NOT_FOUND]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["type"] for line in lines} == {"log", "progress"}
    assert subprocess.run(_command(volume, "--check"), env=_environment(tmp_path), check=False).returncode == 0


def test_the_command_by_hand(registry: RegistryProcess, volume: Path, tmp_path: Path) -> None:
    message = tmp_path / "message"
    command = _command(
        volume, "--image", f"{registry.address}/team/multi:1.0", "--platform", "linux/arm64", "--size", "1",
        "--termination-log", str(message),
    )
    done = subprocess.run(command, env=_environment(registry.authority.ca_file), capture_output=True, check=False)
    assert done.returncode == 0, done
    assert Outcome.from_termination_message(message.read_text()).succeeded


def test_a_job_that_cannot_be_read_is_told(volume: Path, tmp_path: Path) -> None:
    message = tmp_path / "message"
    environment = {**_environment(tmp_path), names.ENV_JOB: '{"images": []}'}
    done = subprocess.run(
        _command(volume, "--termination-log", str(message)), env=environment, capture_output=True, check=False,
    )
    assert done.returncode == 1
    assert Outcome.from_termination_message(message.read_text()).reason is Reason.INTERNAL


def test_the_command_without_a_job_says_so(volume: Path, tmp_path: Path) -> None:
    done = subprocess.run(_command(volume), env=_environment(tmp_path), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert names.ENV_JOB in done.stderr


def test_sigterm_is_a_clean_stop(faulty: FaultyRegistry, volume: Path, tmp_path: Path, authority: Authority) -> None:
    image = SmallImage([random.Random(1).randbytes(300_000), b"x" * 1000])
    faulty.fail(f"/v2/a/blobs/{image.layer_digests[0]}", trickles(60))
    message = tmp_path / "message"
    command = _command(volume, "--image", faulty.add("a", image), "--platform", "linux/amd64",
                       "--termination-log", str(message))
    process = subprocess.Popen(command, env=_environment(authority.ca_file), stdout=subprocess.DEVNULL)
    try:
        while not any("/blobs/" + image.layer_digests[0] in path for path in faulty.paths()):
            time.sleep(0.02)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(8) == 1
    finally:
        process.kill()
    outcome = Outcome.from_termination_message(message.read_text())
    assert outcome.reason is Reason.CANCELLED
    assert outcome.images[0].reason is Reason.CANCELLED
    assert Layout(volume).has(image.diff_ids[1])


@pytest.mark.timeout(240)
def test_a_builder_may_be_killed_at_any_moment(
    registry: RegistryProcess, images: dict[str, Image], tmp_path: Path,
) -> None:
    platform = f"linux/{next(iter(images.values())).own.architecture}"
    options = [part for name in images for part in ("--image", f"{registry.address}/{name}")]
    message = tmp_path / "message"
    options += ["--platform", platform, "--termination-log", str(message)]
    environment = _environment(registry.authority.ca_file)
    counter = tmp_path / "touches"

    def run(volume: Path, last_touch: int) -> int:
        command = [sys.executable, str(MORTAL), str(counter), str(last_touch), "--output", str(volume), *options]
        return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode

    assert run(tmp_path / "whole", 0) == 0
    # Threads that make one folder at once touch it more or less often; the last few touches may not come every time.
    touches = counter.stat().st_size * 9 // 10
    assert touches > 100
    moments = random.Random(20)
    for number in range(12):
        volume = tmp_path / f"volume-{number}"
        last_touch = moments.randint(touches * number // 12 + 1, touches * (number + 1) // 12)
        assert run(volume, last_touch) == -signal.SIGKILL
        # A tag whose own link is still missing is what a reader sees as no image; anything else must be whole.
        assert [p for p in check(volume) if not _is_unfinished(p)] == []
        assert run(volume, 0) == 0
        assert check(volume) == []
        outcome = Outcome.from_termination_message(message.read_text())
        assert [i.digest for i in outcome.images] == [image.digest for image in images.values()]


def _is_unfinished(problem: str) -> bool:
    return any(words in problem for words in ("Half-written", "points nowhere", "no layout"))
