# SPDX-License-Identifier: Apache-2.0
"""The command line of the benchmarks: `python -m tests.bench controller | builder | start`, in the repository's root.

`make bench`, `make bench-builder` and `make bench-start` call it. Nothing here passes or fails: a figure that misses
its aim is marked, for a person to judge.
"""

from __future__ import annotations

import platform
import signal
import sys
import time
from collections.abc import Callable

import click
from imagecache_operator.builder.inflate import GZIP_LIBRARY
from rich.console import Console

from tests.cluster import DEFAULT_NAME, ClusterError, cache, up
from tests.support import programs
from tests.support.install import REPOSITORY, install
from tests.support.kube import Kube
from tests.support.upstream import Upstream

from . import builder as builder_bench
from . import controller as controller_bench
from . import dataset as datasets
from . import files, rounds, runnable
from . import start as start_bench
from .report import Environment, of_program, table, versions, write

DOCUMENTS = REPOSITORY / "docs" / "benchmarks"
CONTROLLER, BUILDER, PROFILE = DOCUMENTS / "controller.md", DOCUMENTS / "builder.md", DOCUMENTS / "builder-profile.txt"
START = DOCUMENTS / "start.md"
LATENCY_SECONDS = 10
START_CLUSTER = "imagecache-bench"  # of its own: unlike the others, its nodes keep images in memory

console = Console(highlight=False, soft_wrap=True)


@click.group()
def main() -> None:
    """Measures on a real cluster, or a real registry, and prints a table."""


@main.command()
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="The cluster's name.")
@click.option("--markdown", is_flag=True, help=f"Also write the table to {CONTROLLER.relative_to(REPOSITORY)}.")
def controller(name: str, markdown: bool) -> None:
    """How soon the operator acts, what it writes when there is nothing to do, and the memory that it takes."""
    step = _steps()
    try:
        step("A kind cluster, a registry, the operator")
        cluster = up(name, step)
        upstream = Upstream.start(cluster, cache.home() / "upstream")
        install(cluster, upstream.ca_pem, step)
        environment = Environment.seen([
            f"Kubernetes {cluster.kubernetes} ({len(cluster.nodes)} kind nodes, {cluster.provider})",
            *versions("kopf", "kubernetes", "pydantic"),
        ])
        rows = controller_bench.measure(cluster, upstream, step)
        step("done")
    except (ClusterError, AssertionError) as error:
        raise click.ClickException(str(error)) from None
    console.print(table(rows))
    console.print(str(environment), markup=False)
    if markdown:
        write(CONTROLLER, environment, rows)
        step(f"written to {CONTROLLER.relative_to(REPOSITORY)}")


@main.command()
@click.option("--small", is_flag=True, help="A tenth of the data, to see that all of it runs; its figures say nothing.")
@click.option("--markdown", is_flag=True, help=f"Also write the table to {BUILDER.relative_to(REPOSITORY)}, and the "
                                               f"profile to {PROFILE.relative_to(REPOSITORY)}.")
def builder(small: bool, markdown: bool) -> None:
    """How fast the builder is, against skopeo and against the least that there is to do. Needs no cluster."""
    if small and markdown:
        raise click.UsageError("--small is no measurement: write down the whole one.")
    step = _steps()
    try:
        dataset = datasets.kept(datasets.SMALL if small else datasets.FULL, files.sources(), step)
        step(str(dataset))
        environment = Environment.seen([
            of_program("skopeo", programs.skopeo()), of_program("distribution", programs.registry()),
            f"Python {platform.python_version()}", *versions("urllib3", "zstandard", *{GZIP_LIBRARY} - {"zlib"}),
        ])
        rows, profile = builder_bench.measure(dataset, cache.home() / "bench", step)
        step("done")
    except (ClusterError, AssertionError) as error:
        raise click.ClickException(str(error)) from None
    console.print(table(rows))
    console.print(f"{environment}; {dataset}", markup=False)
    if markdown:
        write(BUILDER, environment, rows, note=f"{dataset}.")
        PROFILE.write_text(f"{environment}\n{dataset}\n\n{profile}")
        step(f"written to {BUILDER.relative_to(REPOSITORY)} and {PROFILE.relative_to(REPOSITORY)}")
    else:
        console.print(profile, markup=False)


@main.command()
@click.option("--name", default=START_CLUSTER, show_default=True, help="The cluster's name.")
@click.option("--in-memory/--on-disk", default=True, show_default=True,
              help="Where its nodes keep images; a cluster of the other kind is made anew.")
@click.option("--small", is_flag=True, help="Small images and one round, to see that all of it runs; its figures say "
                                            "nothing.")
@click.option("--markdown", is_flag=True, help=f"Also write the table to {START.relative_to(REPOSITORY)}.")
def start(name: str, in_memory: bool, small: bool, markdown: bool) -> None:
    """How soon a Pod's program runs: its image from a registry, from a cache, or there already."""
    if small and markdown:
        raise click.UsageError("--small is no measurement: write down the whole one.")
    # Whoever ends it by a signal gets his cluster back as it was, as after Ctrl-C.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    step = _steps()
    try:
        dataset = datasets.kept(datasets.FEW_RUNNING if small else datasets.RUNNING, files.sources(), step)
        step("A kind cluster, a registry, the operator")
        cluster = up(name, step, in_memory)
        upstream = Upstream.start(cluster, cache.home() / "upstream")
        install(cluster, upstream.ca_pem, step)
        folder = cache.home() / "bench" / "start"
        images = runnable.images(dataset, folder / "blobs", runnable.SMALL_SIZES if small else runnable.SIZES)
        environment = Environment.seen([
            f"Kubernetes {cluster.kubernetes} ({len(cluster.nodes)} kind nodes, {cluster.provider}), "
            f"their images {start_bench.images_on(cluster)}",
            f"containerd {start_bench.containerd(cluster)}", *versions("aiohttp"),
        ])
        most, seconds = (1, 2) if small else (rounds.MOST, LATENCY_SECONDS)
        rows = start_bench.measure(Kube(cluster), upstream.authority, images, folder / "tls", most, seconds, step)
        step("done")
    except (ClusterError, AssertionError) as error:
        raise click.ClickException(str(error)) from None
    of = "; ".join(map(runnable.described, images))
    console.print(table(rows))
    console.print(f"{environment}; {of}", markup=False)
    if markdown:
        write(START, environment, rows, note=f"{of}.")
        step(f"written to {START.relative_to(REPOSITORY)}")


def _steps() -> Callable[[str], None]:
    """Prints what is being done, and after how many seconds."""
    started = time.monotonic()
    return lambda text: console.print(f"{time.monotonic() - started:5.0f} s  {text}", markup=False)


if __name__ == "__main__":
    main(prog_name="python -m tests.bench")
