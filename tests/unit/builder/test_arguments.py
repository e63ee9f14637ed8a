# SPDX-License-Identifier: Apache-2.0
"""Mistakes of a person: one sentence that names the option, exit status 2, and nothing is begun."""

from __future__ import annotations

from pathlib import Path

import pytest
from imagecache_operator import names

from .program import environment, run

IMAGE = ("--image", "registry.invalid/team/app:1")
CONFIG = '{"auths": {"registry.invalid": {"auth": "YW5uOnBhc3M="}}}'


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Path:
    """Files that the mistakes are about, in a folder that options name by {here}."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "config.json").write_text(CONFIG)
    (tmp_path / "no-json").write_text("auths: {}")
    (tmp_path / "no-text").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "nobody.json").write_text('{"auths": {}, "credsStore": "desktop"}')
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    return tmp_path


@pytest.mark.parametrize(("options", "option", "words"), [
    (("--image", "Team/App:1"), "--image", "'Team/App:1' is no image reference: a repository's name is written in"),
    (("--image", ""), "--image", "empty"),
    (("--image", "https://registry.invalid/a"), "--image", "leave out https://"),
    (("--image", "a b"), "--image", "'a b'"),
    ((*IMAGE, "--image", "app@sha256:12"), "--image", "'app@sha256:12' has a broken digest"),
    ((*IMAGE, *IMAGE), "--image", "are the same image: name it once"),
    (("--image", "busybox", "--image", "docker.io/library/busybox:latest"), "--image",
     "busybox and docker.io/library/busybox:latest are the same image"),
    (tuple(part for n in range(21) for part in ("--image", f"a:{n}")), "--image", "up to 20 images, these are 21"),
    ((*IMAGE, "--platform", "amd64"), "--platform", "'amd64' is no platform: write it like linux/amd64"),
    ((*IMAGE, "--plain-http", "http://localhost:5000"), "--plain-http", "write host or host:port"),
    ((*IMAGE, "--plain-http", "registry"), "--plain-http", "'registry' is no registry"),
    ((*IMAGE, "--plain-http", "localhost:99999"), "--plain-http", "'localhost:99999'"),
    ((*IMAGE, "--auth-file", "{here}/nothing"), "--auth-file", "does not exist"),
    ((*IMAGE, "--auth-file", "{here}"), "--auth-file", "is a directory"),
    ((*IMAGE, "--auth-file", "{here}/no-json"), "--auth-file", "no-json is not JSON: name a config.json"),
    ((*IMAGE, "--auth-file", "{here}/no-text"), "--auth-file", "no-text is no text: name a config.json"),
    ((*IMAGE, "--auth-file", "{here}/nobody.json"), "--auth-file", "nobody.json holds no credentials"),
    ((*IMAGE, "--output", "{here}/file"), "--output", "is a file"),
    ((*IMAGE, "--output", "{here}/file/below"), "--output", "{here}/file is no folder"),
    ((*IMAGE, "--output", "{here}/link"), "--output", "{here}/link is no folder"),
    ((*IMAGE, "--output", "/proc/cache"), "--output", "/proc/cache cannot be written ("),
    ((*IMAGE, "--plan", "--output", "{here}/file/below"), "--output", "{here}/file is no folder"),
    ((*IMAGE, "--size", "0"), "--size", "0 is not in the range"),
    ((*IMAGE, "--stored-as", "Squashed"), "--stored-as", "'Original'"),
    ((*IMAGE, "--workers", "many"), "--workers", "'many'"),
    ((*IMAGE, "--connections", "0"), "--connections", "0 is not in the range"),
    ((*IMAGE, "--retries", "-1"), "--retries", "-1 is not in the range"),
    ((*IMAGE, "--stall-timeout", "0"), "--stall-timeout", "0.0 is not in the range"),
    ((*IMAGE, "--deadline", "soon"), "--deadline", "'soon'"),
    ((*IMAGE, "--termination-log", "{here}/no/where"), "--termination-log", "{here}/no is no folder"),
    ((*IMAGE, "--log-format", "xml"), "--log-format", "'json'"),
    (("--check", "--plan"), "--check", "give one of them"),
    ((), "--image", names.ENV_JOB),
], ids=lambda value: value if isinstance(value, str) and value.startswith("--") else "")
def test_a_mistake_is_answered_in_one_sentence(
    options: tuple[str, ...], option: str, words: str, here: Path,
) -> None:
    output = here / "new"
    before = sorted(here.iterdir())
    done = run("--output", output, *(text.format(here=here) for text in options), env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    *usage, sentence = done.stderr.splitlines()
    assert usage[0].startswith("Usage: ")
    assert len(usage) <= 3
    assert sentence.startswith("Error: ")
    assert option in sentence
    assert words.format(here=here) in sentence
    assert sentence.endswith((".", "'"))
    assert sorted(here.iterdir()) == before
