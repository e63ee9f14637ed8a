# SPDX-License-Identifier: Apache-2.0
"""Which cache a Pod starts from, and why the others lose.

Pure. The webhook asks it at each admission (through `injection.py`) and the command `match` prints its answer, so that
both always say the same. docs/reference/injection.md has the rules in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property

from imagecache_operator import names
from imagecache_operator.api.conditions import ConditionType
from imagecache_operator.api.imagecache import ImageStatus, Phase
from imagecache_operator.api.pod import Pod
from imagecache_operator.api.reference import InvalidReference, Reference, parse
from imagecache_operator.api.text import printable
from imagecache_operator.planning.observed import Cache
from imagecache_operator.planning.wording import counted, size

VOLUME_PREFIX = "imagecache-"
MIRROR = "kubernetes.io/config.mirror"

# So many images kubelet pulls for a Pod at once, its own and those from a cache: by default the eleventh within two
# seconds is refused ("pull QPS exceeded"), and where a cache is gone, its images come first again at each try, so that
# the Pod's own would never have their turn. One is left for a neighbour.
MOST_PULLS = 9

_DIGEST = re.compile(r"sha256:[a-f0-9]{64}")
_OUR_VOLUME = re.compile(rf"{VOLUME_PREFIX}[0-9]+")


class Missed(StrEnum):
    """Why a Pod that asked gets nothing, in one word of a closed set: the metrics count by it."""

    NO_CACHE = "no_such_cache"
    NO_IMAGE = "images_not_cached"
    DELETING = "deleting"
    INVALID = "invalid_spec"
    PRIVATE = "private"
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
    the same in one word."""

    cache: str
    uid: str
    created: datetime
    address: str
    images: tuple[CachedImage, ...]
    unusable: str = ""
    why: Missed | None = None

    def find(self, wanted: Reference) -> CachedImage | None:
        """The cached image that is `wanted`. With a digest that alone decides, beside the name; a tag may also be
        that of an image which the cache lists by tag and digest."""
        if wanted.digest:
            return self._by_digest.get((wanted.name, wanted.digest))
        return self._by_tag.get((wanted.name, wanted.tag or ""))

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
    return Offer(cache.name, cache.uid, cache.created, address, tuple(images), unusable, why)


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
    served = next((c for c in cache.status.conditions if c.type == ConditionType.SERVED), None)
    server = cache.status.server
    if cache.deleting:
        return Missed.DELETING, "is being deleted"
    if cache.spec is None:
        return Missed.INVALID, "has a spec that breaks the rules"
    if cache.spec.pull_secrets:
        return Missed.PRIVATE, "was built with pull Secrets, and such caches are not served yet"
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


@dataclass(frozen=True)
class Candidate:
    """A cache beside a Pod: which of the Pod's images it has (by the Pod's words), and why it is not the one."""

    offer: Offer
    found: dict[str, CachedImage]
    most: int
    loses: str = ""

    @property
    def taken(self) -> tuple[CachedImage, ...]:
        """What a node takes from it, in the order of first use, each once: an image may go by a tag and by a digest.
        Where there are more than `most`, the largest of them."""
        once: dict[tuple[str, str], CachedImage] = {}
        for image in self.found.values():
            once.setdefault((image.reference.carrier_repository, image.carrier), image)
        largest = sorted(once.values(), key=lambda image: image.size, reverse=True)[:self.most]
        return tuple(image for image in once.values() if image in largest)

    @property
    def size(self) -> int:
        """Bytes on the volume of what a node takes."""
        return sum(image.size for image in self.taken)


@dataclass(frozen=True)
class Match:
    """What becomes of a Pod. `images` are its images as it writes them, each image once.

    `left_alone`: why nothing is to be done at all (`told`: whoever made the Pod asked for it and should hear of it);
    else `chosen`; else `missed` says why there is none, and `why` says it in one word. `losers` are all other caches,
    each with its reason; none where the Pod is left alone.
    """

    images: tuple[str, ...] = ()
    chosen: Candidate | None = None
    losers: tuple[Candidate, ...] = ()
    left_alone: str = ""
    told: bool = False
    missed: str = ""
    why: Missed | None = None


def wish(pod: Pod, auto: bool) -> str | None:
    """A cache's name, "auto", "none", or None where nobody asked. `auto`: the Pod's namespace asks for its Pods."""
    annotations = pod.metadata.annotations or {}
    # An empty value is what a template leaves where nobody filled it in.
    own = annotations.get(names.ANNOTATION_CACHE) or annotations.get(names.ANNOTATION_CACHE_ALIAS)
    return own or (names.AUTO if auto else None)


