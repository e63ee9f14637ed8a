# SPDX-License-Identifier: Apache-2.0
"""The blobs of images on a volume, as files: without the canary's, which is on every volume."""

from __future__ import annotations

from pathlib import Path

from imagecache_operator.api import canary
from imagecache_operator.api.oci import digest_of
from imagecache_operator.builder.layout import Layout

PLATFORMS = ("linux/amd64", "linux/arm64")  # that tests build for


def blobs_of_images(volume: Path) -> set[Path]:
    layout = Layout(volume)
    parts = [make(platform) for make in (canary.layers, canary.image) for platform in PLATFORMS]
    canarys = {layout.blob_path(digest_of(data)) for part in parts for data in (*part.blobs, part.manifest)}
    return set(volume.rglob("data")) - canarys
