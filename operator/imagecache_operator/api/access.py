# SPDX-License-Identifier: Apache-2.0
"""Namespaces whose Pods may start from a cache: what users write (`spec.allowedNamespaces`). Part of
`api/imagecache.py`; what follows from it, `planning/access.py` says."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from imagecache_operator.api.labels import LabelSelector
from imagecache_operator.api.model import Model, listed_once

NAMESPACE_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"

_NOBODY = "allowedNamespaces needs names or a selector; a selector without anything in it admits all namespaces"


class AllowedNamespaces(Model):
    """Namespaces by name, by label, or both: one of the two is enough for a namespace."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [
        {"rule": "has(self.names) || has(self.selector)", "message": _NOBODY},
    ]})

    names: tuple[Annotated[str, Field(max_length=63, pattern=NAMESPACE_PATTERN)], ...] | None = Field(
        default=None, min_length=1, max_length=100, description="Names of namespaces. They need not exist yet.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    selector: LabelSelector | None = Field(
        default=None,
        description="Namespaces by their labels. An empty selector admits all namespaces, each with a password.",
    )

    @field_validator("names")
    @classmethod
    def _names_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        listed_once(names or (), "a namespace")
        return names

    @model_validator(mode="after")
    def _somebody(self) -> Self:
        if self.names is None and self.selector is None:
            raise PydanticCustomError("nobody", _NOBODY)
        return self
