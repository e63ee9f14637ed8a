# SPDX-License-Identifier: Apache-2.0
"""Nodes that are kept warm: what users write of them (`spec.warmNodes`) and what they read (`status.warmNodes`).

Part of `api/imagecache.py`. Both halves of the wish have the names and the meaning that they have in a Pod. What is
said of keys and values here is only what keeps an object small: whether a label may be called so, the API server says
when the DaemonSet is applied, and its words are told.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from imagecache_operator.api.labels import MAX_KEY, MAX_VALUE, without_null
from imagecache_operator.api.model import Model

_WITHOUT_KEY = "a toleration without key tolerates everything, so its operator must be Exists"
_WITH_VALUE = "a toleration with the operator Exists has no value"


class TolerationOperator(StrEnum):
    """How a toleration's value is compared with a taint's."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to Pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(Model):
    """A toleration as in a Pod."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [
        {"rule": "has(self.key) || (has(self.operator) && self.operator == 'Exists')", "message": _WITHOUT_KEY},
        {
            "rule": "!(has(self.operator) && self.operator == 'Exists') || !has(self.value) || self.value == ''",
            "message": _WITH_VALUE,
        },
    ]})

    key: Annotated[str, Field(min_length=1, max_length=MAX_KEY)] | None = Field(
        default=None, description="The taint's key. Absent, with the operator Exists: every taint.",
    )
    operator: TolerationOperator | None = Field(
        default=None, description="Equal (where absent): the value must be the taint's. Exists: any value will do.",
    )
    value: Annotated[str, Field(max_length=MAX_VALUE)] | None = Field(default=None, description="The taint's value.")
    effect: TaintEffect | None = Field(default=None, description="The taint's effect. Absent: every effect.")

    @model_validator(mode="after")
    def _as_the_api_server_says(self) -> Self:
        exists = self.operator is TolerationOperator.EXISTS
        if self.key is None and not exists:
            raise PydanticCustomError("toleration_without_key", _WITHOUT_KEY)
        if exists and self.value:
            raise PydanticCustomError("toleration_with_value", _WITH_VALUE)
        return self


class WarmNodes(Model):
    """Which nodes are kept warm. An empty object: every Linux node that a DaemonSet without tolerations reaches."""

    node_selector: dict[str, Annotated[str, Field(max_length=MAX_VALUE)]] | None = Field(
        default=None, max_length=20, description="Labels that a node must have. Absent: all Linux nodes.",
    )
    tolerations: tuple[Toleration, ...] | None = Field(
        default=None, max_length=20, description="Taints that do not keep a node from being warmed.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )

    @field_validator("node_selector", mode="before")
    @classmethod
    def _labels(cls, labels: object) -> object:
        return without_null(labels)


class WarmNodesStatus(Model):
    """The DaemonSet that keeps nodes warm, in the operator's namespace, and how far it is."""

    name: str
    warm: int = Field(default=0, description="Nodes on which every image is there.")
    wanted: int = Field(default=0, description="Nodes that spec.warmNodes speaks of.")
    summary: str = Field(description="Both numbers as kubectl shows them: warm/wanted.")
