# SPDX-License-Identifier: Apache-2.0
"""The builder's flow: plan every image, fetch what the volume lacks, publish what is complete, tell the outcome.

`command.py` calls `build`. One image that fails does not stop the others: people want to hear of all mistakes at
once, and what is on the volume need not be fetched again by the next attempt.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from imagecache_operator.api import canary
from imagecache_operator.api.job import WORKERS, BuildJob
from imagecache_operator.api.oci import digest_of
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import canonical
from imagecache_operator.api.report import ImageOutcome, ImageState, Outcome, mark_of
from imagecache_operator.api.text import printable
from imagecache_operator.builder.carrier import carrier_of
from imagecache_operator.builder.errors import ImageError, cancelled, of_the_volume
from imagecache_operator.builder.fetch import Fetcher, Layer
from imagecache_operator.builder.forms import FORMS
from imagecache_operator.builder.layout import Layout, Repository, open_layout
from imagecache_operator.builder.manifest import Descriptor
from imagecache_operator.builder.plan import ImagePlan, Planner
from imagecache_operator.builder.platforms import Platform
from imagecache_operator.builder.progress import Board
from imagecache_operator.builder.registry import Registries
from imagecache_operator.builder.report import ProgressLines, Reporter
from imagecache_operator.builder.rewrite import as_it_is, written_anew
from imagecache_operator.builder.schedule import check_fit, missing_layers, never_fitting, run_all
from imagecache_operator.builder.space import Space

log = logging.getLogger(__name__)

T = TypeVar("T")

_NO_ROOM = frozenset({Reason.DOES_NOT_FIT, Reason.NO_SPACE_LEFT})


def build(
    job: BuildJob, root: Path, registries: Registries, reporter: Reporter, stop: threading.Event,
    workers: int = WORKERS,
) -> Outcome:
    """Brings the job's images onto the volume at `root` and says how each one ended. Raises nothing of its own.

    `stop` may be set at any time; what is complete by then stays and counts.
    """
    try:
        platforms = tuple(Platform.parse(platform) for platform in job.platforms)
        with open_layout(root) as layout:
            return _Build(job, layout, registries, platforms, reporter, stop, workers).run()
    except ImageError as error:
        return Outcome(reason=error.reason, message=error.message)
    except Exception as error:  # noqa: BLE001 - the operator must hear of it in the termination message
        failure = _unexpected(error, root)
        return Outcome(reason=failure.reason, message=failure.message)


@dataclass(frozen=True)
class _Published:
    """Where an image is on the volume, its carrier with it; `size` in bytes, what both share counts once."""

    repositories: tuple[Repository, ...]
    tag: str
    carrier: str | None
    size: int


class _Build:
    def __init__(
        self, job: BuildJob, layout: Layout, registries: Registries, platforms: tuple[Platform, ...],
        reporter: Reporter, stop: threading.Event, workers: int,
    ) -> None:
        self._job = job
        self._layout = layout
        self._stop = stop
        self._workers = workers
        self._board = Board(len(job.images))
        self._progress = ProgressLines(reporter, self._board)
        self._space = Space(job.capacity, layout.used(), layout.free() + layout.kept())
        self._form = FORMS[job.stored_as]
        self._registries = registries
        self._planner = Planner(registries, layout, platforms)
        self._fetcher = Fetcher(registries, layout, self._form, self._space, self._board)
        self._lock = threading.Lock()
        self._plans: dict[int, ImagePlan] = {}
        self._missing: dict[int, set[str]] = {}  # layers by image, from the first plan on
        self._errors: dict[int, ImageError] = {}
        self._published: dict[int, _Published] = {}
        self._without_room: list[Layer] = []
        self._unpublished: list[int] = []
        self._alone = True  # whether nothing else holds room: what does not fit then does not fit

    def run(self) -> Outcome:
        self._plan_images()
        self._fetch_layers()
        self._progress.say()
        if len(self._published) == len(self._job.images):
            _write_canary(self._layout, self._job.platforms)
        return self._outcome()

    def _plan_images(self) -> None:
        # Two spellings of one image are asked for once: their tag may move between two requests.
        spellings: dict[str, list[int]] = {}
        for place, text in enumerate(self._job.images):
            spellings.setdefault(canonical(text), []).append(place)
        self._run(partial(self._plan, places) for places in spellings.values())

    def _plan(self, places: list[int]) -> None:
        plan = self._attempted(places, lambda: self._planner.plan(self._job.images[places[0]]))
        if plan:
            self._plans.update(dict.fromkeys(places, plan))

    def _fetch_layers(self) -> None:
        layers = missing_layers(self._plans, self._layout, self._form)
        for layer in layers:
            for place in layer.images:
                self._missing.setdefault(place, set()).add(layer.key)
        for place in self._plans.keys() - self._missing.keys():
            self._publish(place)
        try:
            if len(self._plans) == len(self._job.images):  # what an image that could not be planned needs is not known
                self._layout.sweep({layer.key for layer in layers} if self._form.resumable else ())
            too_large = never_fitting(layers, self._form, self._space)
            for place, failure in too_large.items():
                self._fail((place,), failure)
            layers = [rest for layer in layers if (rest := layer.without(too_large))]
            check_fit(layers, self._form, self._space)
        except ImageError as error:
            self._fail(frozenset().union(*(layer.images for layer in layers)), error)
            return
        for layer in layers:
            self._board.expect(layer.images, layer.size)
        for place in self._missing.keys() - self._errors.keys():
            self._board.set_state(place, ImageState.PULLING)
        log.info("%d images, %d layers to fetch", len(self._plans), len(layers))
        self._alone = False
        self._run(partial(self._fetch, layer) for layer in layers)
        self._alone = True
        # One layer that inflates for ever takes the room of what is beside it: each of those gets a turn alone.
        for place in self._unpublished:
            self._publish(place)
        for layer in sorted(self._without_room, key=lambda layer: layer.size):
            self._run([partial(self._fetch, layer)])

    def _fetch(self, layer: Layer) -> None:
        try:
            errors = self._fetcher.fetch(layer)
        except Exception as error:  # noqa: BLE001 - one layer's bug or broken disk must not lose the others
            errors = dict.fromkeys(layer.images, _unexpected(error, self._layout.root))
        if not self._alone and any(error.reason in _NO_ROOM for error in errors.values()):
            self._without_room.append(layer)
            return
        for place, failure in errors.items():
            self._fail((place,), failure)
        for place in layer.images - errors.keys():
            with self._lock:
                missing = self._missing[place]
                missing.discard(layer.key)
                complete = not missing
            if complete:
                self._publish(place)

    def _publish(self, place: int) -> None:
        self._attempted((place,), partial(self._publish_or_wait, place))

    def _publish_or_wait(self, place: int) -> None:
        try:
            self._publish_plan(place, self._plans[place])
        except ImageError as error:
            if self._alone or error.reason not in _NO_ROOM:
                raise
            self._unpublished.append(place)

    def _publish_plan(self, place: int, plan: ImagePlan) -> None:
        stored = written_anew(plan, self._stored_layer) if self._form.media_type else as_it_is(plan, self._layout.size)
        carrier = carrier_of(plan, self._stored_layer)
        reference = plan.reference
        # The image's own tag comes last: whoever finds it finds everything.
        parts = [(reference.carrier_repository, carrier)] if carrier else []
        parts.append((reference.stored_repository, stored))
        for _, part in parts:
            for document in (*part.configs, *part.manifests):
                if not self._layout.has(digest_of(document)):
                    self._space.take(len(document))
                    self._layout.write_blob(document)
        repositories = tuple(Repository(name, part.blobs, part.manifest_digests) for name, part in parts)
        contents = {digest for part in repositories for digest in (*part.blobs, *part.manifests)}
        size = sum(self._layout.size(digest) for digest in contents)
        for repository in repositories:
            self._layout.link(repository, reference.stored_tag)
        self._published[place] = _Published(
            repositories, reference.stored_tag, carrier.manifest_digests[-1] if carrier else None, size,
        )
        self._board.set_state(place, ImageState.PULLED)

    def _stored_layer(self, layer: Descriptor, diff_id: str) -> Descriptor:
        digest = self._form.found(self._layout, layer, diff_id)
        if digest is None:
            raise _lost()
        return Descriptor(
            media_type=self._form.media_type or layer.media_type, digest=digest, size=self._layout.size(digest),
        )

    def _attempted(self, places: Collection[int], work: Callable[[], T]) -> T | None:
        """The work's result, or None after its error became that of the images at these places."""
        try:
            return work()
        except ImageError as error:
            self._fail(places, error)
        except Exception as error:  # noqa: BLE001 - one image's bug or broken disk must not lose the others
            self._fail(places, _unexpected(error, self._layout.root))
        return None

    def _fail(self, places: Collection[int], error: ImageError) -> None:
        for place in places:
            if place not in self._errors:
                self._errors[place] = error.detached()
                self._board.set_state(place, ImageState.FAILED)
                log.error("%s: %s: %s", printable(self._job.images[place]), error.reason, error.message)

    def _run(self, work: Iterable[Callable[[], None]]) -> None:
        run_all(work, self._workers, self._stop, self._progress.tick)

    def _outcome(self) -> Outcome:
        for place, published in self._published.items():
            if not all(self._layout.holds(repository, published.tag) for repository in published.repositories):
                self._fail((place,), _lost())
        images = tuple(self._image_outcome(place) for place in range(len(self._job.images)))
        stopped = self._stop.is_set() and any(image.reason for image in images)
        return Outcome(
            images=images,
            used=self._layout.used(),
            reason=Reason.CANCELLED if stopped else None,
            message="The builder was told to stop." if stopped else "",
        )

    def _image_outcome(self, place: int) -> ImageOutcome:
        plan, error, published = self._plans.get(place), self._errors.get(place), self._published.get(place)
        digest = plan.digest if plan else None
        if plan is None or published is None or error:
            error = error or cancelled()
            return ImageOutcome(reason=error.reason, digest=digest, message=error.message)
        mark = mark_of(self._registries.pulled_with(plan.reference))
        return ImageOutcome(digest=digest, carrier=published.carrier, pulled_with=mark, size=published.size)


def _write_canary(layout: Layout, platforms: Iterable[str]) -> None:
    """When all images are there: by then, whatever is wrong with the volume has been told of them."""
    for platform in platforms:
        for part in (canary.layers(platform), canary.image(platform)):
            blobs = frozenset(map(layout.write_blob, part.blobs))
            manifest = layout.write_blob(part.manifest)
            layout.link(Repository(part.repository, blobs, (manifest,)), platform.replace("/", "-"))


def _lost() -> ImageError:
    return ImageError(Reason.INTERNAL, "The volume has lost a part of this image since it was written.")


def _unexpected(error: Exception, root: Path) -> ImageError:
    log.error("unexpected", exc_info=error)
    if isinstance(error, OSError) and error.errno:
        return of_the_volume(error, root)
    return ImageError(Reason.INTERNAL, f"The builder failed by a mistake of its own ({type(error).__name__}).")
