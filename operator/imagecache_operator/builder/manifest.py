# SPDX-License-Identifier: Apache-2.0
"""Says what a registry's documents mean: index, manifest, config, in Docker's and in OCI's form.

Pure: bytes in, checked models out, and `ImageError` for everything else. `plan.py` calls it; nothing that has not
passed through here names a file or a URL later.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationInfo

from imagecache_operator.api.oci import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, OCI_TAR
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.text import printable
from imagecache_operator.builder.documents import Part, Text, at_most, parsed, validated
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.platforms import Platform

MAX_SIZE = 4 * 1024 * 1024  # registries refuse larger manifests; configs are far smaller
MAX_LAYERS = 500  # the kernel's overlay file system stacks no more
MAX_ENTRIES = 1000  # of an index, of annotations; real images have dozens

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
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


def is_digest(text: str) -> bool:
    """Whether the text is a sha256 digest, and so safe as a file's name."""
    return bool(_SHA256.fullmatch(text))


def _checked_digest(text: str, info: ValidationInfo) -> str:
    if is_digest(text):
        return text
    if text.startswith("sha512:"):
        raise ImageError(
            Reason.UNSUPPORTED, f"{info.context} has sha512 digests, and only sha256 can be stored: push it with them.",
        )
    raise ValueError("not a sha256 digest")


Digest = Annotated[str, AfterValidator(_checked_digest)]
Annotations = Annotated[dict[Text, Text], at_most(MAX_ENTRIES, "annotations")]


class NamedPlatform(Part):
    """A platform as the index spells it."""

    os: Text = ""
    architecture: Text = ""
    variant: Text = ""
    os_version: Text | None = Field(default=None, alias="os.version")
    os_features: Annotated[tuple[Text, ...], at_most(MAX_ENTRIES, "features of a platform")] | None = Field(
        default=None, alias="os.features",
    )


class Descriptor(Part):
    """A pointer to content: media type, digest, size in bytes as stored at the registry."""

    media_type: Text = ""
    digest: Digest
    size: int = Field(ge=0, le=2**50, strict=True)


class IndexEntry(Descriptor):
    """One manifest of an index."""

    platform: NamedPlatform | None = None
    annotations: Annotations | None = None

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


class Index(Part):
    """An image for several platforms."""

    manifests: Annotated[tuple[IndexEntry, ...], at_most(MAX_ENTRIES, "manifests in its index")]
    annotations: Annotations | None = None


class Manifest(Part):
    """An image for one platform."""

    config: Descriptor
    layers: Annotated[tuple[Descriptor, ...], at_most(MAX_LAYERS, "layers")]
    annotations: Annotations | None = None


class _RootFs(Part):
    type: Text = ""
    # Docker leaves the list out of an image without layers.
    diff_ids: Annotated[tuple[Digest, ...], at_most(MAX_LAYERS, "layers")] = Field(default=(), alias="diff_ids")


class _ConfigText(Part):
    os: Text
    architecture: Text
    variant: Text = ""
    os_version: Text | None = Field(default=None, alias="os.version")
    rootfs: _RootFs


@dataclass(frozen=True)
class Config:
    """What an image's config says that matters here: its platform, and the digest of each layer's tar."""

    platform: Platform
    diff_ids: tuple[str, ...]


class _Head(Part):
    """What tells the kinds of documents apart."""

    schema_version: int | None = Field(default=None, ge=0, le=2**31, strict=True)
    media_type: Text = ""
    manifests: Any = None
    config: Any = None
    layers: Any = None
    fs_layers: Any = None


def parse(body: bytes, content_type: str, whose: str) -> Index | Manifest:
    """The index or manifest in `body`. `whose` names it in errors. Raises ImageError."""
    data = parsed(body, whose)
    head = validated(_Head, data, whose)
    media_type = head.media_type or content_type.partition(";")[0].strip().lower()
    if head.schema_version == 1 or head.fs_layers is not None:
        raise ImageError(
            Reason.UNSUPPORTED, f"{whose} has a schema 1 manifest: push the image again with a current tool.",
        )
    is_list, is_image = head.manifests is not None, head.layers is not None or head.config is not None
    if is_list and is_image:
        raise ImageError(
            Reason.MANIFEST_INVALID, f"{whose} has a manifest that claims to be an index too: push the image again.",
        )
    if media_type in INDEXES or (media_type not in MANIFESTS and is_list):
        index = validated(Index, data, whose)
        _refuse_two_sizes(index.manifests, whose)
        return index
    if media_type in MANIFESTS or "layers" in data:
        manifest = validated(Manifest, data, whose)
        _refuse_what_is_no_image(manifest, whose)
        _refuse_two_sizes((manifest.config, *manifest.layers), whose)
        return manifest
    raise ImageError(
        Reason.UNSUPPORTED,
        f"{whose} is no container image: its manifest is of the type '{printable(media_type)}'; take it off the list.",
    )


def parse_config(body: bytes, manifest: Manifest, whose: str) -> Config:
    """The config in `body`, checked against its manifest. Raises ImageError."""
    config = validated(_ConfigText, parsed(body, whose), whose)
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise ImageError(
            Reason.MANIFEST_INVALID,
            f"{whose} contradicts itself: its manifest has {len(manifest.layers)} layers, its config {len(diff_ids)}; "
            "build and push it again.",
        )
    return Config(Platform.of(config.os, config.architecture, config.variant), diff_ids)


def check_size(body: bytes, descriptor: Descriptor, whose: str) -> None:
    """Raises ImageError where a document is of another size than what points to it says: no node would take it."""
    if len(body) != descriptor.size:
        raise ImageError(
            Reason.MANIFEST_INVALID,
            f"{whose} contradicts itself: {descriptor.digest[:19]}… has {len(body)} bytes, not {descriptor.size}; "
            "build and push it again.",
        )


def _refuse_two_sizes(descriptors: Iterable[Descriptor], whose: str) -> None:
    sizes: dict[str, int] = {}
    for descriptor in descriptors:
        if sizes.setdefault(descriptor.digest, descriptor.size) != descriptor.size:
            raise ImageError(
                Reason.MANIFEST_INVALID,
                f"{whose} contradicts itself: it gives {descriptor.digest[:19]}… two sizes; build and push it again.",
            )


def _refuse_what_is_no_image(manifest: Manifest, whose: str) -> None:
    if manifest.config.media_type not in _CONFIGS:
        raise ImageError(
            Reason.UNSUPPORTED,
            f"{whose} is no container image but an artifact of the type '{printable(manifest.config.media_type)}': "
            "take it off the list.",
        )
    if manifest.config.size > MAX_SIZE:
        raise ImageError(
            Reason.UNSUPPORTED,
            f"{whose} has a config of more than {MAX_SIZE >> 20} MiB: build it with fewer labels and less history.",
        )
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
        raise ImageError(Reason.UNSUPPORTED, f"{whose} has {what}: it cannot be cached, take it off the list.")
