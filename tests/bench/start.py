# SPDX-License-Identifier: Apache-2.0
"""Measures how soon a Pod's program runs: its image from a registry, from caches of every form, from a registry that
pulls through, or there already. Called by `__main__`, on a cluster where the operator is installed.

One Pod on one node at a time; whoever is compared takes turns. Nothing of it stays: images, caches and registries go,
also those of a run that was killed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from imagecache_operator import names
from imagecache_operator.api.job import StoredAs

from tests.cluster import Cluster
from tests.cluster.progress import Say
from tests.support import cold_node, pods
from tests.support.images import Image
from tests.support.kube import Cache, Kube, Object, until
from tests.support.tls import Authority

from . import registries as all_registries
from .creating import Creator
from .dataset import MB
from .registries import MIRROR, NEAR, SLOW, Registries
from .report import Row
from .rounds import Contender, Times, in_turns, ratio
from .runnable import COMMAND, factor

POD = "bench-start"
FORMS = (StoredAs.ZSTD, StoredAs.DECOMPRESSED, StoredAs.ORIGINAL)
RECOMMENDED = FORMS[0]  # docs/decisions/0010-form-for-starts.md: the aims are for it
LIMIT = 21 * 60  # seconds after which nobody gets another turn
POD_SECONDS, CACHE_SECONDS = 240, 300
OF_CACHES = r"localhost:\d+/carrier/bench"
OURS = rf"bench[\w-]*\.test:\d+/|{OF_CACHES}"
RATE, P99 = 50, 0.025  # creates a second; seconds


@dataclass(frozen=True)
class Stage:
    """Where it is played."""

    kube: Kube
    node: str
    registries: Registries
    images: Sequence[Image]
    creator: Creator
    say: Say

    def forget(self, references: str = OURS) -> None:
        """The node is cold; or, with OF_CACHES alone, has the images but not what a cache gave for them."""
        layers = [image.own.diff_ids for image in self.images] if references == OURS else []
        cold_node.forget(self.kube.cluster, self.node, references, layers)

    def pod(self, image: Image, host: str, cache: str = "") -> Object:
        reference = self.registries.reference(host, image)
        return pods.pod(POD, reference, node=self.node, cache=cache, command=COMMAND)


def measure(
    kube: Kube, authority: Authority, images: Sequence[Image], folder: Path, most: int, latency_seconds: float,
    say: Say,
) -> list[Row]:
    """The rows of the table. The aims are for the first of `images`. `most`: rounds. `folder` keeps certificates."""
    deadline = time.monotonic() + LIMIT
    node = kube.cluster.nodes[-1]
    say("registries with the images: near, behind 100 Mbit/s, and one that pulls through")
    with ExitStack() as afterwards:
        stage = Stage(kube, node, afterwards.enter_context(
            all_registries.running(kube.cluster, authority, folder, images)
        ), images, Creator(kube.cluster), say)
        afterwards.enter_context(_nothing_stays(stage))
        built = [_build(stage, form) for form in FORMS]
        latencies = _latencies(stage, latency_seconds)
        starts = [row for image in images for row in _starts(stage, image, most, deadline, image is images[0])]
        say("removing images, caches and registries")
        return [*starts, *built, *latencies]


def containerd(cluster: Cluster) -> str:
    """The version that the nodes have."""
    return cluster.on_node(cluster.nodes[-1], "containerd --version").split()[2].removeprefix("v")


def images_on(cluster: Cluster) -> str:
    """Where the nodes keep images and what is unpacked of them: as it is, whatever was asked for."""
    kind = cluster.on_node(cluster.nodes[-1], "findmnt -no FSTYPE -T /var/lib/containerd").strip()
    return f"{'in memory' if kind == 'tmpfs' else 'on the disk of the machine'} ({kind})"


@contextmanager
def _nothing_stays(stage: Stage) -> Iterator[None]:
    def remove() -> None:
        with ExitStack() as each:  # from the last to the first, whichever of them fails
            each.callback(stage.forget)
            for form in FORMS:
                each.callback(Cache(stage.kube, _cache(form)).delete)
            each.callback(partial(pods.remove, stage.kube, stage.pod(stage.images[0], NEAR)))

    remove()
    try:
        yield
    finally:
        remove()


def _cache(form: StoredAs) -> str:
    return f"bench-start-{form.lower()}"


def _build(stage: Stage, form: StoredAs) -> Row:
    """A cache of all images, each under its near and its slow name: what is large comes by the first."""
    stage.say(f"a cache of all images, stored as {form}")
    cache, began = Cache(stage.kube, _cache(form)), time.monotonic()
    references = [stage.registries.reference(host, image) for host in (NEAR, SLOW) for image in stage.images]
    cache.apply(references, {"storedAs": form})
    status = cache.wait_for("Available", CACHE_SECONDS)
    seconds = time.monotonic() - began
    cache.wait_until_served(120)
    size = str(status.get("size", "")).partition(" of ")[0]
    stage.say(f"built in {seconds:.1f} s: {size}")
    return Row(f"all images, stored as {form}: created → Available, and its size", f"{seconds:.1f} s, {size}")


def _latencies(stage: Stage, seconds: float) -> list[Row]:
    """What the webhook adds to the creation of a Pod, seen by whoever creates it."""
    stage.say(f"{RATE} creates a second (dry run), for {seconds:.0f} s each: without the annotation, and with it")
    plain, asking = (stage.pod(stage.images[0], SLOW, cache) for cache in ("", _cache(FORMS[0])))
    _is_injected(stage.creator.create(asking, dry_run="All"), _cache(FORMS[0]))
    without, with_it = (_quantiles(stage.creator.latencies(pod, RATE, seconds)) for pod in (plain, asking))
    p50, p99 = (b - a for a, b in zip(without, with_it, strict=True))

    def figures(p50: float, p99: float) -> str:
        return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms"

    return [
        Row(f"creating a Pod, {RATE} a second, without the annotation", figures(*without)),
        Row(f"creating a Pod, {RATE} a second, with it", figures(*with_it)),
        Row("the difference: the webhook", figures(p50, p99), f"p99 ≤ {P99 * 1000:.0f} ms", p99 <= P99),
    ]


def _quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99."""
    return statistics.median(seconds), statistics.quantiles(seconds, n=100, method="inclusive")[-1]


