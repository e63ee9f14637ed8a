# SPDX-License-Identifier: Apache-2.0
"""Figures as people read them: rows with an aim, on the terminal and in a document. Called by `__main__`."""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from importlib.metadata import version
from pathlib import Path

from rich.table import Table

MEASURED = "\n## Measured\n"
COLUMNS = ("what", "measured", "aim", "")


@dataclass(frozen=True)
class Row:
    """One figure. Without an aim it is there for comparison."""

    what: str
    measured: str
    aim: str = ""
    met: bool = True

    @property
    def cells(self) -> tuple[str, str, str, str]:
        return self.what, self.measured, self.aim, ("" if not self.aim else "met" if self.met else "MISSED")


def duration(what: str, seconds: Sequence[float], aim: float | None = None) -> Row:
    """Half of them took at most p50, all but one in twenty at most p95, which the aim is for."""
    p50, p95 = statistics.median(seconds), statistics.quantiles(seconds, n=20, method="inclusive")[-1]
    figures = f"p50 {p50:.2f} s, p95 {p95:.2f} s, longest {max(seconds):.2f} s ({len(seconds)} times)"
    return Row(what, figures) if aim is None else Row(what, figures, f"p95 ≤ {aim} s", p95 <= aim)


@dataclass(frozen=True)
class Environment:
    """On what it was measured."""

    day: date
    machine: str
    versions: str
    load: float

    @classmethod
    def seen(cls, versions: Iterable[str]) -> Environment:
        """Now: the load is that of before the benchmark, and tells how much of the machine it had for itself."""
        gibibytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
        return cls(
            day=datetime.now(UTC).date(),
            machine=f"{os.cpu_count()} × {_processor()}, {gibibytes:.0f} GiB, {platform.system()}",
            versions=", ".join(versions),
            load=os.getloadavg()[0],
        )

    def __str__(self) -> str:
        return f"{self.day}; {self.machine}, load {self.load:.1f} before; {self.versions}"


def versions(*packages: str) -> Iterator[str]:
    """Python packages, each with the version that is installed."""
    return (f"{package} {version(package)}" for package in packages)


def of_program(name: str, path: str) -> str:
    """A program with the version that it says itself."""
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"[0-9]+\.[0-9]+[0-9.]*", said)
    return f"{name} {found[0] if found else said.strip()}"


def _processor() -> str:
    """Its model where Linux tells, else what the platform calls it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def table(rows: Sequence[Row]) -> Table:
    found = Table(*COLUMNS)
    for row in rows:
        found.add_row(*row.cells, style="" if row.met else "bold red")
    return found


def write(document: Path, environment: Environment, rows: Sequence[Row], note: str = "") -> None:
    """Replaces what stands below the heading; what stands above it tells how it is measured, and stays.

    `note` is what else belongs to the figures: the data they are of.
    """
    prose, heading, _ = document.read_text().partition(MEASURED)
    if not heading:
        raise ValueError(f"{document} has no heading{MEASURED.rstrip()}")
    lines = [f"On {environment}.{note and f' {note}'}", ""]
    lines += [f"| {' | '.join(cells)} |" for cells in (COLUMNS, ("---",) * len(COLUMNS), *(r.cells for r in rows))]
    document.write_text(f"{prose}{MEASURED}\n" + "\n".join(lines) + "\n")
