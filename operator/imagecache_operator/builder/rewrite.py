# SPDX-License-Identifier: Apache-2.0
"""What is written for an image besides its layers: configs and manifests. Pure; `build.py` stores what comes out.

With layers in their original form everything is kept byte for byte, so that digests and signatures hold. In the other
forms manifests are written anew, as OCI, also what was Docker's schema 2: only OCI manifests have annotations, and the
annotation tells what the image was at its registry. The config stays as it is always, so the image ID is the
original's. Annotations of layers are dropped: they describe the compressed form (lazy pulling's table of contents).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from imagecache_operator import names
from imagecache_operator.api.oci import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, as_json, descriptor, digest_of
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.manifest import ACCEPTED, Descriptor
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


# A layer as it lies on the volume, from the registry's descriptor and the tar's digest.
StoredLayer = Callable[[Descriptor, str], Descriptor]


def as_it_is(plan: ImagePlan, size_of: Callable[[str], int]) -> StoredImage:
    """The image with its manifests as the registry has them. An index keeps naming platforms that are not stored.

    Nothing is mended, so what no registry could serve is refused: raises ImageError (ManifestInvalid). `size_of` tells
    the bytes of a blob on the volume.
    """
    for body in {plan.body, *(image.body for image in plan.images)}:
        document = json.loads(body)
        if document.get("schemaVersion") != 2 or document.get("mediaType", OCI_MANIFEST) not in ACCEPTED:
            raise _unservable(plan, "its manifest has no schemaVersion 2, or a type that registries do not know")
    for layer in {layer for image in plan.images for layer in image.manifest.layers}:
        if size_of(layer.digest) != layer.size:
            raise _unservable(plan, f"its layer {layer.digest[:19]}… has another size than its manifest says")
    manifests = [image.body for image in plan.images]
    return StoredImage(
        configs=tuple(image.config_body for image in plan.images),
        manifests=(*manifests, plan.body) if plan.index else tuple(manifests),
        blobs=frozenset(
            blob.digest for image in plan.images for blob in (*image.manifest.layers, image.manifest.config)
        ),
    )


def written_anew(plan: ImagePlan, stored: StoredLayer) -> StoredImage:
    """The image with manifests for its layers as they are stored."""
    layers = [[stored(layer, diff_id) for layer, diff_id in image.layers()] for image in plan.images]
    manifests = [_manifest(image, found) for image, found in zip(plan.images, layers, strict=True)]
    documents = [*manifests, _index(plan, manifests)] if plan.index else manifests
    configs = tuple(image.config_body for image in plan.images)
    return StoredImage(
        configs=configs,
        manifests=tuple(documents),
        blobs=frozenset({layer.digest for found in layers for layer in found} | {digest_of(c) for c in configs}),
    )


def _unservable(plan: ImagePlan, why: str) -> ImageError:
    return ImageError(
        Reason.MANIFEST_INVALID,
        f"{plan.reference.canonical} cannot be stored as it is: {why}. Push it again, or store it as Decompressed.",
    )


def _manifest(image: PlatformImage, layers: list[Descriptor]) -> bytes:
    return as_json({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, image.manifest.config.digest, len(image.config_body)),
        "layers": [descriptor(layer.media_type, layer.digest, layer.size) for layer in layers],
        "annotations": {**(image.manifest.annotations or {}), SOURCE_DIGEST: image.digest},
    })


def _index(plan: ImagePlan, manifests: list[bytes]) -> bytes:
    return as_json({
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
        "manifests": [
            {**descriptor(OCI_MANIFEST, digest_of(body), len(body)), "platform": platform_words(image)}
            for image, body in zip(plan.images, manifests, strict=True)
        ],
        "annotations": {**((plan.index and plan.index.annotations) or {}), SOURCE_DIGEST: plan.digest},
    })


def platform_words(image: PlatformImage) -> dict[str, Any]:
    """The image's platform for an index: as its own index spells it, or else its config."""
    if image.named:
        return image.named.model_dump(by_alias=True, exclude_defaults=True, mode="json")
    return dict(image.config.platform.words)
