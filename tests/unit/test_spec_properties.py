# SPDX-License-Identifier: Apache-2.0
"""Whatever a spec says: the models take it and keep every rule, or the operator says in plain words what is wrong.

The judge is `tests/contract/spec_oracle.py`, which shares nothing with the models. Each run takes the same documents;
IMAGECACHE_SPEC_DOCUMENTS=10000 .venv/bin/pytest tests/unit/test_spec_properties.py takes that many new ones, and a
fifth of that for each field by itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from imagecache_operator.api.imagecache import NAME_PATTERN
from imagecache_operator.api.reference import InvalidReference, parse
from imagecache_operator.cluster import reading

from tests.contract import spec_oracle as oracle
from tests.contract.spec_strategies import DOCUMENTS, NAMES, NEARLY, REFERENCES, Path, nearly

ASKED = os.environ.get("IMAGECACHE_SPEC_DOCUMENTS")
many = settings(
    max_examples=int(ASKED or 1000), derandomize=not ASKED, database=None, deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
# An event holds 1024 bytes, and the operator's words around it are in it too.
LONGEST_ERROR = 900


@many
@given(spec=DOCUMENTS)
def test_the_models_take_what_the_rules_allow_and_nothing_else(spec: Any) -> None:
    _check(spec)


@pytest.mark.parametrize("path", NEARLY, ids=lambda path: ".".join(map(str, path)))
def test_so_does_each_field_near_the_edge_of_its_rule(path: Path) -> None:
    @settings(many, max_examples=many.max_examples // 5)
    @given(spec=nearly(path))
    def check(spec: Any) -> None:
        _check(spec)

    check()


def _check(spec: Any) -> None:
    found = reading.cache({
        "metadata": {"name": "ml", "uid": "u", "creationTimestamp": "2026-03-01T12:00:00Z"}, "spec": spec,
    })
    faults = oracle.faults(spec)
    if found.spec is None:
        _check_words(found.spec_error, faults, spec)
    else:
        assert found.spec_error == ""
        assert faults == set()
        stored = found.spec.to_json_dict()
        assert stored == oracle.as_stored(spec)
        assert (type(stored["imageCacheSize"]), type(stored["retentionDays"])) == (int, int)


def _check_words(error: str, faults: set[str], spec: Any) -> None:
    path, _, words = error.partition(": ")
    assert path.startswith("spec")
    assert path.removeprefix("spec").removeprefix(".") in faults
    assert words
    assert error.isprintable()
    assert len(error.encode()) <= LONGEST_ERROR
    assert not any(trace in error for trace in ("input_value", "input_type", "errors.pydantic.dev"))
    # What was written may be long, or a password in the wrong place: it is not repeated.
    assert not any(text in error for text in _texts(spec) if len(text) > 20)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(inner)


@many
@given(text=REFERENCES)
def test_what_a_spec_may_list_is_understood_or_refused_in_a_sentence(text: str) -> None:
    try:
        found = parse(text)
    except InvalidReference as refusal:
        sentence = str(refusal)
        assert sentence.isprintable()
        # An odd character is written out, so up to ten for each of the hundred that are shown.
        assert len(sentence) <= 1200
        left = ("at most 255", "is no port", "is no IPv6", "image ID")
        left_to_the_builder = any(words in sentence for words in left)
        assert oracle.is_reference(text) == left_to_the_builder
    else:
        assert oracle.is_reference(text)
        assert parse(found.canonical).canonical == found.canonical


@many
@given(name=NAMES)
def test_names(name: str) -> None:
    assert (re.fullmatch(NAME_PATTERN, name) is not None) == oracle.is_name(name)
