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

from imagecache_operator import names
from imagecache_operator.api.pod import Pod
from imagecache_operator.api.reference import InvalidReference, Reference, parse
from imagecache_operator.api.text import printable
from imagecache_operator.planning.observed import Namespace
from imagecache_operator.planning.offers import CachedImage, Missed, Offer
from imagecache_operator.planning.wording import counted, size

VOLUME_PREFIX = "imagecache-"
MIRROR = "kubernetes.io/config.mirror"

# So many images kubelet pulls for a Pod at once, its own and those from a cache: by default the eleventh within two
# seconds is refused ("pull QPS exceeded"), and where a cache is gone, its images come first again at each try, so that
# the Pod's own would never have their turn. One is left for a neighbour.
MOST_PULLS = 9

_OUR_VOLUME = re.compile(rf"{VOLUME_PREFIX}[0-9]+")


@dataclass(frozen=True)
class Candidate:
    """A cache beside a Pod: which of the Pod's images it has (by the Pod's words), and why it is not the one: `loses`,
    and `why` in one word where there is one. `withheld`: it is not for the Pod's namespace, where nobody is to learn
    that it is there."""

    offer: Offer
    found: dict[str, CachedImage]
    most: int
    loses: str = ""
    why: Missed | None = None
    withheld: bool = False

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
    else `chosen`; else `missed` says why there is none, and `why` says it in one word. `missed` is for whoever makes
    the Pod: it tells nothing of caches that are not for the Pod's namespace. `losers` are all other caches, each with
    its reason, for whoever may read ImageCaches; none where the Pod is left alone.
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


def match(pod: Pod, offers: Iterable[Offer], namespace: Namespace, auto: bool = False) -> Match:
    """Which of the caches the Pod, which is made in that namespace, starts from. `auto` as for `wish`."""
    wanted = wish(pod, auto)
    left_alone = _left_alone(pod, wanted)
    if wanted is None or left_alone:
        return Match(left_alone=left_alone)
    images = _distinct(pod)
    if unfit := _unfit(pod, len(images)):
        return Match(left_alone=unfit, told=wish(pod, auto=False) is not None)
    most = MOST_PULLS - len(images)
    candidates = [Candidate(o, _found(images, o), most) for o in sorted(offers, key=lambda o: o.cache)]
    judged = [_judged(c, wanted, namespace) for c in candidates]
    # `sorted` keeps the order by name among equals.
    ranked = sorted((c for c in judged if not c.loses), key=_rank, reverse=True)
    best = ranked[0] if ranked else None
    losers = [c for c in judged if c.loses] + [
        replace(c, loses=_worse(c, best)) for c in ranked if best is not None and c is not best
    ]
    why, missed = (None, "") if best else _missed(wanted, judged, namespace)
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


def _judged(candidate: Candidate, wanted: str, namespace: Namespace) -> Candidate:
    offered, withheld = candidate.offer, candidate.offer.withheld(namespace)
    if wanted not in (names.AUTO, offered.cache):
        return replace(candidate, loses=f"the Pod asks for {printable(wanted)}")
    if withheld is not None:
        why, loses = withheld
        return replace(candidate, loses=loses, why=why, withheld=True)
    if offered.unusable:
        return replace(candidate, loses=offered.unusable, why=offered.why)
    if not candidate.found:
        return replace(candidate, loses="has none of the Pod's images", why=Missed.NO_IMAGE)
    return candidate


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


def _missed(wanted: str, judged: list[Candidate], namespace: Namespace) -> tuple[Missed | None, str]:
    where = f"for namespace {printable(namespace.name)}"
    if wanted != names.AUTO:
        named = next((c for c in judged if c.offer.cache == wanted), None)
        shown = printable(wanted)
        # The same words for a cache that is for others as for none at all: else names could be tried out.
        if named is None or named.withheld:
            return named.why if named else Missed.NO_CACHE, f"there is no ImageCache {shown} {where}"
        return named.why, f"ImageCache {shown} {named.loses}"
    having = [c for c in judged if c.found and not c.withheld]
    if not having:
        others = [c for c in judged if c.found]
        why = max(others, key=_rank).why if others else Missed.NO_IMAGE
        return why, f"no ImageCache {where} has any of the Pod's images"
    # Whoever has the most is what the Pod would have started from: that one's trouble is the reason.
    nearest = max(having, key=_rank)
    more = f" ({counted(len(having) - 1, 'other cache')} cannot be used either)" if len(having) > 1 else ""
    return nearest.why, f"ImageCache {nearest.offer.cache} has images of the Pod, but {nearest.loses}{more}"
