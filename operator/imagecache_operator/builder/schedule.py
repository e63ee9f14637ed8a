# SPDX-License-Identifier: Apache-2.0
"""One list of work for all layers of all images, and the threads that do it. `build.py` calls both halves."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping

from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.fetch import Layer, Source
from imagecache_operator.builder.forms import Form
from imagecache_operator.builder.layout import Layout
from imagecache_operator.builder.plan import ImagePlan
from imagecache_operator.builder.space import Space

# How long a thread that hangs in a socket may hold up a stop. Then it is left behind: its file is a temporary one.
_GRACE = 3.0


def missing_layers(plans: Mapping[int, ImagePlan], layout: Layout, form: Form) -> list[Layer]:
    """Every layer that the volume lacks, once, the largest first: the last thread to finish has little left."""
    layers: dict[str, tuple[str, list[Source]]] = {}
    for place, plan in plans.items():
        for image in plan.images:
            for descriptor, diff_id in image.layers():
                if form.found(layout, descriptor, diff_id):
                    continue
                source = Source(place, plan.reference, descriptor)
                _, known = layers.setdefault(form.key(descriptor, diff_id), (diff_id, []))
                if source not in known:
                    known.append(source)
    missing = [Layer(key, diff_id, tuple(known)) for key, (diff_id, known) in layers.items()]
    return sorted(missing, key=lambda layer: layer.size, reverse=True)


def never_fitting(layers: Iterable[Layer], form: Form, space: Space) -> dict[int, ImageError]:
    """Why images would not fit if there were no others, by image: they must not be in the way of those."""
    needed: Counter[int] = Counter()
    for layer in layers:
        for source in {source.image: source for source in layer.sources}.values():
            needed[source.image] += form.least(source.layer)
    errors = {}
    for image, count in needed.items():
        try:
            space.check(count - 4096)
        except ImageError as error:
            errors[image] = error
    return errors


def check_fit(layers: Iterable[Layer], form: Form, space: Space) -> None:
    """Raises ImageError (DoesNotFit or NoSpaceLeft) when the layers take more room than is left, however well they
    pack."""
    space.check(sum(form.least(layer.sources[0].layer) for layer in layers) - 4096)


def run_all(
    work: Iterable[Callable[[], None]], workers: int, stop: threading.Event, tick: Callable[[], None],
) -> None:
    """Does all the work in threads, in its order, and calls `tick` a few times a second meanwhile.

    The work reports its own errors; it must not raise. After `stop` nothing new begins, and this returns within
    seconds even if a thread hangs. The calling thread never locks `stop`, so that its signal handler may set it.
    """
    waiting = deque(work)

    def go_on() -> None:
        while not stop.is_set():
            try:
                next_one = waiting.popleft()
            except IndexError:
                return
            next_one()

    threads = [
        threading.Thread(target=go_on, name=f"fetch-{number}", daemon=True)
        for number in range(min(workers, len(waiting)))
    ]
    for thread in threads:
        thread.start()
    stopped_at = None
    while alive := [thread for thread in threads if thread.is_alive()]:
        alive[0].join(0.2)
        tick()
        if stop.is_set():
            stopped_at = stopped_at or time.monotonic()
            if time.monotonic() - stopped_at > _GRACE:
                return
