# SPDX-License-Identifier: Apache-2.0
"""docs/reference/metrics.md lists the metrics that there are, with every value of their labels, and no others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from imagecache_operator import exposition
from imagecache_operator.admission.counters import Counters as OfTheWebhook
from imagecache_operator.controller.counters import Counters as OfTheOperator
from imagecache_operator.planning.offers import Missed
from prometheus_client import CollectorRegistry

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "metrics.md").read_text()
SECTIONS = re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)


def described(program: str) -> dict[str, str]:
    """The rows of that program's first table: a metric's name, and what is said of it."""
    section, = (s for s in SECTIONS if s.startswith(program))
    return dict(re.findall(r"^\| `(imagecache_\w+)` \| (.*) \|$", section, flags=re.MULTILINE))


def exposed(registry: CollectorRegistry) -> dict[str, str]:
    """The names by which Prometheus knows them, and their kinds."""
    return {f"{m.name}_total" if m.type == "counter" else m.name: m.type for m in registry.collect()}


REGISTRIES = [("The webhook", OfTheWebhook().registry), ("The operator", OfTheOperator().registry)]


@pytest.mark.parametrize(("program", "registry"), REGISTRIES)
def test_each_is_described_and_nothing_else(program: str, registry: CollectorRegistry) -> None:
    rows = described(program)
    assert {name: words.partition(",")[0].partition(" ")[0] for name, words in rows.items()} == exposed(registry)


@pytest.mark.parametrize(("program", "registry"), REGISTRIES)
def test_so_is_every_value_of_a_label(program: str, registry: CollectorRegistry) -> None:
    rows = described(program)
    labels = {
        (f"{m.name}_total" if m.type == "counter" else m.name, key, value)
        for m in registry.collect() for s in m.samples for key, value in s.labels.items() if key != "le"
    }
    assert labels
    for metric, key, value in labels:
        assert f"`{key}`" in rows[metric]
        assert f"`{value}`" in (DOCUMENT if key == "reason" else rows[metric]), (metric, value)


def test_every_reason_of_a_miss_has_a_row_and_no_other() -> None:
    reasons = re.findall(r"^\| `(?!imagecache_)([a-z_]+)` \| [^|]+ \| [^|]+ \|$", DOCUMENT, flags=re.MULTILINE)
    assert sorted(reasons) == sorted(["reason", *Missed])


def test_where_it_is_served() -> None:
    assert f"`{exposition.PATH}`" in DOCUMENT
