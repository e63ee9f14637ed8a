# SPDX-License-Identifier: Apache-2.0
"""What keeps the repository easy to find one's way in: licences, sizes, names, and docs that name what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from imagecache_operator import names
from imagecache_operator.api.conditions import ConditionReason
from imagecache_operator.api.reasons import Reason
from imagecache_operator.settings import PREFIX, Settings

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "operator" / "imagecache_operator"
SOURCES = sorted(
    path.relative_to(REPOSITORY) for folder in ("operator", "tests") for path in (REPOSITORY / folder).rglob("*.py")
)
SHORT = [path for path in SOURCES if path.parts[0] == "operator" or path.parts[:2] == ("tests", "cluster")]
VAGUE = {"util", "utils", "helper", "helpers", "common", "manager", "misc"}
LICENCE = "# SPDX-License-Identifier: Apache-2.0"


def read(*parts: str) -> str:
    return REPOSITORY.joinpath(*parts).read_text()


def test_the_source_folder_does_not_shadow_pythons_own_operator() -> None:
    assert not (REPOSITORY / "operator" / "__init__.py").exists()
    assert SOURCES


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_source_file_begins_with_its_licence(path: Path) -> None:
    text = (REPOSITORY / path).read_text()
    assert text.startswith(LICENCE)


@pytest.mark.parametrize("path", SHORT, ids=str)
def test_a_source_file_can_be_read_in_one_sitting(path: Path) -> None:
    assert len((REPOSITORY / path).read_text().splitlines()) <= 300


def test_no_module_has_a_name_that_says_nothing() -> None:
    vague = [str(path) for path in SOURCES if VAGUE & {*re.split(r"[_.]", path.stem), *path.parts[:-1]}]
    assert vague == []


@pytest.mark.parametrize("reason", [*ConditionReason, *Reason])
def test_users_can_look_up_every_reason(reason: str) -> None:
    assert f"`{reason}`" in read("docs", "reference", "imagecache.md")


@pytest.mark.parametrize("field", Settings.model_fields)
def test_users_can_look_up_every_setting(field: str) -> None:
    assert f"{PREFIX}{field.upper()}" in read("docs", "reference", "settings.md")


@pytest.mark.parametrize("name", [names.ANNOTATION_RETRY])
def test_users_can_look_up_what_they_may_annotate(name: str) -> None:
    assert name in read("docs", "reference", "imagecache.md")


@pytest.mark.parametrize("key", [
    names.ANNOTATION_CACHE, names.ANNOTATION_CACHE_ALIAS, names.LABEL_INJECT, names.ANNOTATION_INJECTED,
    names.LABEL_INJECTED_FROM, names.LABEL_NOT_INJECTED, names.ANNOTATION_NOT_INJECTED,
])
def test_users_can_look_up_every_mark_of_injection(key: str) -> None:
    assert f"`{key}`" in read("docs", "reference", "injection.md")


def paths_named_in(document: str) -> set[str]:
    """Whatever stands in backticks and looks like a path: a file with an ending that we use, or one of our folders."""
    found = set(re.findall(r"`([\w./-]+)`", document))
    return {p for p in found if re.search(r"\.(py|md|yaml|toml)$", p) or p.split("/")[0] in ("tests", "deploy", "docs")}


def test_architecture_names_only_what_exists() -> None:
    named = paths_named_in(read("docs", "architecture.md"))
    assert len(named) > 20, "the table of concepts and files is there"
    missing = [p for p in named if not (PACKAGE / p).exists() and not (REPOSITORY / p).exists()]
    assert missing == []


def test_the_front_page_names_only_what_exists() -> None:
    named = paths_named_in(read("README.md"))
    missing = [p for p in named if not (PACKAGE / p).exists() and not (REPOSITORY / p).exists()]
    assert missing == []


@pytest.mark.parametrize("module", sorted(
    p.relative_to(PACKAGE).as_posix() for folder in ("planning", "cluster", "controller", "admission")
    for p in (PACKAGE / folder).glob("*.py") if p.name not in ("__init__.py",)
))
def test_every_module_says_why_it_exists(module: str) -> None:
    second = (PACKAGE / module).read_text().splitlines()[1]
    assert second.startswith('"""')
    assert len(second) > 40
