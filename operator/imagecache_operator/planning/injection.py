# SPDX-License-Identifier: Apache-2.0
"""From a Pod and its match to the JSON patch (RFC 6902) that makes the Pod start from the cache.

Pure; `admission/review.py` calls it. The Pod's own images are never touched: what is added are image volumes that no
container mounts. Kubelet pulls volumes before containers and in the order of the list; the layers are then on the node
under their chain IDs, and pulling the Pod's own images costs a manifest and a config. A volume that nobody mounts and
that cannot be pulled is an event, nothing more. Where the cache has a password, the Pod also gets the Secret with it,
which the operator has put into its namespace (`children/access.py`); where it has not yet, that is an event too.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imagecache_operator import names
from imagecache_operator.api.pod import Pod
from imagecache_operator.api.text import printable
from imagecache_operator.planning.matching import VOLUME_PREFIX, Candidate, Match
from imagecache_operator.planning.offers import CachedImage, Missed
from imagecache_operator.planning.wording import counted

Operation = dict[str, Any]

LONGEST_REASON = 300


class Result(StrEnum):
    """What became of a Pod, as the metrics count it."""

    HIT = "hit"
    MISS = "miss"
    LEFT_ALONE = "left_alone"


@dataclass(frozen=True)
class Injection:
    """What the webhook answers. `patch` may be empty, and so may `warning`, which whoever makes the Pod gets to read;
    `words` are for the log.

    `result`, `why` (of a miss) and `size` (bytes of a hit's images on the cache's volume) are for the metrics.
    """

    patch: tuple[Operation, ...]
    words: str
    warning: str = ""
    result: Result = Result.LEFT_ALONE
    why: Missed | None = None
    size: int = 0


def inject(pod: Pod, match: Match) -> Injection:
    """The changes. Made once more on its own result, there are none."""
    if match.left_alone:
        warning = f"starts without an image cache: {match.left_alone}" if match.told else ""
        return Injection((), f"left alone: {match.left_alone}", warning)
    if match.chosen is None:
        return _not_injected(pod, match)
    cache, uid = match.chosen.offer.cache, match.chosen.offer.uid
    # The marks of a miss are those of the Pod that this one was copied from.
    patch = (
        *_volumes(pod, match.chosen),
        *_pull_secrets(pod, match.chosen),
        *_set("annotations", pod.metadata.annotations, {names.ANNOTATION_INJECTED: cache}),
        *_unset("annotations", pod.metadata.annotations, names.ANNOTATION_NOT_INJECTED),
        *_set("labels", pod.metadata.labels, {names.LABEL_INJECTED_FROM: uid}),
        *_unset("labels", pod.metadata.labels, names.LABEL_NOT_INJECTED),
    )
    had, wanted = len(match.chosen.found), len(match.images)
    words = f"starts from ImageCache {cache}: {had} of {counted(wanted, 'image')}"
    return Injection(patch, words, result=Result.HIT, size=match.chosen.size)


def _not_injected(pod: Pod, match: Match) -> Injection:
    """A Pod that asked and gets nothing: a label to find it by, the reason, and no mark of a former hit."""
    reason = printable(match.missed, LONGEST_REASON)
    patch = (
        *_set("labels", pod.metadata.labels, {names.LABEL_NOT_INJECTED: "true"}),
        *_set("annotations", pod.metadata.annotations, {names.ANNOTATION_NOT_INJECTED: reason}),
        *_unset("annotations", pod.metadata.annotations, names.ANNOTATION_INJECTED),
        *_unset("labels", pod.metadata.labels, names.LABEL_INJECTED_FROM),
    )
    words, warning = f"not injected: {reason}", f"starts without an image cache: {reason}"
    return Injection(patch, words, warning, Result.MISS, match.why)


def _volumes(pod: Pod, chosen: Candidate) -> tuple[Operation, ...]:
    added = [
        {
            "name": f"{VOLUME_PREFIX}{number}",
            "image": {"reference": reference(chosen.offer.address, image), "pullPolicy": "IfNotPresent"},
        }
        for number, image in enumerate(chosen.taken)
    ]
    if not pod.spec.volumes:
        return ({"op": "add", "path": "/spec/volumes", "value": added},)
    return tuple({"op": "add", "path": f"/spec/volumes/{n}", "value": v} for n, v in enumerate(added))


def _pull_secrets(pod: Pod, chosen: Candidate) -> tuple[Operation, ...]:
    """Behind those that are there, which are not ours to judge: a Pod's own, or its service account's. An account's are
    filled in before webhooks are asked, and later only where a Pod lists none."""
    there = pod.spec.image_pull_secrets or ()
    if not chosen.offer.admitted.has_password or any(secret.name == names.ACCESS_SECRET for secret in there):
        return ()
    added = {"name": names.ACCESS_SECRET}
    if not there:
        return ({"op": "add", "path": "/spec/imagePullSecrets", "value": [added]},)
    return ({"op": "add", "path": "/spec/imagePullSecrets/-", "value": added},)


def reference(address: str, image: CachedImage) -> str:
    """By which a node takes the image's layers from the server at `address`. By digest: a tag that is on the node
    already could hide a cache that was built anew."""
    return f"{address}/{image.reference.carrier_repository}@{image.carrier}"


def _set(field: str, there: dict[str, str] | None, wanted: dict[str, str]) -> tuple[Operation, ...]:
    if there is None:
        return ({"op": "add", "path": f"/metadata/{field}", "value": wanted},)
    return tuple(
        {"op": "add", "path": _pointer(field, key), "value": value}
        for key, value in wanted.items() if there.get(key) != value
    )


def _unset(field: str, there: dict[str, str] | None, key: str) -> tuple[Operation, ...]:
    return ({"op": "remove", "path": _pointer(field, key)},) if key in (there or {}) else ()


def _pointer(field: str, key: str) -> str:
    """A JSON pointer (RFC 6901), in which / of a key is written ~1. No key of ours has a ~."""
    return f"/metadata/{field}/{key.replace('/', '~1')}"