def _starts(stage: Stage, image: Image, most: int, deadline: float, compared: bool) -> list[Row]:
    title = f"{image.own.compressed_size // MB} MB"
    say, cold = stage.say, stage.forget

    def contender(what: str, host: str, prepare: Callable[[], object], cache: str = "") -> Contender:
        return Contender(f"{title}: {what}", partial(_once, stage, stage.pod(image, host, cache), prepare))

    def emptied() -> None:
        cold()
        stage.registries.empty_mirror()

    best = _cache(FORMS[0])
    there = partial(_is_there, stage, stage.pod(image, SLOW, best))

    def there_without_carrier() -> None:
        there()
        stage.forget(OF_CACHES)

    slow, near, *caches, empty, filled, plain, first, again = in_turns([
        contender("from the registry over 100 Mbit/s", SLOW, cold),
        contender("from the registry, no limit", NEAR, cold),
        *(contender(f"from the cache stored as {form}", SLOW, cold, _cache(form)) for form in FORMS),
        contender("pulled through a registry that has nothing yet, 100 Mbit/s", MIRROR, emptied),
        contender("pulled through a registry that has it", MIRROR, cold),
        contender("on the node already", SLOW, there),
        contender("on the node already, injected for the first time", SLOW, there_without_carrier, best),
        contender("on the node already, injected again", SLOW, there, best),
    ], most, deadline, say)
    size = Row(f"{title} as pulled: unpacked", f"{image.own.raw_size // MB} MB, {factor(image):.2f} ×")
    rows = [size, *(times.row for times in (slow, near, *caches, empty, filled, plain, first, again))]
    return [*rows, *_compared(title, slow, near, caches, plain, first, again)] if compared else rows


def _compared(
    title: str, slow: Times, near: Times, caches: Sequence[Times], plain: Times, first: Times, again: Times,
) -> Iterator[Row]:
    for form, times in zip(FORMS, caches, strict=True):
        aims = ("≥ 5", "≥ 1.8") if form is RECOMMENDED else ("", "")
        yield from ratio(f"{title}: registry over 100 Mbit/s / cache stored as {form}", slow, times, aims[0])
        yield from ratio(f"{title}: registry, no limit / cache stored as {form}", near, times, aims[1])
    for when, times in (("for the first time", first), ("again", again)):
        yield from ratio(f"{title}: on the node already, injected {when} / not injected", times, plain, "≤ 1.1")


def _once(stage: Stage, pod: Object, prepare: Callable[[], object]) -> float:
    """Seconds from the request that creates the Pod until its program says that it runs."""
    prepare()
    try:
        began = time.time()
        made = stage.creator.create(pod)
        pods.runs(stage.kube, pod, POD_SECONDS)
        said = _said(stage.kube)
        cache = pod["metadata"].get("annotations", {}).get(names.ANNOTATION_CACHE)
        if cache:
            _is_injected(made, cache)
            if not cold_node.knows(stage.kube.cluster, stage.node, OF_CACHES):
                raise AssertionError(f"the node has taken nothing from ImageCache {cache}")
        return float(said) - began
    finally:
        pods.remove(stage.kube, pod)


def _said(kube: Kube) -> str:
    """What the Pod's program has printed, once it has."""
    lines: list[str] = []

    def printed() -> bool:
        lines[:] = kube.cluster.kubectl("-n", pods.NAMESPACE, "logs", POD).split()
        return bool(lines)

    until(printed, "the Pod's program has printed the time", 10)
    return lines[0]


def _is_there(stage: Stage, pod: Object) -> None:
    """The node has the image, and the carrier of the cache that the Pod asks for. Not timed; a second if it had."""
    try:
        pods.start(stage.kube, pod, POD_SECONDS)
    finally:
        pods.remove(stage.kube, pod)


def _is_injected(made: Object, cache: str) -> None:
    annotations = made["metadata"].get("annotations", {})
    if annotations.get(names.ANNOTATION_INJECTED) != cache:
        why = annotations.get(names.ANNOTATION_NOT_INJECTED, "the webhook did not answer")
        raise AssertionError(f"the Pod was to start from {cache}: {why}")
