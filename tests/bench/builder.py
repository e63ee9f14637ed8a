# SPDX-License-Identifier: Apache-2.0
"""Measures the builder against what people would use otherwise, and against what could be. Called by `__main__`.

All contenders of a comparison take turns in one session, and medians are compared: the machine is as good or bad to
one as to the other. On tmpfs, so that it is the builder that is timed and not somebody's disk; the disk stands beside.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from imagecache_operator.api.job import StoredAs
from imagecache_operator.builder.inflate import GZIP_LIBRARY

from tests.cluster import ClusterError
from tests.support.tls import Authority

from . import speeds
from .altered import PROFILED_WORKERS
from .dataset import MB, Dataset
from .link import slow_link
from .report import Row
from .traffic import watched_registry
from .trial import Run, Trials, new_volume

MEMORY = Path("/dev/shm")
LINK = 12_500_000  # bytes a second: 100 Mbit/s
LEVELS = (1, 3, 6)
MANY = 8  # workers
MIB = 1024 * 1024
PEAK = 128  # MiB
ORIGINAL, DECOMPRESSED, ZSTD = StoredAs.ORIGINAL, StoredAs.DECOMPRESSED, StoredAs.ZSTD

Say = Callable[[str], object]
Contender = Callable[[Path], Run]


def measure(dataset: Dataset, disk: Path, say: Say) -> tuple[list[Row], str]:
    """The rows of the table, and the profile. `disk` is a folder that is none in memory. Raises ClusterError."""
    room = dataset.raw_of_each * 6 // 5
    if not MEMORY.is_dir() or shutil.disk_usage(MEMORY).free < room:
        raise ClusterError(f"{MEMORY} must be a file system in memory with {room // MB} MB free.")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with watched_registry(dataset.content, folder, Authority.create(folder / "authority")) as (registry, traffic):
            trials = Trials(dataset, registry, traffic, folder)
            _once(partial(trials.build, form=ORIGINAL))  # brings the layers into the page cache
            rows = [
                *_compared(trials, disk, say), *_zstd(trials, say), *_over_a_link(trials, say),
                *_after_a_kill(trials, say), *_peaks(trials, say), *_on_few_cores(trials, say),
            ]
            say("a profile, and its steps one by one")
            return rows, _profile(trials, folder / "profile")


def _once(contender: Contender) -> Run:
    with new_volume(MEMORY) as volume:
        return contender(volume)


def _compared(trials: Trials, disk: Path, say: Say) -> list[Row]:
    rows = []
    for form, against, aim, rounds in (
        (DECOMPRESSED, "skopeo copy --dest-decompress … dir:", 0.25, 3),
        (ORIGINAL, "skopeo copy --dest-shared-blob-dir … oci:", 0.6, 5),
    ):
        pair = partial(trials.build, form=form), partial(trials.skopeo, form=form)
        ours, theirs = _in_turns(f"{form} and skopeo", pair, MEMORY, rounds, say)
        rows.append(_ratio(f"{form}, against `{against}`", ours, theirs, aim))
        rows.append(_fetched(trials, form, ours))
        ours, theirs = _in_turns(f"{form} and skopeo", pair, disk, 1, say)
        rows.append(_ratio(f"{form}, against the same, once, on the disk", ours, theirs))
    pair = partial(trials.build, form=DECOMPRESSED), partial(trials.build, form=DECOMPRESSED, altered="without-hashing")
    ours, floor = _in_turns("Decompressed, with and without hashing", pair, MEMORY, 5, say)
    if len({run.stored for run in (*ours, *floor)}) != 1:
        raise AssertionError("without hashing the builder stores something else")
    return [*rows, _ratio("Decompressed, against itself without hashing", ours, floor, 1.35)]


def _in_turns(
    what: str, pair: tuple[Contender, Contender], place: Path, rounds: int, say: Say,
) -> tuple[list[Run], list[Run]]:
    ours: list[Run] = []
    theirs: list[Run] = []
    for number in range(rounds):
        for contender, runs in zip(pair, (ours, theirs), strict=True):
            with new_volume(place) as volume:
                runs.append(contender(volume))
        say(f"{what}, round {number + 1} in {place}: {ours[-1].seconds:.1f} s and {theirs[-1].seconds:.1f} s")
    return ours, theirs


def _ratio(what: str, ours: Sequence[Run], theirs: Sequence[Run], aim: float | None = None) -> Row:
    a, b = (statistics.median(run.seconds for run in runs) for runs in (ours, theirs))
    measured = f"{a / b:.2f} × ({_took(ours)}, against {_took(theirs)})"
    return Row(what, measured) if aim is None else _at_most(aim, " ×", a / b, what, measured)


def _took(runs: Sequence[Run]) -> str:
    seconds = [run.seconds for run in runs]
    spread = f" of {min(seconds):.1f}–{max(seconds):.1f}" if len(runs) > 1 else ""
    cpu = statistics.median(run.cpu for run in runs)
    return f"{statistics.median(seconds):.1f} s{spread}, processor {cpu:.1f} s, {runs[0].stored // MB} MB"


def _at_most(aim: float, unit: str, value: float, what: str, measured: str) -> Row:
    return Row(what, measured, f"≤ {aim}{unit}", value <= aim)


def _fetched(trials: Trials, form: StoredAs, runs: Sequence[Run]) -> Row:
    most = max(run.fetched for run in runs) / trials.dataset.compressed
    return Row(f"{form}: bytes fetched / unique bytes", f"{most:.3f}", "1.00", round(most, 2) == 1)


def _zstd(trials: Trials, say: Say) -> list[Row]:
    rows, runs = [], []
    for level in LEVELS:
        with new_volume(MEMORY) as volume:
            run = trials.build(volume, ZSTD, altered=f"zstd-level={level}")
            seconds = speeds.unpacking(trials.blobs(volume))
        say(f"Zstd, level {level}: {run.seconds:.1f} s")
        runs.append(run)
        rows.append(Row(
            f"Zstd, level {level}",
            f"built in {run.seconds:.1f} s (processor {run.cpu:.1f} s), {run.stored // MB} MB stored, "
            f"unpacked by one thread in {seconds:.1f} s",
        ))
    gzip = [layer.path for layer in trials.dataset.layers if layer.compression == "gzip"]
    others = speeds.unpacking(layer.path for layer in trials.dataset.layers if layer.compression != "gzip")
    slow, fast = others + speeds.unpacking_with_zlib(gzip), others + speeds.unpacking(gzip)
    size = trials.dataset.compressed // MB
    as_pulled = f"{size} MB stored, unpacked by one thread in {slow:.1f} s (zlib) or {fast:.1f} s ({GZIP_LIBRARY})"
    return [*rows, Row("Original, for comparison", as_pulled), _fetched(trials, ZSTD, runs)]


def _over_a_link(trials: Trials, say: Say) -> list[Row]:
    rows, least = [], trials.dataset.compressed / LINK
    with slow_link(trials.registry.address, LINK) as address:
        for form in (ORIGINAL, DECOMPRESSED):
            run = _once(partial(trials.build, form=form, address=address))
            say(f"{form} over 100 Mbit/s: {run.seconds:.1f} s")
            measured = f"{run.seconds / least:.2f} × ({run.seconds:.1f} s and {least:.1f} s)"
            what = f"{form} over 100 Mbit/s, against bytes / rate"
            rows.append(_at_most(1.1, " ×", run.seconds / least, what, measured))
    return rows


def _after_a_kill(trials: Trials, say: Say) -> list[Row]:
    rows = []
    for form in StoredAs:
        ratio = _once(partial(trials.build_after_a_kill, form=form)).fetched / trials.dataset.compressed
        say(f"{form}, killed halfway: {ratio:.2f} × the bytes")
        what, measured = f"{form}, killed at 50 % and begun again: bytes fetched / unique bytes", f"{ratio:.2f}"
        rows.append(_at_most(1.15, "", ratio, what, measured) if form is ORIGINAL else Row(what, measured))
    return rows


def _peaks(trials: Trials, say: Say) -> list[Row]:
    rows = []
    for form in StoredAs:
        peak = _once(partial(trials.build, form=form, workers=MANY)).peak / MIB
        say(f"{form}, {MANY} workers: {peak:.0f} MiB")
        rows.append(_at_most(PEAK, " MiB", peak, f"{form}: peak memory, {MANY} workers", f"{peak:.0f} MiB"))
    return rows


def _on_few_cores(trials: Trials, say: Say) -> list[Row]:
    rows = []
    for form in StoredAs:
        size = (trials.dataset.compressed if form is ORIGINAL else trials.dataset.raw) / MB
        figures = []
        for cores in (1, 2):
            run = _once(partial(trials.build, form=form, cores=cores))
            say(f"{form}, {cores} of the cores: {run.seconds:.1f} s")
            figures.append(
                f"on {cores}: {size / run.seconds / cores:.0f} MB/s a core, {size / run.cpu:.0f} MB a processor second"
            )
        what = f"{form}: {'layers' if form is ORIGINAL else 'tars'} on 1 core and on 2"
        rows.append(Row(what, "; ".join(figures)))
    return rows


def _profile(trials: Trials, file: Path) -> str:
    parts = [speeds.as_text(trials.dataset, speeds.steps(trials.dataset, trials.registry, MEMORY))]
    for form in (DECOMPRESSED, ORIGINAL):
        run = _once(partial(trials.build, form=form, altered=f"profiled={file}", workers=PROFILED_WORKERS))
        parts.append(
            f"{form}, {PROFILED_WORKERS} workers, while profiled: {run.seconds:.1f} s, processor {run.cpu:.1f} s.\n"
            f"Processor time of the worker threads, merged:\n\n{file.read_text().strip()}"
        )
    return "\n\n\n".join(parts) + "\n"
