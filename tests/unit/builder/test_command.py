# SPDX-License-Identifier: Apache-2.0
"""The builder as a process: the job from its environment, the outcome in a file, and signals."""

from __future__ import annotations

import base64
import json
import random
import signal
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from imagecache_operator import names
from imagecache_operator.api.job import BuildJob
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.command import builder
from imagecache_operator.builder.layout import Layout

from tests.support.accounts import docker_config
from tests.support.images import Image
from tests.support.registry_process import RegistryProcess
from tests.support.tls import Authority

from .conftest import GIB
from .faulty import FaultyRegistry, Handler, SmallImage, answers, sha256, trickles
from .program import PROGRAM, environment, run
from .pseudo_terminal import PseudoTerminal

DOCUMENT = Path(__file__).resolve().parents[3] / "docs/reference/builder.md"


def _environment(registry_ca: Path, job: BuildJob | None = None) -> dict[str, str]:
    return environment(registry_ca, **({names.ENV_JOB: json.dumps(job.to_json_dict())} if job else {}))


def _command(volume: Path, *more: str) -> list[str]:
    return [*PROGRAM, "--output", str(volume), *more]


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


def test_a_deadline_ends_the_run_and_is_told(
    faulty: FaultyRegistry, volume: Path, tmp_path: Path, authority: Authority,
) -> None:
    image = SmallImage([random.Random(1).randbytes(300_000)])
    faulty.fail(f"/v2/a/blobs/{image.layer_digests[0]}", trickles(60))
    message = tmp_path / "message"
    done = run(
        "--output", volume, "--image", faulty.add("a", image), "--platform", "linux/amd64", "--deadline", "1.5",
        "--termination-log", message, env=environment(authority.ca_file),
    )
    assert (done.returncode, done.stderr) == (1, "")
    outcome = Outcome.from_termination_message(message.read_text())
    assert outcome.reason is Reason.TIMEOUT
    assert outcome.message == "The deadline of 1.5 seconds passed."
    assert [i.reason for i in outcome.images] == [Reason.TIMEOUT]


def test_a_deadline_that_is_kept_changes_nothing(
    faulty: FaultyRegistry, volume: Path, tmp_path: Path, authority: Authority,
) -> None:
    message = tmp_path / "message"
    done = run(
        "--output", volume, "--image", faulty.add("a", SmallImage([b"x"])), "--platform", "linux/amd64",
        "--deadline", "600", "--termination-log", message, env=environment(authority.ca_file),
    )
    assert done.returncode == 0, done
    assert Outcome.from_termination_message(message.read_text()).succeeded


