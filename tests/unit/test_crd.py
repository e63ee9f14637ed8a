# SPDX-License-Identifier: Apache-2.0
"""From a model to a schema that an API server takes."""

from __future__ import annotations

from typing import Any

import pytest
from imagecache_operator.api.crd import structural
from imagecache_operator.api.imagecache import Spec, Status
from imagecache_operator.api.model import Model
from pydantic import Field


class Inner(Model):
    """Said by   the model,
    over two lines."""

    title: str = Field(description="A field that is called like a keyword.")


class Outer(Model):
    plain: Inner
    described: Inner = Field(description="Said by the field.")
    maybe: Inner | None = None
    many: tuple[Inner, ...] = ()
    number: int = Field(default=3, ge=1)
    empty: str | None = Field(default=None, min_length=2)


SCHEMA: Any = structural(Outer)["properties"]


def test_references_are_written_out() -> None:
    for schema in (SCHEMA["plain"], SCHEMA["described"], SCHEMA["maybe"], SCHEMA["many"]["items"]):
        assert schema["type"] == "object"
        assert schema["required"] == ["title"]


def test_a_field_called_like_a_keyword_stays() -> None:
    assert SCHEMA["plain"]["properties"]["title"]["type"] == "string"
    assert "title" not in SCHEMA["plain"]


def test_the_fields_own_words_win() -> None:
    assert SCHEMA["plain"]["description"] == "Said by the model, over two lines."
    assert SCHEMA["described"]["description"] == "Said by the field."


def test_only_defaults_that_say_something_are_kept() -> None:
    assert SCHEMA["number"]["default"] == 3
    assert "default" not in SCHEMA["maybe"]
    assert "default" not in SCHEMA["many"]
    assert SCHEMA["empty"] == {"type": "string", "minLength": 2}


@pytest.mark.parametrize("model", [Spec, Status])
def test_names_are_those_of_kubernetes(model: type[Model]) -> None:
    assert all("_" not in name for name in structural(model)["properties"])


def test_the_models_agree_with_the_schema_on_defaults() -> None:
    properties: Any = structural(Spec)["properties"]
    plain = Spec(images=("busybox",)).to_json_dict()
    assert {n: p["default"] for n, p in properties.items() if "default" in p} == {
        n: v for n, v in plain.items() if n != "images"
    }