def match(pod: Pod, offers: Iterable[Offer], auto: bool = False) -> Match:
    """Which of the caches the Pod starts from. `auto` as for `wish`."""
    wanted = wish(pod, auto)
    left_alone = _left_alone(pod, wanted)
    if wanted is None or left_alone:
        return Match(left_alone=left_alone)
    images = _distinct(pod)
    if unfit := _unfit(pod, len(images)):
        return Match(left_alone=unfit, told=wish(pod, auto=False) is not None)
    most = MOST_PULLS - len(images)
    candidates = [Candidate(o, _found(images, o), most) for o in sorted(offers, key=lambda o: o.cache)]
    judged = [_judged(c, wanted) for c in candidates]
    # `sorted` keeps the order by name among equals.
    ranked = sorted((c for c in judged if not c.loses), key=_rank, reverse=True)
    best = ranked[0] if ranked else None
    losers = [c for c in judged if c.loses] + [
        replace(c, loses=_worse(c, best)) for c in ranked if best is not None and c is not best
    ]
    why, missed = (None, "") if best else _missed(wanted, judged)
    return Match(
        tuple(images), best, tuple(sorted(losers, key=lambda c: c.offer.cache)), missed=missed, why=why,
    )


def _left_alone(pod: Pod, wanted: str | None) -> str:
    if wanted is None:
        return "nobody asks for a cache"
    if wanted == names.NONE:
        return f"{names.ANNOTATION_CACHE} is {names.NONE}"
    if any(_OUR_VOLUME.fullmatch(v.name or "") for v in pod.spec.volumes or ()):
        return f"it has volumes named {VOLUME_PREFIX}… already"
    if MIRROR in (pod.metadata.annotations or {}):
        return "it is a static Pod's mirror, which its node has started already"
    return ""


def _unfit(pod: Pod, images: int) -> str:
    """Why the layers on a node would not help this Pod, of so many images."""
    if pod.spec.os is not None and pod.spec.os.name == "windows":
        return "it is for Windows nodes"
    if pod.spec.runtime_class_name:
        return "it has a runtimeClassName, whose runtime may keep layers elsewhere"
    if images >= MOST_PULLS:
        return f"it has {images} images, and kubelet pulls no more at once"
    return ""


def _distinct(pod: Pod) -> dict[str, Reference | None]:
    """The Pod's images in its words, each image once; None for what is no reference: no cache has it."""
    found: dict[str, tuple[str, Reference | None]] = {}
    for text in pod.images:
        try:
            reference = parse(text)
            found.setdefault(reference.canonical, (text, reference))
        except InvalidReference:
            found.setdefault(text, (text, None))
    return dict(found.values())


def _found(images: dict[str, Reference | None], offered: Offer) -> dict[str, CachedImage]:
    pairs = ((text, offered.find(reference)) for text, reference in images.items() if reference is not None)
    return {text: image for text, image in pairs if image is not None}


def _judged(candidate: Candidate, wanted: str) -> Candidate:
    loses = ""
    if wanted not in (names.AUTO, candidate.offer.cache):
        loses = f"the Pod asks for {printable(wanted)}"
    elif candidate.offer.unusable:
        loses = candidate.offer.unusable
    elif not candidate.found:
        loses = "has none of the Pod's images"
    return replace(candidate, loses=loses)


def _rank(candidate: Candidate) -> tuple[int, int, datetime]:
    return (len(candidate.found), candidate.size, candidate.offer.created)


def _worse(candidate: Candidate, best: Candidate) -> str:
    name = best.offer.cache
    if len(candidate.found) != len(best.found):
        return f"has {len(candidate.found)} of the Pod's images, {name} has {len(best.found)}"
    if candidate.size != best.size:
        return f"has as many images, but less of them: {size(candidate.size)}, {name} has {size(best.size)}"
    if candidate.offer.created != best.offer.created:
        return f"has the same as {name}, but is older"
    return f"has the same as {name} and is as old; the first by name wins"


def _missed(wanted: str, judged: list[Candidate]) -> tuple[Missed, str]:
    if wanted != names.AUTO:
        named = next((c for c in judged if c.offer.cache == wanted), None)
        shown = printable(wanted)
        if named is None:
            return Missed.NO_CACHE, f"there is no ImageCache {shown}"
        return named.offer.why or Missed.NO_IMAGE, f"ImageCache {shown} {named.loses}"
    having = [c for c in judged if c.found]
    if not having:
        return Missed.NO_IMAGE, "no ImageCache has any of the Pod's images"
    # Whoever has the most is what the Pod would have started from: that one's trouble is the reason.
    nearest = max(having, key=_rank)
    more = f" ({counted(len(having) - 1, 'other cache')} cannot be used either)" if len(having) > 1 else ""
    words = f"ImageCache {nearest.offer.cache} has images of the Pod, but {nearest.loses}{more}"
    return nearest.offer.why or Missed.NO_IMAGE, words
