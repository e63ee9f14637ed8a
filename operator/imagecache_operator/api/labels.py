# SPDX-License-Identifier: Apache-2.0
"""Labels and label selectors, with the names and the meaning that they have everywhere in Kubernetes. Part of the spec:
`access.py` (namespaces) and `warming.py` (nodes) use them.

A selector is matched here, against labels that were seen: `planning/access.py` and the webhook ask it of namespaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from imagecache_operator.api.model import Model

MAX_KEY = 253 + 1 + 63  # a DNS subdomain, a slash and a name
MAX_VALUE = 63

_VALUES = "In and NotIn need values; Exists and DoesNotExist have none"

Label = Annotated[str, Field(max_length=MAX_VALUE)]


class SelectorOperator(StrEnum):
    """How a label is compared with values."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class Requirement(Model):
    """What is asked of one label."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [{
        "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)",
        "message": _VALUES,
    }]})

    key: Annotated[str, Field(min_length=1, max_length=MAX_KEY)] = Field(description="The label's key.")
    operator: SelectorOperator = Field(description="In, NotIn, Exists or DoesNotExist.")
    values: tuple[Label, ...] | None = Field(
        default=None, max_length=50, description="For In and NotIn.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )

    @model_validator(mode="after")
    def _as_the_api_server_says(self) -> Self:
        if (self.operator in (SelectorOperator.IN, SelectorOperator.NOT_IN)) != bool(self.values):
            raise PydanticCustomError("requirement_values", _VALUES)
        return self

    def holds(self, labels: Mapping[str, str]) -> bool:
        """A label that is not there is in no set of values: NotIn holds."""
        there = self.key in labels
        if self.operator is SelectorOperator.EXISTS:
            return there
        if self.operator is SelectorOperator.DOES_NOT_EXIST:
            return not there
        return (there and labels[self.key] in (self.values or ())) == (self.operator is SelectorOperator.IN)


class LabelSelector(Model):
    """A label selector; all that it says must hold. An empty one selects everything."""

    match_labels: dict[str, Label] | None = Field(
        default=None, max_length=20, description="Labels with the values that they must have.",
    )
    match_expressions: tuple[Requirement, ...] | None = Field(
        default=None, max_length=20, description="Further requirements.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )

    @field_validator("match_labels", mode="before")
    @classmethod
    def _labels(cls, labels: object) -> object:
        return without_null(labels)

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return (
            all(labels.get(key) == value for key, value in (self.match_labels or {}).items())
            and all(requirement.holds(labels) for requirement in self.match_expressions or ())
        )


def without_null(labels: object) -> object:
    """A map of labels as the API server reads it: null is absence, inside the map as well."""
    if not isinstance(labels, dict):
        return labels
    said = {key: value for key, value in labels.items() if value is not None}
    # Judged here, so that no key, which may hold anything, gets into the error's path.
    if not all(isinstance(value, str) and len(value) <= MAX_VALUE for value in said.values()):
        raise PydanticCustomError("label_value", "a label's value is a text of at most 63 characters")
    return said
