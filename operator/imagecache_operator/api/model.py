# SPDX-License-Identifier: Apache-2.0
"""The base of every model in `api/`: camelCase outside, snake_case inside, frozen. Only `api/` imports it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """Immutable; unknown fields are ignored, because a newer version of either side may know more."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore")

    def to_json_dict(self) -> dict[str, object]:
        """The model as JSON-ready data with camelCase keys; fields that are None are left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
