# SPDX-License-Identifier: Apache-2.0
"""What a build would fetch and how large it is, without writing anything: `builder --plan`.

It plans like `build.py` and then looks at each layer's edge for the size of its tar, which no manifest tells: gzip
ends with it (modulo 2^32, and for the last member only), a zstd frame may begin with it. Such a size is an estimate,
and never more than the truth as long as the layer is what its media type says.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

import zstandard
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from imagecache_operator.api.job import BuildJob, StoredAs
from imagecache_operator.api.oci import OCI_TAR
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import Reference
from imagecache_operator.builder.arguments import existing
from imagecache_operator.builder.errors import ImageError, cancelled
from imagecache_operator.builder.forms import FORMS
from imagecache_operator.builder.layout import Layout
from imagecache_operator.builder.manifest import DOCKER_TAR, Descriptor
from imagecache_operator.builder.patience import Patience
from imagecache_operator.builder.plan import ImagePlan, Planner
from imagecache_operator.builder.platforms import Platform
from imagecache_operator.builder.registry import Registries
from imagecache_operator.builder.schedule import run_all
from imagecache_operator.builder.space import Space

_GZIP_SIZE = 4  # the last bytes of a gzip file: the length of the last member's content, little-endian
_ZSTD_HEADER = 18  # the first bytes of a zstd file: at most so many tell the size of the first frame's content


class Certainty(StrEnum):
    """How well a number of bytes is known."""

    EXACT = "Exact"
    ESTIMATE = "Estimate"
    AT_LEAST = "AtLeast"


class _Document(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, frozen=True)


class Amount(_Document):
    """Bytes. A sum is known as well as the worst known of its parts."""

    size: int = 0
    certainty: Certainty = Certainty.EXACT

    def __add__(self, other: Amount) -> Amount:
        worst = max(self.certainty, other.certainty, key=list(Certainty).index)
        return Amount(size=self.size + other.size, certainty=worst)


class Contents(_Document):
    """Layers, each counted once. `missing_…` are those that the volume lacks; `to_write` is what they take there."""

    layers: int = 0
    compressed: int = 0
    unpacked: Amount = Amount()
    missing_layers: int = 0
    missing_compressed: int = 0
    to_write: Amount = Amount()


class ImageEstimate(_Document):
    """One image: its contents, or why it cannot be cached."""

    reference: str
    digest: str | None
    platforms: tuple[str, ...]
    contents: Contents | None
    reason: Reason | None
    message: str


class Estimate(_Document):
    """All images, their sum with shared layers counted once, and the room for them.

    `fits` is None where it cannot be told: what is known to be needed fits, but more may be needed.
    """

    stored_as: StoredAs
    images: tuple[ImageEstimate, ...]
    total: Contents
    capacity: int
    used: int
    left: int
    fits: bool | None

    @property
    def promising(self) -> bool:
        """Whether nothing speaks against a build."""
        return self.fits is not False and not any(image.reason for image in self.images)


def estimate(job: BuildJob, root: Path, registries: Registries, stop: threading.Event, workers: int) -> Estimate:
    """What `build` would do with this job on the volume at `root`, which need not exist.

    Raises ImageError for a platform that is none, and for a volume that cannot be read.
    """
    try:
        return _Estimator(job, root, registries, stop, workers).run()
    except OSError as error:
        raise _unreadable(error) from None


@dataclass(frozen=True)
class _Part:
    """One layer, and where to ask for it."""

    reference: Reference
    layer: Descriptor
    diff_id: str
    stored: bool

    @property
    def packing(self) -> str:
        """`gzip`, `zstd`, or nothing for a plain tar, by its media type."""
        return self.layer.media_type.removeprefix(OCI_TAR).removeprefix(DOCKER_TAR).lstrip("+.")


class _Estimator:
    def __init__(
        self, job: BuildJob, root: Path, registries: Registries, stop: threading.Event, workers: int,
    ) -> None:
        self._job = job
        self._layout = Layout(root)
        self._free = Layout(existing(root)).free()
        self._registries = registries
        self._stop = stop
        self._workers = workers
        self._form = FORMS[job.stored_as]
        self._planner = Planner(registries, self._layout, [Platform.parse(platform) for platform in job.platforms])
        self._plans: dict[int, ImagePlan] = {}
        self._errors: dict[int, ImageError] = {}
        self._unpacked: dict[str, Amount] = {}

    def run(self) -> Estimate:
        places = range(len(self._job.images))
        self._run(partial(self._attempt, [place], partial(self._plan, place)) for place in places)
        parts = {place: dict(self._parts(plan)) for place, plan in self._plans.items()}
        layers = {key: part for of_image in parts.values() for key, part in of_image.items()}
        self._run(
            partial(self._attempt, [place for place in parts if key in parts[place]], partial(self._measure, key, part))
            for key, part in layers.items()
        )
        images = tuple(self._image(place, parts.get(place, {})) for place in places)
        sound = {key: part for place in places if not images[place].reason for key, part in parts[place].items()}
        total = self._contents(sound)
        used = self._layout.used()
        left = Space(self._job.capacity, used, self._free).left
        fits = None if total.to_write.certainty is Certainty.AT_LEAST else True
        return Estimate(
            stored_as=self._job.stored_as, images=images, total=total, capacity=self._job.capacity, used=used,
            left=left, fits=False if total.to_write.size > left else fits,
        )

    def _run(self, work: Iterable[Callable[[], None]]) -> None:
        run_all(work, self._workers, self._stop, lambda: None)

    def _attempt(self, places: Iterable[int], work: Callable[[], None]) -> None:
        try:
            work()
        except ImageError as error:
            failure = error
        except OSError as error:
            failure = _unreadable(error)
        except Exception as error:  # noqa: BLE001 - a thread must not end by it, and people must hear of it
            failure = ImageError(
                Reason.INTERNAL, f"The builder failed by a mistake of its own ({type(error).__name__}).",
            )
        else:
            return
        for place in places:
            self._errors.setdefault(place, failure)

    def _plan(self, place: int) -> None:
        self._plans[place] = self._planner.plan(self._job.images[place])

    def _parts(self, plan: ImagePlan) -> Iterator[tuple[str, _Part]]:
        """Each layer of the image by the key that makes it one on the volume."""
        for image in plan.images:
            for layer, diff_id in image.layers():
                stored = self._form.found(self._layout, layer, diff_id) is not None
                yield self._form.key(layer, diff_id), _Part(plan.reference, layer, diff_id, stored)

    def _measure(self, key: str, part: _Part) -> None:
        self._unpacked[key] = self._tar_size(part)

    def _tar_size(self, part: _Part) -> Amount:
        if self._layout.has(part.diff_id):
            return Amount(size=self._layout.size(part.diff_id))
        if not part.packing:
            return Amount(size=part.layer.size)
        told = self._told_by_gzip(part) if part.packing == "gzip" else self._told_by_zstd(part)
        least = FORMS[StoredAs.DECOMPRESSED].least(part.layer)
        if told < least:  # nothing, the last of many members, the first of many frames, or what is over 2^32
            return Amount(size=least, certainty=Certainty.AT_LEAST)
        return Amount(size=told, certainty=Certainty.ESTIMATE)

    def _told_by_gzip(self, part: _Part) -> int:
        tail = self._read(part, max(0, part.layer.size - _GZIP_SIZE), _GZIP_SIZE)
        return int.from_bytes(tail, "little") if len(tail) == _GZIP_SIZE else 0

    def _told_by_zstd(self, part: _Part) -> int:
        try:
            size = zstandard.get_frame_parameters(self._read(part, 0, _ZSTD_HEADER)).content_size
        except zstandard.ZstdError:
            return 0
        return 0 if size in (zstandard.CONTENTSIZE_UNKNOWN, zstandard.CONTENTSIZE_ERROR) else size

    def _read(self, part: _Part, start: int, count: int) -> bytes:
        """Some bytes of the blob; nothing where the registry knows no ranges."""
        return Patience(self._registries.limits, self._stop).insist(partial(self._read_once, part, start, count))

    def _read_once(self, part: _Part, start: int, count: int) -> bytes:
        with self._registries.open_blob(part.reference, part.layer.digest, start) as stream:
            data = next(iter(stream), b"") if stream.start == start else b""
        return data[:count]

    def _contents(self, parts: Mapping[str, _Part]) -> Contents:
        missing = {key: part for key, part in parts.items() if not part.stored}
        return Contents(
            layers=len(parts),
            compressed=sum(part.layer.size for part in parts.values()),
            unpacked=sum((self._unpacked[key] for key in parts), Amount()),
            missing_layers=len(missing),
            missing_compressed=sum(part.layer.size for part in missing.values()),
            to_write=sum((self._to_write(key, part) for key, part in missing.items()), Amount()),
        )

    def _to_write(self, key: str, part: _Part) -> Amount:
        if self._job.stored_as is StoredAs.DECOMPRESSED:
            return self._unpacked[key]
        kept = self._job.stored_as is StoredAs.ORIGINAL or part.packing == "zstd"
        # What is packed anew comes out about as large as it was.
        return Amount(size=part.layer.size, certainty=Certainty.EXACT if kept else Certainty.ESTIMATE)

    def _image(self, place: int, parts: Mapping[str, _Part]) -> ImageEstimate:
        plan, error = self._plans.get(place), self._errors.get(place)
        if error is None and (plan is None or not parts.keys() <= self._unpacked.keys()):
            error = cancelled()
        return ImageEstimate(
            reference=self._job.images[place],
            digest=plan.digest if plan else None,
            platforms=tuple(str(image.config.platform) for image in plan.images) if plan else (),
            contents=None if error else self._contents(parts),
            reason=error.reason if error else None,
            message=error.message if error else "",
        )


def _unreadable(error: OSError) -> ImageError:
    return ImageError(Reason.INTERNAL, f"The volume cannot be read: {os.strerror(error.errno or 0)}.")
