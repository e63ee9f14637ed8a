# SPDX-License-Identifier: Apache-2.0
"""Runs of benchmarks do what they are named for: the meter meters, an altered builder is altered, and just so."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.job import StoredAs
from imagecache_operator.builder.layout import TREE

from tests.bench.dataset import Dataset, image
from tests.bench.link import slow_link
from tests.bench.traffic import watched_registry
from tests.bench.trial import METER, Trials
from tests.support.images import make_images
from tests.support.layers import sha256
from tests.support.push import Pusher
from tests.support.tls import Authority

NAMES = ("base/tools:1.0", "team/app:2.1", "team/web:zstd")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trials]:
    folder = tmp_path_factory.mktemp("trials")
    images = make_images(folder / "blobs")
    layers = {layer.digest: layer for name in NAMES for layer in images[name].own.layers}
    digests = {name: images[name].own.layer_digests for name in NAMES}
    with watched_registry(folder / "content", folder, Authority.create(folder / "authority")) as (registry, traffic):
        for name in NAMES:
            registry.pusher.push(images[name])
        yield Trials(Dataset(folder / "content", tuple(layers.values()), digests), registry, traffic, folder)


def metered(folder: Path, *command: str, cores: int = 0) -> dict[str, float]:
    report = folder / "report"
    subprocess.run([sys.executable, "-IS", str(METER), str(report), str(cores), *command], check=True)
    return dict(json.loads(report.read_text()))


def contents(volume: Path) -> dict[str, str]:
    return {
        str(path.relative_to(volume)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (volume / TREE).rglob("*") if path.is_file()
    }


def test_the_meter_tells_how_a_command_ended(tmp_path: Path) -> None:
    assert metered(tmp_path, "sh", "-c", "exit 3")["status"] == 3
    assert metered(tmp_path, "sh", "-c", "kill -9 $$")["status"] == -9


def test_the_meter_counts_the_command_and_not_who_asks(tmp_path: Path) -> None:
    ours = bytearray(256 * MIB)
    ours[::4096] = b"x" * len(ours[::4096])
    assert metered(tmp_path, "sh", "-c", ":")["peak"] < 64 * MIB
    assert metered(tmp_path, sys.executable, "-c", f"b'x' * {96 * MIB}")["peak"] > 96 * MIB


def test_the_meter_limits_cores(tmp_path: Path) -> None:
    program = "import os, sys; sys.exit(len(os.sched_getaffinity(0)))"
    assert metered(tmp_path, sys.executable, "-c", program, cores=1)["status"] == 1


@pytest.mark.parametrize("form", StoredAs)
def test_a_run_fetches_every_layer_once(form: StoredAs, trials: Trials, tmp_path: Path) -> None:
    run = trials.build(tmp_path, form)
    assert run.fetched == trials.dataset.compressed
    assert run.stored >= (trials.dataset.raw if form is StoredAs.DECOMPRESSED else trials.dataset.compressed // 2)


def test_without_hashing_the_same_is_written(trials: Trials, tmp_path: Path) -> None:
    trials.build(tmp_path / "plain", StoredAs.DECOMPRESSED)
    trials.build(tmp_path / "altered", StoredAs.DECOMPRESSED, altered="without-hashing")
    assert contents(tmp_path / "altered") == contents(tmp_path / "plain")


def test_without_hashing_nothing_is_compared_until_the_volume_is_checked(trials: Trials, tmp_path: Path) -> None:
    liar = dataclasses.replace(trials.dataset.layers[0], diff_id=sha256(b"something else"))
    trials.registry.pusher.push(image(tmp_path, "team/liar:1", [liar]))
    lying = Trials(
        Dataset(Path(), (liar,), {"team/liar:1": (liar.digest,)}), trials.registry, trials.traffic, tmp_path,
    )
    with pytest.raises(AssertionError, match="ended with 1"):
        lying.build(tmp_path / "plain", StoredAs.DECOMPRESSED)
    with pytest.raises(AssertionError, match="not sound"):
        lying.build(tmp_path / "altered", StoredAs.DECOMPRESSED, altered="without-hashing")


def test_another_level_packs_more(trials: Trials, tmp_path: Path) -> None:
    low = trials.build(tmp_path / "low", StoredAs.ZSTD, altered="zstd-level=1")
    high = trials.build(tmp_path / "high", StoredAs.ZSTD, altered="zstd-level=9")
    assert high.stored < low.stored


@pytest.mark.parametrize("form", StoredAs)
def test_after_a_kill_both_attempts_count(form: StoredAs, trials: Trials, tmp_path: Path) -> None:
    run = trials.build_after_a_kill(tmp_path, form)
    assert trials.dataset.compressed <= run.fetched <= 2 * trials.dataset.compressed


def test_a_profile_tells_what_threads_did(trials: Trials, tmp_path: Path) -> None:
    trials.build(tmp_path / "volume", StoredAs.DECOMPRESSED, altered=f"profiled={tmp_path / 'profile'}")
    said = (tmp_path / "profile").read_text()
    assert "'decompress' of" in said
    assert "'update' of '_hashlib.HASH'" in said


@pytest.mark.parametrize("form", [StoredAs.DECOMPRESSED, StoredAs.ORIGINAL])
def test_skopeo_stores_the_same_images(form: StoredAs, trials: Trials, tmp_path: Path) -> None:
    run = trials.skopeo(tmp_path, form)
    once = trials.dataset.raw if form is StoredAs.DECOMPRESSED else trials.dataset.compressed
    assert once < run.stored < 2 * once


def test_a_slow_link_leads_to_the_registry_and_ends(trials: Trials, tmp_path: Path) -> None:
    with slow_link(trials.registry.address, bytes_per_second=10**9) as address:
        assert address != trials.registry.address
        assert trials.build(tmp_path, StoredAs.ORIGINAL, address=address).fetched == trials.dataset.compressed
    assert not Pusher(address, trials.registry.authority.ca_file).answers()
