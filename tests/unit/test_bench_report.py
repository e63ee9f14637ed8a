# SPDX-License-Identifier: Apache-2.0
"""A benchmark's document keeps its prose and gets the new figures."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

import pytest

from tests.bench.report import Environment, Row, of_program, write

ENVIRONMENT = Environment(date(2026, 11, 24), "a machine", "a 1, b 2", 0.5)
ROWS = [Row("speed", "3 s", "≤ 2 s", met=False), Row("size", "1 MB")]


def test_figures_are_replaced_and_prose_is_kept(tmp_path: Path) -> None:
    document = tmp_path / "bench.md"
    document.write_text("# Prose\n\n## Measured\n\nformer figures\n")
    for _ in range(2):
        write(document, ENVIRONMENT, ROWS, note="Two files.")
    assert document.read_text() == (
        "# Prose\n\n## Measured\n\n"
        "On 2026-11-24; a machine, load 0.5 before; a 1, b 2. Two files.\n\n"
        "| what | measured | aim |  |\n| --- | --- | --- | --- |\n"
        "| speed | 3 s | ≤ 2 s | MISSED |\n| size | 1 MB |  |  |\n"
    )


def test_a_document_without_a_place_for_figures_is_left_alone(tmp_path: Path) -> None:
    document = tmp_path / "bench.md"
    document.write_text("# Prose\n")
    with pytest.raises(ValueError, match="no heading"):
        write(document, ENVIRONMENT, ROWS)
    assert document.read_text() == "# Prose\n"


def test_a_program_says_its_version() -> None:
    assert of_program("Python", sys.executable) == f"Python {sys.version.split()[0]}"
