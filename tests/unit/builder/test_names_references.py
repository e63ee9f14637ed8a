# SPDX-License-Identifier: Apache-2.0
"""References that would lead somewhere else, or make a line of a log say something else; and the longest there are."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import parse

from .conftest import Run
from .content import Bench, packed
from .faulty import FaultyRegistry, SmallImage, sha256

DIGEST = "@sha256:" + "a" * 64


@pytest.fixture
def bench(faulty: FaultyRegistry, run: Run, volume: Path, output: io.StringIO) -> Bench:
    return Bench(faulty, run, volume, output)


HOSTILE = [
    "../../../../etc/passwd", "/etc/passwd", "..", ".", "...", "a/../b", "a/./b", "a//b", "reg.example/../x",
    "reg.example/a/..", "reg.example/../../../..", "..:1", "a:..", "a:.", "a:../x", "a:/etc", "a@../x",
    "a@sha256:../../etc/passwd", f"a:..{DIGEST}", f"..{DIGEST}", "a:1@sha256:" + "../" * 21 + "x", "~root/x", "a/~/b",
    "C:\\x", "\\\\host\\x", "file:///etc/passwd", "https://reg.example/a", "%2e%2e/a", "a/%2e%2e/b", "a%00b",
    "a\0b", "\0", "a:1\0", "a\nb", "a:1\n", "\na", "a\r\nb", 'a\n{"type":"log"}', "\x1b[2J\x1b[31mred",
    "a:\x1b]0;x\x07", "a\x7fb", "a\x85b", "a\u2028b", "a\u202eb", "\u2066a\u2069", "a\u200bb", "\ufeffa",
    "b\u00fccher/app", "\u0430pp", "\U0001f4a3", "a\ud800", "$(id)", "`id`", "${HOME}", "{{7*7}}", "%s%n", "", " ",
    "a b", "a\tb", "[::1", "[::1]", "[1]/a", "[::::]/a", "[fe80::1%eth0]/a", "[::1]:0/a", "host.example:99999/a",
    "host.example:/a",
    "a" * 1_000_000, "../" * 300_000, "\n" * 1_000_000, "\x1b" * 1_000_000, "\u202e" * 1_000_000, "[" * 1_000_000,
]


def test_what_is_no_reference_is_refused_and_leaves_no_trace(bench: Bench, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if bench.volume not in path.parents}
    bench.refuses_all(dict.fromkeys(HOSTILE, ()), Reason.UNSUPPORTED)
    assert {path for path in tmp_path.rglob("*") if bench.volume not in path.parents} == before


def longest(address: str, digest: str = "") -> list[str]:
    """Eighteen references with paths of 255 and tags of 128 characters, that differ where nobody would look."""
    names = [f"{number:02d}{'a' * 100}/{'b' * 149}{number:02d}" for number in range(18)]
    assert {len(name) for name in names} == {254}
    return [f"{address}/{name}c:{'T' * 126}{n:02d}{digest}" for n, name in enumerate(names)]


@pytest.mark.parametrize("by_digest", [False, True])
def test_twenty_images_with_the_longest_names(by_digest: bool, bench: Bench) -> None:
    image = SmallImage([b"a layer"], compress=packed)
    references = longest(bench.faulty.address, f"@{sha256(image.body)}" if by_digest else "")
    for reference in references:
        found = parse(reference)
        bench.faulty.add(found.path, image, found.tag or "1")
    bench.takes(*references)
    assert len({parse(reference).stored_repository for reference in references}) == 18


def test_a_long_name_does_not_hide_what_is_wrong_with_it(bench: Bench) -> None:
    references = longest(bench.faulty.address)
    for reference in references:
        bench.put(parse(reference).path, b"{}", tag=parse(reference).tag or "1")
    bench.refuses_all({r: [r[:100], "take it off the list"] for r in references}, Reason.UNSUPPORTED)
