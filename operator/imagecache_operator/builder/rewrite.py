# SPDX-License-Identifier: Apache-2.0
"""The manifests of an image whose layers lie on the volume as plain tars. Pure; `build.py` stores what comes out.

The config stays as it is, byte for byte, so the image ID is the original's. Everything becomes OCI, also what was
Docker's schema 2: only OCI manifests have annotations, and the annotation tells what the image was at its registry.
Annotations of layers are dropped: they describe the compressed form (lazy pulling's table of contents, for one).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imagecache_operator import names
from imagecache_operator.builder.manifest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, OCI_TAR, digest_of
from imagecache_operator.builder.plan import ImagePlan, PlatformImage

SOURCE_DIGEST = f"{names.GROUP}/source-digest"


@dataclass(frozen=True)
class StoredImage:
    """What has to be written for an image besides its layers. `manifests` ends with what the tag names; `blobs`
    are the digests of layers and configs."""

    configs: tuple[bytes, ...]
    manifests: tuple[bytes, ...]
    blobs: frozenset[str]

    @property
    def manifest_digests(self) -> tuple[str, ...]:
        return tuple(digest_of(manifest) for manifest in self.manifests)


def decompressed(plan: ImagePlan, size_of: Callable[[str], int]) -> StoredImage:
    """The stored form of an image. `size_of` tells the bytes of a layer's tar by its digest."""
    manifests = [_manifest(image, size_of) for image in plan.images]
    documents = [*manifests, _index(plan, manifests)] if plan.index else manifests
    configs = tuple(image.config_body for image in plan.images)
    layers = {diff_id for image in plan.images for diff_id in image.config.diff_ids}
    return StoredImage(
        configs=configs,
        manifests=tuple(documents),
        blobs=frozenset(layers | {digest_of(config) for config in configs}),
    )


def _manifest(image: PlatformImage, size_of: Callable[[str], int]) -> bytes:
    return _json({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": _descriptor(OCI_CONFIG, image.manifest.config.digest, len(image.config_body)),
        "layers": [_descriptor(OCI_TAR, diff_id, size_of(diff_id)) for diff_id in image.config.diff_ids],
        "annotations": {**(image.manifest.annotations or {}), SOURCE_DIGEST: image.digest},
    })


def _index(plan: ImagePlan, manifests: list[bytes]) -> bytes:
    return _json({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {**_descriptor(OCI_MANIFEST, digest_of(body), len(body)), "platform": _platform(image)}
            for image, body in zip(plan.images, manifests, strict=True)
        ],
        "annotations": {**((plan.index and plan.index.annotations) or {}), SOURCE_DIGEST: plan.digest},
    })


def _platform(image: PlatformImage) -> dict[str, Any]:
    if image.named:
        return image.named.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    platform = image.config.platform
    words = {"os": platform.os, "architecture": platform.architecture, "variant": platform.variant}
    return {key: value for key, value in words.items() if value}


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
