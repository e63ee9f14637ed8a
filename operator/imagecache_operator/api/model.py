# SPDX-License-Identifier: Apache-2.0
"""The base of every model in `api/`: camelCase outside, snake_case inside, frozen. Only `api/` imports it."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError


def listed_once(entries: Sequence[str], what: str = "an entry") -> None:
    """What CEL and the list types say on the server. Raises an error of validation that begins with `what`."""
    if len(set(entries)) < len(entries):
        raise PydanticCustomError("listed_twice", "{what} is listed twice", {"what": what})


class Model(BaseModel):
    """Immutable; unknown fields are ignored, because a newer version of either side may know more."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def to_json_dict(self) -> dict[str, object]:
        """The model as JSON-ready data with camelCase keys; fields that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
