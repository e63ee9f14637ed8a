# SPDX-License-Identifier: Apache-2.0
"""Reads the JSON of registries, whoever wrote it. Pure; `manifest.py` says with it what the documents look like.

Nodes read the same documents with Go's decoder. What that one might take otherwise than Python's is refused: a name
that an object has twice or in capitals, byte order marks, UTF-16, NaN. Else a node might run what nobody verified.
And 4 MiB of JSON are small to send, but not to understand: lists are counted before they are looked into.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic.alias_generators import to_camel

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.text import printable
from imagecache_operator.builder.errors import ImageError

M = TypeVar("M", bound=BaseModel)


class Part(BaseModel):
    """An object of a document. `validated` reads one; by the constructor, fields have Python's names."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _as_go_reads_it(cls, data: Any, info: ValidationInfo) -> Any:
        """By JSON's names alone; null is absent, and a name in other capitals would be taken for the field's."""
        if info.context is None or not isinstance(data, dict):
            return data
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        folded = {name.lower(): name for name in fields}
        for key in data:
            if key not in fields and (name := folded.get(key.casefold())):
                raise ValueError(f"'{name}' is spelled '{printable(key)}'")
        return {
            key: data[key] for key, field in fields.items()
            if key in data and (data[key] is not None or field.is_required())
        }


def _checked_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell and nobody can write down again
        raise ValueError("not Unicode") from None
    return text


Text = Annotated[str, AfterValidator(_checked_text)]


def at_most(count: int, what: str) -> BeforeValidator:
    """For a list or a map. Null is an empty one, as for Go. Pydantic remembers every mistake of every member, and those
    of a document of 4 MiB would fill gigabytes: one that is too long is refused before."""

    def check(value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, list | dict) and len(value) > count:
            raise ImageError(
                Reason.UNSUPPORTED, f"{info.context} has {len(value)} {what}, more than {count}: build it with fewer.",
            )
        return [] if value is None else value

    return BeforeValidator(check)


class _SaidTwice(ValueError):
    """The name that an object has twice."""


def parsed(body: bytes, whose: str) -> dict[str, Any]:
    """The object in `body`. `whose` names it in errors. Raises ImageError."""
    data = None
    try:
        # Decoded first: from bytes, Python takes UTF-16 and byte order marks too.
        data = json.loads(body.decode(), object_pairs_hook=_distinct, parse_constant=_refused)
    except _SaidTwice as error:
        raise ImageError(
            Reason.MANIFEST_INVALID,
            f"{whose} has a manifest or config that says '{printable(error)}' twice: push the image again.",
        ) from None
    except (ValueError, RecursionError):
        pass
    if not isinstance(data, dict):
        raise ImageError(
            Reason.MANIFEST_INVALID, f"{whose} has a manifest or config that is no JSON object: push the image again.",
        )
    return data


def validated(kind: type[M], data: dict[str, Any], whose: str) -> M:
    """The object as a model. Raises ImageError that names the first mistake."""
    try:
        return kind.model_validate(data, context=whose)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = printable(".".join(str(step) for step in first["loc"]), 60)
        what = printable(first["msg"].removeprefix("Value error, "))
        raise ImageError(
            Reason.MANIFEST_INVALID,
            f"{whose} has a broken manifest or config ({where or 'at the top'}: {what}): push the image again.",
        ) from None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _SaidTwice(key)
        found[key] = value
    return found


def _refused(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