def test_a_plan_keeps_to_the_deadline_too(faulty: FaultyRegistry, volume: Path, authority: Authority) -> None:
    reference = faulty.add("a", SmallImage([b"x"]))
    faulty.fail("/v2/a/manifests/1", trickles(60))
    done = run(
        "--plan", "--output", volume, "--image", reference, "--deadline", "1", env=environment(authority.ca_file),
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["images"][0]["reason"] == Reason.TIMEOUT


@pytest.mark.parametrize("retries", [0, 2])
def test_as_many_retries_as_were_asked_for(
    retries: int, faulty: FaultyRegistry, volume: Path, authority: Authority,
) -> None:
    reference = faulty.add("a", SmallImage([b"x"]))
    faulty.fail("/v2/a/manifests/1", *[answers(503)] * 10)
    done = run(
        "--output", volume, "--image", reference, "--retries", str(retries), env=environment(authority.ca_file),
    )
    assert done.returncode == 1
    assert Reason.REGISTRY_UNAVAILABLE in done.stdout
    assert faulty.paths() == ["/v2/a/manifests/1"] * (retries + 1)


def test_a_silent_registry_is_waited_for_as_long_as_was_said(
    faulty: FaultyRegistry, volume: Path, tmp_path: Path, authority: Authority,
) -> None:
    reference, message = faulty.add("a", SmallImage([b"x"])), tmp_path / "message"
    faulty.fail("/v2/a/manifests/1", trickles(120))
    done = run(
        "--output", volume, "--image", reference, "--retries", "0", "--stall-timeout", "0.5",
        "--termination-log", message, env=environment(authority.ca_file),
    )
    assert done.returncode == 1
    (image,) = Outcome.from_termination_message(message.read_text()).images
    assert image.reason is Reason.TIMEOUT


def _meet(handler: Handler, data: bytes, meeting: threading.Barrier) -> None:
    meeting.wait(30)
    handler.answer(200, data)


@pytest.mark.parametrize(("options", "met"), [((), True), (("--connections", "1"), False), (("--workers", "1"), False)])
def test_as_many_connections_as_were_asked_for(
    options: tuple[str, ...], met: bool, faulty: FaultyRegistry, volume: Path, authority: Authority,
) -> None:
    """Where two are allowed, two layers wait for each other; where one is, that is all there ever is."""
    image = SmallImage([random.Random(n).randbytes(100_000) for n in range(2)])
    meeting = threading.Barrier(2)
    if met:
        for digest in image.layer_digests:
            faulty.fail(f"/v2/a/blobs/{digest}", partial(_meet, meeting=meeting))
    done = run(
        "--output", volume, "--image", faulty.add("a", image), "--platform", "linux/amd64", *options,
        env=environment(authority.ca_file),
    )
    assert done.returncode == 0, done
    assert (faulty.most_connections > 1) is met


def test_credentials_of_a_person(
    faulty: FaultyRegistry, volume: Path, tmp_path: Path, authority: Authority,
) -> None:
    config = tmp_path / "config.json"
    auth = base64.b64encode(b"ann:pass-of-ann").decode()
    config.write_text(docker_config({faulty.address: {"auth": auth}}))
    faulty.guard(
        lambda handler: 200 if handler.headers.get("Authorization") == f"Basic {auth}" else 401,
        {"WWW-Authenticate": 'Basic realm="here"'},
    )
    asked = ("--output", volume, "--image", faulty.add("a", SmallImage([b"x"])), "--platform", "linux/amd64")
    refused = run(*asked, env=environment(authority.ca_file))
    assert refused.returncode == 1
    assert Reason.UNAUTHORIZED in refused.stdout
    done = run(*asked, "--auth-file", config, env=environment(authority.ca_file))
    assert done.returncode == 0, done
    assert auth not in done.stdout + done.stderr


def test_the_form_that_was_asked_for(faulty: FaultyRegistry, volume: Path, authority: Authority) -> None:
    image = SmallImage([b"x" * 1000])
    done = run(
        "--output", volume, "--image", faulty.add("a", image), "--platform", "linux/amd64", "--stored-as", "Original",
        env=environment(authority.ca_file),
    )
    assert done.returncode == 0, done
    assert Layout(volume).has(image.layer_digests[0])
    assert Layout(volume).has(sha256(image.body))


def test_json_for_a_person_who_asks_for_it(faulty: FaultyRegistry, volume: Path, authority: Authority) -> None:
    with PseudoTerminal(40) as terminal:
        asked = ("--image", faulty.add("a", SmallImage([b"x"])), "--platform", "linux/amd64", "--log-format", "json")
        terminal.run([*PROGRAM, "--output", str(volume), *asked], environment(authority.ca_file))
        assert terminal.finish() == 0
    lines = [json.loads(line) for line in terminal.output.splitlines()]
    assert {line["type"] for line in lines} == {"log", "progress"}


def test_credentials_that_the_pod_lacks_are_told(volume: Path, tmp_path: Path) -> None:
    message, nowhere = tmp_path / "message", tmp_path / "nowhere"
    job = BuildJob(images=("registry.invalid/a:1",), platforms=("linux/amd64",), capacity=GIB)
    pod = {names.ENV_JOB: json.dumps(job.to_json_dict()), names.ENV_CREDENTIALS_FILE: str(nowhere)}
    done = run("--output", volume, "--termination-log", message, env=environment(None, **pod))
    assert (done.returncode, done.stderr) == (1, "")
    outcome = Outcome.from_termination_message(message.read_text())
    assert outcome.reason is Reason.INTERNAL
    assert str(nowhere) in outcome.message


@pytest.mark.parametrize("option", sorted(option for parameter in builder.params for option in parameter.opts))
def test_people_can_look_up_every_option(option: str) -> None:
    assert f"| `{option}" in DOCUMENT.read_text()
