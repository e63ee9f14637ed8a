# SPDX-License-Identifier: Apache-2.0
"""Reads what a registry says an image is: index, manifest, config, in Docker's and in OCI's form.

Pure: bytes in, checked models out, and `ImageError` for everything else. `plan.py` calls it; nothing that has not
passed through here names a file or a URL later.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.errors import ImageError, printable
from imagecache_operator.builder.platforms import Platform

MAX_SIZE = 4 * 1024 * 1024  # registries refuse larger manifests; configs are far smaller

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_TAR = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_TAR = "application/vnd.docker.image.rootfs.diff.tar"

INDEXES = (OCI_INDEX, DOCKER_LIST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPTED = INDEXES + MANIFESTS

_CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
_LAYERS = frozenset({
    OCI_TAR, f"{OCI_TAR}+gzip", f"{OCI_TAR}+zstd", DOCKER_TAR, f"{DOCKER_TAR}.gzip", f"{DOCKER_TAR}.zstd",
})
M = TypeVar("M", bound=BaseModel)

_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def is_digest(text: str) -> bool:
    """Whether the text is a sha256 digest, and so safe as a file's name."""
    return bool(_SHA256.fullmatch(text))


def _checked_digest(text: str) -> str:
    if is_digest(text):
        return text
    if text.startswith("sha512:"):
        raise ImageError(Reason.UNSUPPORTED, "The image uses sha512 digests; only sha256 can be stored.")
    raise ValueError("not a sha256 digest")


class _Part(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore",
    )


Digest = Annotated[str, AfterValidator(_checked_digest)]


class NamedPlatform(_Part):
    """A platform as the index spells it."""

    os: str = ""
    architecture: str = ""
    variant: str = ""
    os_version: str | None = Field(default=None, alias="os.version")
    os_features: tuple[str, ...] | None = Field(default=None, alias="os.features")


class Descriptor(_Part):
    """A pointer to content: media type, digest, size in bytes as stored at the registry."""

    media_type: str = ""
    digest: Digest
    size: int = Field(ge=0, le=2**50, strict=True)


class IndexEntry(Descriptor):
    """One manifest of an index."""

    platform: NamedPlatform | None = None
    annotations: dict[str, str] | None = None

    @property
    def named_platform(self) -> Platform | None:
        """The entry's platform; None if the index does not say."""
        there = self.platform
        return Platform.of(there.os, there.architecture, there.variant) if there and there.architecture else None

    @property
    def is_attestation(self) -> bool:
        """Whether the entry describes another one (a signature, a bill of materials) and is no image."""
        unknown = self.platform is not None and "unknown" in (self.platform.os, self.platform.architecture)
        return unknown or "vnd.docker.reference.type" in (self.annotations or {})


class Index(_Part):
    """An image for several platforms."""

    manifests: tuple[IndexEntry, ...]
    annotations: dict[str, str] | None = None


class Manifest(_Part):
    """An image for one platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str] | None = None


class _RootFs(_Part):
    diff_ids: tuple[Digest, ...] = Field(alias="diff_ids")


class _ConfigText(_Part):
    os: str
    architecture: str
    variant: str = ""
    rootfs: _RootFs


@dataclass(frozen=True)
class Config:
    """What an image's config says that matters here: its platform, and the digest of each layer's tar."""

    platform: Platform
    diff_ids: tuple[str, ...]


def parse(body: bytes, content_type: str, whose: str) -> Index | Manifest:
    """The index or manifest in `body`. `whose` names it in errors. Raises ImageError."""
    data = _object(body, whose)
    media_type = data.get("mediaType") or content_type.partition(";")[0].strip().lower()
    if data.get("schemaVersion") == 1 or "fsLayers" in data:
        raise ImageError(
            Reason.UNSUPPORTED, f"{whose} has a schema 1 manifest: push the image again with a current tool.",
        )
    if "manifests" in data and ("layers" in data or "config" in data):
        raise ImageError(Reason.MANIFEST_INVALID, f"{whose} has a manifest that claims to be an index too.")
    if media_type in INDEXES or (media_type not in MANIFESTS and "manifests" in data):
        return _model(Index, data, whose)
    if media_type in MANIFESTS or "layers" in data:
        manifest = _model(Manifest, data, whose)
        _refuse_what_is_no_image(manifest, whose)
        return manifest
    raise ImageError(
        Reason.UNSUPPORTED, f"{whose} is no container image: its manifest is of the type '{printable(media_type)}'.",
    )


def parse_config(body: bytes, manifest: Manifest, whose: str) -> Config:
    """The config in `body`, checked against its manifest. Raises ImageError."""
    config = _model(_ConfigText, _object(body, whose), whose)
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise ImageError(
            Reason.MANIFEST_INVALID,
            f"{whose} contradicts itself: its manifest has {len(manifest.layers)} layers, its config {len(diff_ids)}.",
        )
    return Config(Platform.of(config.os, config.architecture, config.variant), diff_ids)


def _object(body: bytes, whose: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ImageError(Reason.MANIFEST_INVALID, f"{whose} has a manifest or config that is no JSON object.")
    return data


def _model(kind: type[M], data: dict[str, Any], whose: str) -> M:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = printable(".".join(str(step) for step in first["loc"]), 60)
        raise ImageError(
            Reason.MANIFEST_INVALID, f"{whose} has a broken manifest or config: {where}: {printable(first['msg'])}.",
        ) from None


def _refuse_what_is_no_image(manifest: Manifest, whose: str) -> None:
    if manifest.config.media_type not in _CONFIGS:
        raise ImageError(
            Reason.UNSUPPORTED,
            f"{whose} is no container image but an artifact of the type '{printable(manifest.config.media_type)}'.",
        )
    if manifest.config.size > MAX_SIZE:
        raise ImageError(Reason.UNSUPPORTED, f"{whose} has a config of more than {MAX_SIZE} bytes.")
    for layer in manifest.layers:
        kind = layer.media_type
        if kind in _LAYERS:
            continue
        if "encrypted" in kind:
            what = "encrypted layers, which only its nodes can open"
        elif "foreign" in kind or "nondistributable" in kind:
            what = "foreign layers, which registries do not hold"
        else:
            what = f"layers of the type '{printable(kind)}'"
        raise ImageError(Reason.UNSUPPORTED, f"{whose} has {what}: it cannot be cached.")
