# SPDX-License-Identifier: Apache-2.0
"""What a cache offers to Pods: its images as nodes can take them, or why none can start from it now.

Pure. The webhook makes one of each ImageCache that it hears of (`admission/store.py`), so that `matching.py` has
nothing to work out while a Pod waits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from imagecache_operator.api.conditions import ConditionType
from imagecache_operator.api.imagecache import ImageStatus, Phase
from imagecache_operator.api.reference import InvalidReference, Reference, parse
from imagecache_operator.api.text import printable
from imagecache_operator.planning.access import Admitted, admitted
from imagecache_operator.planning.observed import Cache, Namespace

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")


class Missed(StrEnum):
    """Why a Pod that asked gets nothing, in one word of a closed set: the metrics count by it."""

    NO_CACHE = "no_such_cache"
    NO_IMAGE = "images_not_cached"
    DELETING = "deleting"
    INVALID = "invalid_spec"
    NOT_ADMITTED = "not_admitted"
    NOT_WANTED = "not_to_be_served"
    NOT_AVAILABLE = "not_available"
    NOT_SERVED = "not_served_now"
    NOT_PREPARED = "not_prepared"


@dataclass(frozen=True)
class CachedImage:
    """An image as a cache has it. `digest` is what its reference resolved to, `carrier` what nodes take it by."""

    reference: Reference
    digest: str | None
    carrier: str
    size: int


@dataclass(frozen=True)
class Offer:
    """What matters of one ImageCache. `unusable` says why no Pod can start from it now; empty where Pods can. `why` is
    the same in one word. `admitted`: whose Pods may, when they can."""

    cache: str
    uid: str
    created: datetime
    address: str
    images: tuple[CachedImage, ...]
    admitted: Admitted
    unusable: str = ""
    why: Missed | None = None

    def find(self, wanted: Reference) -> CachedImage | None:
        """The cached image that is `wanted`. With a digest that alone decides, beside the name; a tag may also be
        that of an image which the cache lists by tag and digest."""
        if wanted.digest:
            return self._by_digest.get((wanted.name, wanted.digest))
        return self._by_tag.get((wanted.name, wanted.tag or ""))

    def withheld(self, namespace: Namespace) -> tuple[Missed, str] | None:
        """Why it is not for Pods of that namespace; None where it is. The words name other namespaces: they are for
        those who may read ImageCaches."""
        if self.admitted.has(namespace):
            return None
        if self.why is Missed.INVALID:  # nobody knows whom it is for
            return self.why, self.unusable
        return Missed.NOT_ADMITTED, f"is not for namespace {printable(namespace.name)}: it is for {self.admitted.words}"

    @cached_property
    def _by_digest(self) -> dict[tuple[str, str], CachedImage]:
        listed = {(i.reference.name, i.reference.digest): i for i in self.images if i.reference.digest}
        resolved = {(i.reference.name, i.digest): i for i in self.images if i.digest}
        return {(name, digest): i for (name, digest), i in (resolved | listed).items() if digest}

    @cached_property
    def _by_tag(self) -> dict[tuple[str, str], CachedImage]:
        # Those without a digest last: they win.
        ordered = sorted(self.images, key=lambda i: i.reference.digest is None)
        return {(i.reference.name, i.reference.tag): i for i in ordered if i.reference.tag}


def offer(cache: Cache) -> Offer:
    """The facts of one ImageCache."""
    server = cache.status.server
    images = [found for found in map(cached_image, cache.status.images) if found is not None]
    why, unusable = _unusable(cache, images) or (None, "")
    address = server.address if server else ""
    return Offer(cache.name, cache.uid, cache.created, address, tuple(images), admitted(cache), unusable, why)


def cached_image(image: ImageStatus) -> CachedImage | None:
    """An image as nodes can take it. None where they cannot: one that failed has no carrier, nor has one without
    layers, or one stored by a version that made none."""
    if image.carrier is None or not _DIGEST.fullmatch(image.carrier):
        return None
    try:
        return CachedImage(parse(image.reference), image.digest, image.carrier, image.size or 0)
    except InvalidReference:
        return None


def _unusable(cache: Cache, images: list[CachedImage]) -> tuple[Missed, str] | None:
    served = cache.status.condition(ConditionType.SERVED)
    server = cache.status.server
    if cache.deleting:
        return Missed.DELETING, "is being deleted"
    if cache.spec is None:
        return Missed.INVALID, "has a spec that breaks the rules"
    if not cache.spec.serve:
        return Missed.NOT_WANTED, "is not to be served (spec.serve is false)"
    if cache.status.phase is not Phase.AVAILABLE:
        return Missed.NOT_AVAILABLE, f"is {cache.status.phase or 'not looked at yet'}"
    if served is not None and served.status != "True":
        return Missed.NOT_SERVED, f"is not served now: {printable(served.message or served.reason, 200)}"
    if server is None or not server.ready:
        return Missed.NOT_SERVED, "is not served now: its server does not answer yet"
    if not images:
        words = "has no image that nodes can take: it was built by a version that did not prepare them for it"
        return Missed.NOT_PREPARED, words
    return None
