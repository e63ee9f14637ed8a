# SPDX-License-Identifier: Apache-2.0
"""The command `match`: which cache the Pods of a file would start from, and why not from the others.

It asks the very function that the webhook asks, about the caches of the cluster as they are now.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

import click

from imagecache_operator import names
from imagecache_operator.admission.workloads import InvalidFile, Workload, workloads
from imagecache_operator.api.text import printable
from imagecache_operator.cluster import reading
from imagecache_operator.cluster.api import Api, ClusterError, Rejected
from imagecache_operator.planning.matching import Candidate, Match, match, wish
from imagecache_operator.planning.observed import Namespace
from imagecache_operator.planning.offers import Offer, offer
from imagecache_operator.planning.wording import size

DEFAULT_NAMESPACE = "default"


@click.command("match")
@click.option("-f", "--filename", "file", type=click.File(encoding="utf-8"), required=True, metavar="FILE",
              help="YAML or JSON with Pods, or with what makes Pods; - for standard input.")
@click.option("-n", "--namespace", metavar="NAME", help="Of Pods that name none. [default: default]")
def explain(file: TextIO, namespace: str | None) -> None:
    """Tell which cache a Pod would start from, image by image, and why not from the others."""
    # Imported here, so that --help of everything does not wait for it.
    from imagecache_operator.cluster.client import Client

    try:
        found = workloads(file.read())
    except (InvalidFile, UnicodeDecodeError) as error:
        words = str(error) if isinstance(error, InvalidFile) else "neither YAML nor JSON: it is not text"
        raise click.ClickException(f"{file.name}: {printable(words, 300)}") from None
    try:
        api = Client(connections=1)
        offers = [offer(reading.cache(obj)) for obj in api.list(names.KIND)]
        seen = {name: _seen(api, name) for name in sorted({_namespace(w, namespace) for w in found})}
    except ClusterError as error:
        raise click.ClickException(str(error)) from None
    for number, workload in enumerate(found):
        if number:
            click.echo()
        for line in explained(workload, offers, seen[_namespace(workload, namespace)]):
            click.echo(line)


def _namespace(workload: Workload, given: str | None) -> str:
    return workload.namespace or given or DEFAULT_NAMESPACE


def _seen(api: Api, name: str) -> Namespace:
    """The namespace as the caller may see it. One that does not exist yet has no labels to read, either."""
    try:
        found = api.get("Namespace", name)
    except Rejected as error:
        click.echo(
            f"Namespace {printable(name)} cannot be read: what follows is by its name alone, without its labels "
            f"({printable(error, 200)}).", err=True,
        )
        found = None
    return reading.namespace(found) if found else Namespace(name)


def explained(workload: Workload, offers: list[Offer], namespace: Namespace) -> Iterator[str]:
    """The lines. Its namespace's label may be what asks."""
    title, auto = printable(workload.title), (namespace.labels or {}).get(names.LABEL_INJECT) == names.AUTO
    if wish(workload.pod, auto) is None:
        yield f"{title}: left alone, nobody asks for a cache."
        yield f"With the annotation {names.ANNOTATION_CACHE}: {names.AUTO} it would be:"
        auto = True
    decided = match(workload.pod, offers, namespace, auto)
    if decided.left_alone:
        yield f"{title}: left alone: {decided.left_alone}"
        return
    if decided.chosen is None:
        yield f"{title}: starts without a cache: {decided.missed}"
    else:
        yield f"{title}: starts from ImageCache {decided.chosen.offer.cache}"
    yield from _images(decided)
    for loser in decided.losers:
        yield f"  not {loser.offer.cache}: {printable(loser.loses, 300)}"


def _images(decided: Match) -> Iterator[str]:
    shown = {image: printable(image, 300) for image in decided.images}
    width = max(map(len, shown.values()), default=0)
    for image, words in shown.items():
        yield f"  {words.ljust(width)}  {_source(decided.chosen, image)}"


def _source(chosen: Candidate | None, image: str) -> str:
    cached = chosen.found.get(image) if chosen else None
    return f"from the cache ({size(cached.size)})" if cached else "from its registry"
