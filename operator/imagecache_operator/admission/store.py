# SPDX-License-Identifier: Apache-2.0
"""What every cache offers, and all namespaces, kept ready: admission never asks the API server. `cluster/watching.py`
fills it, `server.py` reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from imagecache_operator.cluster import reading
from imagecache_operator.cluster.api import Object, Objects
from imagecache_operator.planning.observed import Namespace
from imagecache_operator.planning.offers import Offer, offer

Fact = TypeVar("Fact")


class Kept(Generic[Fact]):
    """A `Listener`, written by one thread and read by another, which sees one whole state or the next.

    `by_name` is None until the objects are known.
    """

    def __init__(self, read: Callable[[Object], Fact]) -> None:
        self._read = read
        self.by_name: dict[str, Fact] | None = None

    def replace(self, objects: Objects) -> None:
        self.by_name = {_name(obj): self._read(obj) for obj in objects}

    def changed(self, obj: Object) -> None:
        # A new dictionary each time: the other thread may be going through the old one.
        self.by_name = {**(self.by_name or {}), _name(obj): self._read(obj)}

    def deleted(self, obj: Object) -> None:
        gone = _name(obj)
        self.by_name = {name: kept for name, kept in (self.by_name or {}).items() if name != gone}


class Store:
    """All that admission knows."""

    def __init__(self) -> None:
        self.caches: Kept[Offer] = Kept(lambda obj: offer(reading.cache(obj)))
        self.namespaces: Kept[Namespace] = Kept(reading.namespace)

    @property
    def offers(self) -> tuple[Offer, ...] | None:
        """None until caches and namespaces are known: by its name alone a namespace misses what is for its labels."""
        offers, namespaces = self.caches.by_name, self.namespaces.by_name
        return None if offers is None or namespaces is None else tuple(offers.values())

    def namespace(self, name: str) -> Namespace:
        """That namespace. One that was made a moment ago may not be known yet; what is certain is its name."""
        return (self.namespaces.by_name or {}).get(name) or Namespace(name)


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])
