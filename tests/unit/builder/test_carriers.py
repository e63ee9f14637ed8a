# SPDX-License-Identifier: Apache-2.0
"""Carriers: that others read them from a stock registry, that they hold the image's layers and show nothing else, and
that the same layers make the same bytes."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from imagecache_operator.api.job import StoredAs
from imagecache_operator.api.oci import OCI_INDEX, OCI_MANIFEST
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import parse
from imagecache_operator.builder import manifest as manifests
from imagecache_operator.builder.carrier import carrier_of
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import Layout, Repository, open_layout
from imagecache_operator.builder.manifest import Descriptor, Manifest
from imagecache_operator.builder.plan import ImagePlan, PlatformImage

from tests.support.images import Image
from tests.support.programs import skopeo
from tests.support.registry_process import RegistryProcess, running_registry
from tests.support.tls import Authority

from .blobs import blobs_of_images
from .conftest import Run
from .faulty import FaultyRegistry, SmallImage, sha256

PLATFORMS = ("linux/amd64", "linux/arm64")
NOISE = random.Random(6).randbytes(50_000)
UNPACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress, "tar": bytes,
    "zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read(),
}


@pytest.fixture
def server(volume: Path, tmp_path: Path, authority: Authority) -> Iterator[RegistryProcess]:
    """A stock registry on the volume, read-only."""
    with running_registry(volume, tmp_path, authority, readonly=True) as process:
        yield process


def copied(server: RegistryProcess, reference: str, carrier: str, folder: Path) -> list[dict[str, Any]]:
    """The carrier's manifests, after skopeo has taken all of it, and compared each part with its digest."""
    source = f"docker://{server.address}/{parse(reference).carrier_repository}@{carrier}"
    command = [skopeo(), "copy", "--quiet", "--all", "--src-tls-verify=false", source, f"dir:{folder}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    top = (folder / "manifest.json").read_bytes()
    assert sha256(top) == carrier
    document = json.loads(top)
    if document["mediaType"] != OCI_INDEX:
        return [document]
    return [json.loads((folder / f"{e['digest'][7:]}.manifest.json").read_bytes()) for e in document["manifests"]]


def blob(folder: Path, digest: str) -> bytes:
    return (folder / digest.removeprefix("sha256:")).read_bytes()


@pytest.mark.parametrize("form", list(StoredAs))
def test_skopeo_takes_every_kind_of_carrier_from_a_stock_registry(
    form: StoredAs, registry: RegistryProcess, images: dict[str, Image], run: Run, volume: Path, tmp_path: Path,
    server: RegistryProcess,
) -> None:
    references = [f"{registry.address}/{name}" for name in images]
    outcome = run(*references, platforms=PLATFORMS, stored_as=form)
    assert outcome.succeeded
    assert check(volume) == []
    seen = 0
    for reference, image, ended in zip(references, images.values(), outcome.images, strict=True):
        assert ended.carrier
        folder = tmp_path / image.repository.replace("/", "-")
        found = {}
        for manifest in copied(server, reference, ended.carrier, folder):
            config = json.loads(blob(folder, manifest["config"]["digest"]))
            found[config["architecture"]] = manifest, config
        assert found.keys() == {platform.architecture for platform in image.platforms}
        for platform in image.platforms:
            manifest, config = found[platform.architecture]
            assert config == {
                "architecture": platform.architecture, "os": "linux",
                "config": {"Labels": {"imagecache.dev/carrier": "true"}},
                "rootfs": {"type": "layers", "diff_ids": list(platform.diff_ids)},
            }
            assert manifest["config"]["digest"] != platform.config.digest, "another image ID"
            for layer, diff_id in zip(manifest["layers"], platform.diff_ids, strict=True):
                packing = layer["mediaType"].replace("+", ".").rpartition(".")[2]
                assert sha256(UNPACKED[packing](blob(folder, layer["digest"]))) == diff_id
            if form is StoredAs.ORIGINAL:
                assert manifest["layers"] == json.loads(platform.manifest.data)["layers"]
            seen += 1
    assert seen == len(images) + 1, "one image has two platforms"


def test_of_two_platforms_each_node_takes_its_own(
    registry: RegistryProcess, run: Run, server: RegistryProcess, images: dict[str, Image],
) -> None:
    reference = f"{registry.address}/team/multi:1.0"
    (ended,) = run(reference, platforms=PLATFORMS).images
    name = f"docker://{server.address}/{parse(reference).carrier_repository}@{ended.carrier}"
    for platform in images["team/multi:1.0"].platforms:
        command = [skopeo(), "inspect", "--config", "--raw", "--tls-verify=false",
                   f"--override-arch={platform.architecture}", name]
        said = subprocess.run(command, check=True, capture_output=True, timeout=60)
        assert json.loads(said.stdout)["rootfs"]["diff_ids"] == list(platform.diff_ids)


def test_a_carrier_is_of_layers_and_not_of_names(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    """Other words in the config, another name: the same carrier. Other layers: another one."""
    plain, talking, other = SmallImage([NOISE]), SmallImage([NOISE]), SmallImage([NOISE, b"more"])
    talking.config["config"] = {"Env": ["SECRET=1"], "Cmd": ["serve"]}
    talking.refresh()
    references = [faulty.add(name, image) for name, image in (("a", plain), ("b", talking), ("c", other))]
    first = run(*references)
    assert first.succeeded
    carriers = [i.carrier for i in first.images]
    assert carriers[0] == carriers[1] != carriers[2]
    layout = Layout(volume)
    document = json.loads(layout.blob_path(carriers[1] or "").read_bytes())
    assert b"SECRET" not in layout.blob_path(document["config"]["digest"]).read_bytes()
    files = {path: path.stat().st_mtime_ns for path in volume.rglob("*") if path.is_file()}
    assert [i.carrier for i in run(*references).images] == carriers
    assert {path: path.stat().st_mtime_ns for path in volume.rglob("*") if path.is_file()} == files


def test_its_documents_count_as_the_image_s(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    (ended,) = run(faulty.add("a", SmallImage([NOISE]))).images
    assert ended.size == sum(path.stat().st_size for path in blobs_of_images(volume))


def test_a_carrier_is_small(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    """As docs/reference/builder.md says."""
    (ended,) = run(faulty.add("a", SmallImage([NOISE + bytes([n]) for n in range(10)]))).images
    links = list(volume.glob("docker/registry/v2/repositories/carrier/**/link"))
    manifest = Layout(volume).blob_path(ended.carrier or "").read_bytes()
    documents = len(manifest) + int(json.loads(manifest)["config"]["size"])
    assert 2_500 < documents < 2_750
    assert len(links) + 2 == 16
    assert documents + sum(link.stat().st_size for link in links) < 3_750


def test_an_image_whose_carrier_is_lost_has_not_ended_well(
    faulty: FaultyRegistry, run: Run, volume: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference = faulty.add("a", SmallImage([NOISE]))
    assert run(reference).succeeded
    (link,) = volume.glob("docker/registry/v2/repositories/carrier/*/a/_manifests/tags/1/current/link")
    document = link.read_text()
    holds = Layout.holds

    def losing(layout: Layout, repository: Repository, tag: str) -> bool:
        layout.blob_path(document).unlink(missing_ok=True)
        return holds(layout, repository, tag)

    monkeypatch.setattr(Layout, "holds", losing)
    (ended,) = run(reference).images
    assert ended.reason is Reason.INTERNAL
    assert ended.carrier is None
    monkeypatch.undo()
    (again,) = run(reference).images
    assert again.carrier == document
    assert check(volume) == []


@pytest.mark.parametrize(("spoil", "words"), [
    (lambda config: config["config"].update(Env=["A=1"]), "tells more"),
    (lambda config: config.update(history=[]), "tells more"),
    (lambda config: config["rootfs"]["diff_ids"].append(sha256(b"")), "another number"),
], ids=["words", "history", "a diff_id too many"])
def test_check_sees_what_is_wrong_with_a_carrier(
    spoil: Callable[[Any], object], words: str, faulty: FaultyRegistry, run: Run, volume: Path,
) -> None:
    assert run(faulty.add("a", SmallImage([NOISE]))).succeeded
    (home,) = volume.glob("docker/registry/v2/repositories/carrier/*/a")
    with open_layout(volume) as layout:
        document = json.loads(layout.blob_path((home / "_manifests/tags/1/current/link").read_text()).read_bytes())
        config = json.loads(layout.blob_path(document["config"]["digest"]).read_bytes())
        spoil(config)
        body = json.dumps(config).encode()
        document["config"].update(digest=layout.write_blob(body), size=len(body))
        blobs = frozenset({document["config"]["digest"], document["layers"][0]["digest"]})
        manifest = layout.write_blob(json.dumps(document).encode())
        layout.link(Repository(home.relative_to(home.parents[2]).as_posix(), blobs, (manifest,)), "other")
    (problem,) = check(volume)
    assert words in problem


def test_an_image_without_layers_has_none(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    (ended,) = run(faulty.add("a", SmallImage([]))).images
    assert (ended.reason, ended.carrier) == (None, None)
    assert check(volume) == []
    assert not list(volume.glob("docker/registry/v2/repositories/carrier"))


def planned(*images: tuple[str, str, list[bytes]]) -> ImagePlan:
    """An image of these platforms: architecture, variant, layers."""
    made = []
    for architecture, variant, layers in images:
        config = json.dumps({"os": "linux", "architecture": architecture, "variant": variant, "rootfs": {
            "diff_ids": [sha256(layer) for layer in layers]}, "config": {"Cmd": ["x"]}}).encode()
        manifest = Manifest(
            config=Descriptor(digest=sha256(config), size=len(config)),
            layers=tuple(Descriptor(media_type="t", digest=sha256(layer), size=len(layer)) for layer in layers),
        )
        made.append(PlatformImage(b"", manifest, manifests.parse_config(config, manifest, "a"), config))
    return ImagePlan(parse("a"), b"", tuple(made), None)


def as_stored(layer: Descriptor, diff_id: str) -> Descriptor:
    return layer


def test_the_order_of_platforms_changes_nothing() -> None:
    images = [("amd64", "", [b"1", b"2"]), ("arm64", "v8", [b"1", b"3"]), ("arm", "v6", [b"4"]), ("arm", "v7", [b"4"])]
    first = carrier_of(planned(*images), as_stored)
    assert first
    assert all(carrier_of(planned(*order), as_stored) == first for order in itertools.permutations(images))
    entries = json.loads(first.manifests[-1])["manifests"]
    assert [e["digest"] for e in entries] == [sha256(m) for m in first.manifests[:-1]]
    assert {tuple(e["platform"].items()) for e in entries} == {
        (("architecture", "amd64"), ("os", "linux")), (("architecture", "arm64"), ("os", "linux")),
        *((("architecture", "arm"), ("os", "linux"), ("variant", v)) for v in ("v6", "v7")),
    }, "a variant that goes without saying is left out"
    assert len(set(first.configs)) == 4
    assert first.blobs == {*map(sha256, first.configs), *(sha256(str(n).encode()) for n in range(1, 5))}


def test_one_platform_makes_no_index_and_one_without_layers_is_left_out() -> None:
    one = planned(("amd64", "", [b"1", b"1"]))
    alone = carrier_of(one, as_stored)
    assert alone
    (manifest,) = alone.manifests
    document = json.loads(manifest)
    assert document["mediaType"] == OCI_MANIFEST
    assert [layer["digest"] for layer in document["layers"]] == [sha256(b"1")] * 2, "as often as the image has it"
    assert carrier_of(planned(("amd64", "", [b"1", b"1"]), ("arm64", "", [])), as_stored) == alone
    assert carrier_of(planned(("amd64", "", [])), as_stored) is None
    assert carrier_of(dataclasses.replace(one, body=b"another tag"), as_stored) == alone
