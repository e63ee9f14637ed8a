# SPDX-License-Identifier: Apache-2.0
"""Others agree with the builder: skopeo about what is in an image, the distribution registry about the layout.

skopeo is the oracle because it shares no code with us and is what many clusters pull with (containers/image).
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api.reference import parse
from imagecache_operator.builder.check import check

from tests.support.images import Image, make_images
from tests.support.registry_process import RegistryProcess, running_registry
from tests.support.tls import Authority

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def skopeo() -> str:
    found = shutil.which("skopeo")
    assert found, "These tests compare with skopeo: install it with 'apt-get install skopeo' or your system's way."
    return found


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Image]:
    return make_images(tmp_path_factory.mktemp("blobs"))


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory, images: dict[str, Image]) -> Iterator[RegistryProcess]:
    folder = tmp_path_factory.mktemp("upstream")
    with running_registry(folder / "content", folder, Authority.create(folder / "authority")) as process:
        for image in images.values():
            process.pusher.push(image)
        yield process


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory, upstream: RegistryProcess, images: dict[str, Image]) -> Path:
    """A volume that the builder filled with all images for two platforms."""
    folder = tmp_path_factory.mktemp("volume")
    options = [part for name in images for part in ("--image", f"{upstream.address}/{name}")]
    subprocess.run(
        [sys.executable, "-m", "imagecache_operator.builder.command", "--output", str(folder), *options,
         "--platform", "linux/amd64", "--platform", "linux/arm64", "--termination-log", os.devnull],
        env={**os.environ, "PYTHONPATH": str(ROOT / "operator"), names.ENV_CA_FILE: str(upstream.authority.ca_file)},
        check=True, stdout=subprocess.DEVNULL,
    )
    assert check(folder) == []
    return folder


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, upstream: RegistryProcess, volume: Path,
) -> Iterator[RegistryProcess]:
    """A stock registry, read-only, on what the builder wrote."""
    with running_registry(volume, tmp_path_factory.mktemp("server"), upstream.authority, readonly=True) as process:
        yield process


def _pulled(skopeo: str, registry: RegistryProcess, name: str, folder: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [skopeo, *options, "copy", "--quiet", "--src-cert-dir", str(registry.authority.ca_file.parent),
         f"docker://{registry.address}/{name}", f"dir:{folder}"],
        capture_output=True, text=True, check=False,
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads((folder / "manifest.json").read_bytes())
    config = json.loads((folder / manifest["config"]["digest"].removeprefix("sha256:")).read_bytes())
    return {"config": manifest["config"]["digest"], "diff_ids": config["rootfs"]["diff_ids"], "manifest": manifest}


NAMES = ["base/tools:1.0", "team/app:2.1", "team/web:zstd", "team/multi:1.0", "data/only:5"]


@pytest.mark.parametrize("name", NAMES)
def test_skopeo_finds_the_same_image(
    name: str, skopeo: str, upstream: RegistryProcess, server: RegistryProcess, tmp_path: Path,
) -> None:
    stored = parse(f"{upstream.address}/{name}")
    original = _pulled(skopeo, upstream, name, tmp_path / "original")
    cached = _pulled(skopeo, server, f"{stored.stored_repository}:{stored.stored_tag}", tmp_path / "cached")
    assert (cached["config"], cached["diff_ids"]) == (original["config"], original["diff_ids"])
    # skopeo has compared every layer with its digest, and here the digest is the diff_id itself.
    assert [layer["digest"] for layer in cached["manifest"]["layers"]] == original["diff_ids"]


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_every_platform_of_an_index_can_be_pulled(
    architecture: str, skopeo: str, upstream: RegistryProcess, server: RegistryProcess, images: dict[str, Image],
    tmp_path: Path,
) -> None:
    stored = parse(f"{upstream.address}/team/multi:1.0")
    name = f"{stored.stored_repository}:{stored.stored_tag}"
    found = _pulled(skopeo, server, name, tmp_path / "pulled", "--override-arch", architecture)
    (wanted,) = [p for p in images["team/multi:1.0"].platforms if p.architecture == architecture]
    assert (found["config"], found["diff_ids"]) == (wanted.config.digest, list(wanted.diff_ids))


def test_everybody_can_read_the_volume(volume: Path) -> None:
    for folder, folders, files in os.walk(volume / "docker"):
        for name in folders:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o755
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(folder, name)).st_mode) == 0o644


def test_the_images_here_are_the_images_there(images: dict[str, Image]) -> None:
    assert list(images) == NAMES
