# SPDX-License-Identifier: Apache-2.0
"""What nodes take an image's layers by: a carrier, the same layers with another config. Pure; `build.py` stores it.

A node that has taken a carrier has the layers unpacked, under the names that the diff_ids give them, and then pulls the
image itself under its own name in no time. It takes a carrier and not the stored image because one config is one image
for a node: a Pod's status would show the cache's name, and removing one of the two names would remove both. A carrier
tells nothing of the image but its layers and its platform, and nothing in it can be run. docs/decisions/0006.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imagecache_operator import names
from imagecache_operator.api.oci import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, as_json, descriptor, digest_of
from imagecache_operator.builder.plan import ImagePlan, PlatformImage
from imagecache_operator.builder.rewrite import StoredImage, StoredLayer, platform_words

LABEL = f"{names.GROUP}/carrier"


@dataclass(frozen=True)
class _Carrier:
    """One platform's."""

    platform: dict[str, Any]
    config: bytes
    manifest: bytes
    layers: frozenset[str]

    @property
    def entry(self) -> dict[str, Any]:
        """Its line in an index."""
        return {**descriptor(OCI_MANIFEST, digest_of(self.manifest), len(self.manifest)), "platform": self.platform}


def carrier_of(plan: ImagePlan, stored: StoredLayer) -> StoredImage | None:
    """The carrier of an image whose layers are on the volume; an index of carriers where it has several platforms.

    Its bytes follow from layers and platforms alone: images that agree in those have one carrier. None for an image
    without layers, which a node has as soon as it has asked for it. Raises what `stored` raises.
    """
    carriers = sorted(
        (_carrier(image, stored) for image in plan.images if image.manifest.layers),
        key=lambda carrier: as_json(carrier.entry),  # registries list platforms in any order
    )
    if not carriers:
        return None
    manifests = [carrier.manifest for carrier in carriers]
    return StoredImage(
        configs=tuple(carrier.config for carrier in carriers),
        manifests=tuple(manifests) if len(manifests) == 1 else (*manifests, _index(carriers)),
        blobs=frozenset().union(*({digest_of(carrier.config), *carrier.layers} for carrier in carriers)),
    )


def _carrier(image: PlatformImage, stored: StoredLayer) -> _Carrier:
    layers = [stored(layer, diff_id) for layer, diff_id in image.layers()]
    config = as_json({
        **image.config.platform.words,
        "config": {"Labels": {LABEL: "true"}},
        "rootfs": {"type": "layers", "diff_ids": image.config.diff_ids},
    })
    manifest = as_json({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, digest_of(config), len(config)),
        # With Docker's types where the stored layer has one: containerd takes them in an OCI manifest too, and looks
        # into a layer of Docker's plain type for its compression, where it would believe OCI's.
        "layers": [descriptor(layer.media_type, layer.digest, layer.size) for layer in layers],
    })
    return _Carrier(platform_words(image), config, manifest, frozenset(layer.digest for layer in layers))


def _index(carriers: list[_Carrier]) -> bytes:
    return as_json({
        "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [carrier.entry for carrier in carriers],
    })
