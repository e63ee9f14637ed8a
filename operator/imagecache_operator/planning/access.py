# SPDX-License-Identifier: Apache-2.0
"""Whose Pods may start from a cache. Pure: the webhook asks it at each admission (through `matching.py`), the pass over
a cache for the words in status, and `passwords.py` for who gets one.

The rule is that a cache is no way around a registry. What was pulled with somebody's Secret is for the namespace that
this Secret is in, whose people can pull it anyway, until somebody says more (`spec.allowedNamespaces`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from imagecache_operator.api.labels import LabelSelector
from imagecache_operator.planning import pull_secrets, wording
from imagecache_operator.planning.observed import Cache, Namespace


@dataclass(frozen=True)
class Admitted:
    """The namespaces that a cache is for. `everybody`: it needs no password either. `pulled`: when its images were; a
    namespace that is younger has only the name of the one whose Secret pulled them."""

    everybody: bool = False
    names: frozenset[str] = frozenset()
    selector: LabelSelector | None = None
    pulled: datetime | None = None

    def has(self, namespace: Namespace) -> bool:
        """Whether Pods of that namespace may start from the cache."""
        if self.everybody:
            return True
        if namespace.name in self.names:
            return self.pulled is None or (namespace.created is not None and namespace.created <= self.pulled)
        # Of a namespace that has not been seen yet, nobody knows what it is *not* labelled with.
        return self.selector is not None and namespace.labels is not None and self.selector.selects(namespace.labels)

    @property
    def has_password(self) -> bool:
        """Whether nodes have to log in for what they take from the cache."""
        return not self.everybody

    @property
    def nobody(self) -> bool:
        """Whether no namespace can ever be among them."""
        return not (self.everybody or self.names or self.selector is not None)

    @property
    def words(self) -> str:
        """As part of a sentence: "for …"."""
        if self.everybody:
            return "all namespaces"
        named = f"{wording.counted(len(self.names), 'namespace')} ({', '.join(sorted(self.names))})"
        by_label = "namespaces with the labels that spec.allowedNamespaces asks for"
        return " and ".join(
            words for words, there in ((named, self.names), (by_label, self.selector is not None)) if there
        ) or "nobody"


def admitted(cache: Cache) -> Admitted:
    """Whose Pods may start from the cache; nobody's, where its spec cannot be read."""
    if cache.spec is None:
        return Admitted()
    wanted = cache.spec.allowed_namespaces
    if wanted is not None:
        return Admitted(names=frozenset(wanted.names or ()), selector=wanted.selector)
    if not _with_secrets(cache):
        return Admitted(everybody=True)
    used = {image.pull_secret for image in cache.status.images if image.pull_secret}
    owners = {secret.partition(":")[0] for secret in used}
    attempt = cache.status.attempt
    pulled = attempt.finished_at if attempt else None
    # Whoever owns one of two Secrets may not see what the other one pulled.
    if len(owners) != 1 or pull_secrets.UNKNOWN in used or pulled is None:
        return Admitted()
    return Admitted(names=frozenset(owners), pulled=pulled)


def _with_secrets(cache: Cache) -> bool:
    """Whether an attempt had pull Secrets. Not whether the spec lists some now: to take them out makes nothing public
    that is on the volume already, and to put some in makes nothing private that everybody could pull."""
    attempt = cache.status.attempt
    return bool((attempt and attempt.with_secrets) or any(image.pull_secret for image in cache.status.images))
