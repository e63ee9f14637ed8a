# SPDX-License-Identifier: Apache-2.0
"""The operator's own settings: read once from the environment at start, then passed along. No module reads the
environment by itself. Each field `x_y` is the variable `IMAGECACHE_X_Y`; docs/reference/settings.md lists them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from imagecache_operator import names
from imagecache_operator.api.job import WORKERS

PREFIX = "IMAGECACHE_"

_DNS_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
# No address: the last label is not all digits.
_DOMAIN = re.compile(rf"({_DNS_LABEL}\.)*(?![0-9]+$){_DNS_LABEL}")
# A host name has at most 253 characters, and the server's own name comes before the domain, with a dot.
_LONGEST_DOMAIN = 253 - 1 - len(names.server_name("", ""))


class InvalidSettings(ValueError):
    """A variable has a value that cannot be used. The text names the variable and what it may be."""


class Injection(StrEnum):
    """When Pods are made to start from caches. AUTO: where every kubelet is new enough (`planning/kubelets.py`)."""

    AUTO = "auto"
    ON = "true"
    OFF = "false"


class Settings(BaseModel):
    """Frozen. Durations are seconds in the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = Field(default=names.NAMESPACE, description="Where builders and volumes live.")
    builder_image: str = Field(min_length=1, description="The operator's own image; the builder runs from it.")
    server_image: str = Field(
        default="registry:3",
        description="Image of what serves caches to nodes: CNCF distribution, version 3. Pin it by digest.",
    )
    server_domain: str | None = Field(
        default=None,
        description="Nodes reach each server by a host name in this domain, through an Ingress; unset: by a node port.",
    )
    server_ingress_class: str | None = Field(
        default=None, min_length=1, description="Class of these Ingresses; unset: the cluster's default.",
    )
    server_tls_secret: str | None = Field(
        default=None, min_length=1,
        description="Name of a Secret in the namespace with a certificate for *.<domain>; unset: that of the Ingress "
        "controller.",
    )
    server_ingress_annotations: Mapping[str, str] = Field(
        default_factory=dict, description="Annotations of these Ingresses, a JSON object of strings.",
    )
    warmer_image: str = Field(
        default="registry.k8s.io/pause:3.10",
        description="Image of what holds images on warm nodes: a program that sleeps, once for each image.",
    )
    builder_cpu: str = Field(default="1", description="CPU of a builder Pod (requests = limits).")
    builder_memory: str = Field(default="512Mi", description="Memory of a builder Pod (requests = limits).")
    builder_deadline: timedelta = Field(
        default=timedelta(hours=6), gt=timedelta(0), description="Longest life of one builder Pod.",
    )
    builder_start_deadline: timedelta = Field(
        default=timedelta(minutes=15), gt=timedelta(0),
        description="How long a builder Pod may take to start before the attempt counts as failed.",
    )
    builder_workers: int = Field(
        default=WORKERS, ge=1, le=32, description="Layers that a builder pulls at the same time.",
    )
    builder_connections: int | None = Field(
        default=None, ge=1, le=32,
        description="Connections of a builder to one registry at the same time; unset: one for each worker.",
    )
    builder_retries: int = Field(
        default=4, ge=0, le=20, description="How often in a row a builder tries again what failed at a registry.",
    )
    builder_stall_timeout: timedelta = Field(
        default=timedelta(seconds=30), gt=timedelta(0),
        description="How long a registry may be silent before that counts as a failure.",
    )
    registry_proxy: str = Field(
        default="registry-proxy",
        description="Name of a Secret in the namespace, keys HTTPS_PROXY, HTTP_PROXY and NO_PROXY: the proxy before "
        "registries.",
    )
    registry_ca: str = Field(
        default="registry-ca",
        description="Name of a ConfigMap in the namespace, key ca.crt: extra certificate authorities of registries.",
    )
    plain_http_registries: tuple[str, ...] = Field(
        default=(), description="Registries (host or host:port, comma-separated) spoken to without TLS.",
    )
    canary_deadline: timedelta = Field(
        default=timedelta(minutes=2), gt=timedelta(0),
        description="How long a node may take for a trial start from a cache before that counts as failed.",
    )
    max_builders: int = Field(default=4, ge=1, description="Builders that run at once.")
    max_caches: int = Field(default=50, ge=1, description="Caches that are served; newer ones wait.")
    max_attempts: int = Field(default=6, ge=1, description="Attempts in a row before a cache fails.")
    expiry_grace: timedelta = Field(
        default=timedelta(minutes=5), ge=timedelta(0), description="Time between expiry and what onExpiry says.",
    )
    failed_volume_ttl: timedelta = Field(
        default=timedelta(hours=24), ge=timedelta(0), description="How long the volume of a failed cache is kept.",
    )
    resync: timedelta = Field(
        default=timedelta(minutes=10), gt=timedelta(0), description="Longest time between two looks at a cache.",
    )
    injection: Injection = Field(
        default=Injection.AUTO, description="Whether Pods are made to start from caches: the webhook is registered.",
    )

    @field_validator("injection", mode="before")
    @classmethod
    def _on_or_off(cls, said: Any) -> Any:
        """In all spellings that pydantic knows for yes and no."""
        if said in list(Injection):
            return said
        try:
            return Injection.ON if TypeAdapter(bool).validate_python(said) else Injection.OFF
        except ValidationError:
            raise PydanticCustomError("injection", "Input should be auto, true or false") from None

    @field_validator("server_domain")
    @classmethod
    def _is_a_domain(cls, said: str | None) -> str | None:
        if said is None or (len(said) <= _LONGEST_DOMAIN and _DOMAIN.fullmatch(said)):
            return said
        raise PydanticCustomError(
            "domain", f"Input should be a DNS name in lower case, of at most {_LONGEST_DOMAIN} characters, "
            "such as caches.example.com",
        )

    @field_validator("server_ingress_annotations", mode="before")
    @classmethod
    def _are_annotations(cls, said: Any) -> Any:
        """Those of our own keys would change what the operator finds its Ingresses by."""
        found = said
        if isinstance(said, str):
            try:
                found = json.loads(said)
            except ValueError:
                found = None
        if not isinstance(found, Mapping) or not all(isinstance(v, str) for v in found.values()):
            raise PydanticCustomError("annotations", "Input should be a JSON object of strings")
        if any(key.startswith(f"{names.GROUP}/") for key in found):
            raise PydanticCustomError("annotations", f"Input should have no key that begins with {names.GROUP}/")
        return dict(found)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Settings:
        """Raises InvalidSettings naming the variable."""
        given: dict[str, object] = {}
        for field, info in cls.model_fields.items():
            text = environment.get(PREFIX + field.upper())
            if text is None:
                continue
            if info.annotation is timedelta:
                # ISO or seconds; a bare number reaches pydantic as a number.
                given[field] = float(text) if text.replace(".", "", 1).isdigit() else text
            elif field == "plain_http_registries":
                given[field] = tuple(part.strip() for part in text.split(",") if part.strip())
            else:
                given[field] = text
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidSettings(f"{PREFIX}{str(first['loc'][0]).upper()}: {first['msg']}") from None
