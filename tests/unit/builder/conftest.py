# SPDX-License-Identifier: Apache-2.0
"""Registries for the builder's tests: a real one for a session, a misbehaving one for a test."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.credentials import Credentials
from imagecache_operator.api.job import BuildJob, StoredAs
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.build import build
from imagecache_operator.builder.patience import Limits
from imagecache_operator.builder.registry import Registries
from imagecache_operator.builder.report import Lines

from tests.support.images import Image, make_images
from tests.support.registry_process import RegistryProcess, running_registry
from tests.support.tls import Authority

from .faulty import FaultyRegistry

GIB = 1024**3
QUICK = Limits(first_delay=0.01, longest_delay=0.05, waiting_in_all=5)

Run = Callable[..., Outcome]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.create(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    return make_images(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="session")
def registry(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority, images: dict[str, Image],
) -> Iterator[RegistryProcess]:
    folder = tmp_path_factory.mktemp("registry")
    with running_registry(folder / "content", folder, authority) as process:
        for image in images.values():
            process.pusher.push(image)
        yield process


@pytest.fixture
def faulty(tmp_path: Path, authority: Authority) -> Iterator[FaultyRegistry]:
    server = FaultyRegistry(authority, tmp_path / "faulty")
    yield server
    server.close()


@pytest.fixture
def elsewhere(tmp_path: Path, authority: Authority) -> Iterator[FaultyRegistry]:
    """Another host, for redirects and tokens."""
    server = FaultyRegistry(authority, tmp_path / "elsewhere")
    yield server
    server.close()


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    folder = tmp_path / "volume"
    folder.mkdir()
    return folder


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def output() -> io.StringIO:
    """What the builder says."""
    return io.StringIO()


@pytest.fixture
def run(volume: Path, authority: Authority, stop: threading.Event, output: io.StringIO) -> Run:
    """Runs the builder on the volume: run(reference, ..., capacity=…, platforms=…)."""

    def run_builder(
        *references: str, capacity: int = GIB, platforms: tuple[str, ...] = ("linux/amd64",),
        trusted: bool = True, limits: Limits = QUICK, plain_http: tuple[str, ...] = (),
        credentials: Credentials | None = None, stored_as: StoredAs = StoredAs.DECOMPRESSED,
    ) -> Outcome:
        job = BuildJob(
            images=references, platforms=platforms, capacity=capacity, plain_http=plain_http, stored_as=stored_as,
        )
        ca_file = str(authority.ca_file) if trusted else None
        registries = Registries(stop, job.plain_http, ca_file, limits=limits, credentials=credentials)
        return build(job, volume, registries, Lines(output), stop)

    return run_builder
