# SPDX-License-Identifier: Apache-2.0
"""Finds out what an image consists of before any layer is fetched: index, manifests, configs.

`build.py` calls it for every image. A config that the volume has is read there, so that a second run on a complete
volume asks the registry for manifests only.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imagecache_operator.api import reference as references
from imagecache_operator.api.oci import digest_of
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import Reference
from imagecache_operator.builder import manifest as manifests
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.layout import Layout
from imagecache_operator.builder.manifest import (
    Config,
    Descriptor,
    Index,
    IndexEntry,
    Manifest,
    NamedPlatform,
)
from imagecache_operator.builder.platforms import Platform, choose, is_for_all
from imagecache_operator.builder.registry import Document, Registries

# An index may list images without their platform; each costs requests to find out, so a hostile one is not followed.
_MAX_UNNAMED = 8


@dataclass(frozen=True)
class PlatformImage:
    """One platform's image. `body` is its manifest as it came, `named` the index's words for its platform."""

    body: bytes
    manifest: Manifest
    config: Config
    config_body: bytes
    named: NamedPlatform | None = None

    @property
    def digest(self) -> str:
        """The manifest's digest at the registry."""
        return digest_of(self.body)

    def layers(self) -> Iterator[tuple[Descriptor, str]]:
        """Each layer as the registry has it, with the digest of its tar."""
        return zip(self.manifest.layers, self.config.diff_ids, strict=True)


@dataclass(frozen=True)
class ImagePlan:
    """One image of the job. `body` is what the reference resolved to; `index` is None for a single manifest."""

    reference: Reference
    body: bytes
    images: tuple[PlatformImage, ...]
    index: Index | None

    @property
    def digest(self) -> str:
        """What the reference resolved to at its registry."""
        return digest_of(self.body)


class Planner:
    """Plans images, in any thread."""

    def __init__(self, registries: Registries, layout: Layout, wanted: Sequence[Platform]) -> None:
        self._registries = registries
        self._layout = layout
        self._wanted = wanted
        # JSON may take thirty times its size in memory: one document at a time, since Python runs one thread anyway.
        self._reading = threading.Lock()

    def plan(self, text: str) -> ImagePlan:
        """The plan for one reference of the job. Raises ImageError."""
        try:
            return self._plan(text)
        except ImageError as error:
            raise error.detached() from None  # `build.py` keeps it to the end

    def _plan(self, text: str) -> ImagePlan:
        try:
            reference = references.parse(text)
        except references.InvalidReference as error:
            raise ImageError(Reason.UNSUPPORTED, str(error)) from None
        document = self._registries.manifest(reference)
        content = self._read(document, document.content_type, reference)
        if isinstance(content, Index):
            return ImagePlan(reference, document.body, self._from_index(reference, content), content)
        image = self._image(reference, document.body, content, None)
        choose(self._wanted, [(image.config.platform, image)], reference.canonical)
        return ImagePlan(reference, document.body, (image,), None)

    def _from_index(self, reference: Reference, index: Index) -> tuple[PlatformImage, ...]:
        entries = [entry for entry in index.manifests if not entry.is_attestation]
        nested = any(entry.media_type in manifests.INDEXES for entry in entries)
        entries = [entry for entry in entries if entry.media_type not in manifests.INDEXES]
        offered = [(entry.named_platform, entry) for entry in entries if entry.named_platform]
        if not is_for_all(self._wanted, offered):
            for entry in [entry for entry in entries if not entry.named_platform][:_MAX_UNNAMED]:
                if platform := self._unnamed_platform(reference, entry):
                    offered.append((platform, entry))
        try:
            chosen = choose(self._wanted, offered, reference.canonical)
        except ImageError:
            if nested:
                raise ImageError(
                    Reason.UNSUPPORTED,
                    f"{reference.canonical} is an index of indexes, which is not supported: list one of those.",
                ) from None
            raise
        return tuple(self._from_entry(reference, entry) for entry in chosen)

    def _unnamed_platform(self, reference: Reference, entry: IndexEntry) -> Platform | None:
        """The platform that the image's config names; None for an entry that is no image."""
        try:
            return self._from_entry(reference, entry).config.platform
        except ImageError as error:
            if error.reason is Reason.UNSUPPORTED:
                return None
            raise

    def _from_entry(self, reference: Reference, entry: IndexEntry) -> PlatformImage:
        document = self._registries.manifest(reference, entry.digest)
        manifests.check_size(document.body, entry, reference.canonical)
        content = self._read(document, _content_type(document, entry), reference)
        if isinstance(content, Index):
            raise ImageError(
                Reason.MANIFEST_INVALID,
                f"{reference.canonical} has an index where a manifest should be: push the image again.",
            )
        return self._image(reference, document.body, content, entry.platform)

    def _image(
        self, reference: Reference, document: bytes, manifest: Manifest, named: NamedPlatform | None,
    ) -> PlatformImage:
        body = self._layout.read(manifest.config.digest, manifests.MAX_SIZE)
        if body is None:
            body = self._registries.small_blob(reference, manifest.config)
        manifests.check_size(body, manifest.config, reference.canonical)
        with self._reading:
            config = manifests.parse_config(body, manifest, reference.canonical)
        return PlatformImage(document, manifest, config, body, named)

    def _read(self, document: Document, content_type: str, reference: Reference) -> Index | Manifest:
        with self._reading:
            return manifests.parse(document.body, content_type, reference.canonical)


def _content_type(document: Document, entry: IndexEntry) -> str:
    # Some registries answer with a general type; the index knows better.
    known = document.content_type.partition(";")[0] in manifests.ACCEPTED
    return document.content_type if known or not entry.media_type else entry.media_type
