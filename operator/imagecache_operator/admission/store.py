# SPDX-License-Identifier: Apache-2.0
"""What every cache offers, kept ready: admission never asks the API server. `cluster/watching.py` fills it."""

from __future__ import annotations

from imagecache_operator.cluster import reading
from imagecache_operator.cluster.api import Object, Objects
from imagecache_operator.planning.offers import Offer, offer


class Store:
    """A `Listener`, written by one thread and read by another, which sees one whole state or the next.

    `offers` is None until the caches are known.
    """

    def __init__(self) -> None:
        self._offers: dict[str, Offer] | None = None

    @property
    def offers(self) -> tuple[Offer, ...] | None:
        offers = self._offers
        return None if offers is None else tuple(offers.values())

    def replace(self, objects: Objects) -> None:
        self._offers = {found.cache: found for found in map(_read, objects)}

    def changed(self, obj: Object) -> None:
        found = _read(obj)
        # A new dictionary each time: the other thread may be going through the old one.
        self._offers = {**(self._offers or {}), found.cache: found}

    def deleted(self, obj: Object) -> None:
        gone = obj["metadata"]["name"]
        self._offers = {name: kept for name, kept in (self._offers or {}).items() if name != gone}


def _read(obj: Object) -> Offer:
    return offer(reading.cache(obj))
