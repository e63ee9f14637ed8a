# SPDX-License-Identifier: Apache-2.0
"""`builder --plan`: what would come and how large it is, compared with what then comes; and that nothing is written."""

from __future__ import annotations

import gzip
import json
import os
import random
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from imagecache_operator.api.job import BuildJob, StoredAs
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.build import build
from imagecache_operator.builder.estimate import Amount, Certainty, Contents, Estimate, estimate
from imagecache_operator.builder.registry import Registries
from imagecache_operator.builder.report import Lines

from tests.support.images import Image
from tests.support.registry_process import RegistryProcess
from tests.support.tls import Authority

from .conftest import GIB, QUICK
from .faulty import FaultyRegistry, SmallImage, answers, ignores_range, sha256
from .program import environment, run

EVERYTHING = ("base/tools:1.0", "team/app:2.1", "team/web:zstd", "team/multi:1.0", "data/only:5")
ONE_MEMBER = ("base/tools:1.0", "team/multi:1.0", "data/only:5")  # gzip tells their size

Plan = Callable[..., Estimate]


@pytest.fixture
def registries(authority: Authority, stop: threading.Event) -> Registries:
    return Registries(stop, ca_file=str(authority.ca_file), limits=QUICK)


def _job(*references: str, stored_as: StoredAs, capacity: int = GIB, platforms: tuple[str, ...] = ()) -> BuildJob:
    return BuildJob(images=references, platforms=platforms or ("linux/amd64",), stored_as=stored_as, capacity=capacity)


@pytest.fixture
def plan(registries: Registries, volume: Path, stop: threading.Event) -> Plan:
    """The estimate for references: plan(reference, …, stored_as=…, capacity=…, platforms=…, output=…)."""
    def planned(
        *references: str, stored_as: StoredAs = StoredAs.DECOMPRESSED, output: Path = volume, capacity: int = GIB,
        platforms: tuple[str, ...] = (),
    ) -> Estimate:
        job = _job(*references, stored_as=stored_as, capacity=capacity, platforms=platforms)
        return estimate(job, output, registries, stop, workers=4)

    return planned


def _contents(found: Estimate, place: int = 0) -> Contents:
    contents = found.images[place].contents
    assert contents, found.images[place].message
    return contents


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


def test_images_in_numbers(registry: RegistryProcess, images: dict[str, Image], plan: Plan, tmp_path: Path) -> None:
    platform = f"linux/{images['team/multi:1.0'].own.architecture}"
    nowhere = tmp_path / "not" / "there"
    found = plan(*(f"{registry.address}/{name}" for name in EVERYTHING), platforms=(platform,), output=nowhere)
    for place, name in enumerate(EVERYTHING):
        own, contents = images[name].own, _contents(found, place)
        assert found.images[place].digest == images[name].digest
        assert found.images[place].platforms == (platform,)
        assert contents.layers == contents.missing_layers == len(own.layers)
        assert contents.compressed == contents.missing_compressed == own.compressed_size
        assert contents.to_write == contents.unpacked
        if name in ONE_MEMBER:
            assert contents.unpacked == Amount(size=own.raw_size, certainty=Certainty.ESTIMATE)
        else:  # members and frames tell of themselves only
            assert contents.unpacked.certainty is Certainty.AT_LEAST
            assert own.compressed_size * 98 // 100 < contents.unpacked.size < own.raw_size
    layers = {layer.digest: layer for name in EVERYTHING for layer in images[name].own.layers}
    assert found.total.layers == len(layers) < sum(_contents(found, place).layers for place in range(len(EVERYTHING)))
    assert found.total.compressed == sum(layer.size for layer in layers.values())
    assert (found.used, found.left, found.capacity) == (0, GIB, GIB)
    assert not nowhere.parent.exists()


def test_all_platforms_that_are_asked_for_are_counted(
    registry: RegistryProcess, images: dict[str, Image], plan: Plan,
) -> None:
    image = images["team/multi:1.0"]
    found = plan(f"{registry.address}/{image.name}", platforms=("linux/amd64", "linux/arm64"))
    assert set(found.images[0].platforms) == {"linux/amd64", "linux/arm64"}
    assert _contents(found).compressed == sum(own.compressed_size for own in image.platforms)
    assert _contents(found).unpacked.size == sum(own.raw_size for own in image.platforms)


@pytest.mark.parametrize("form", StoredAs)
def test_what_is_there_already_is_not_fetched_again(
    form: StoredAs, registry: RegistryProcess, images: dict[str, Image], plan: Plan, volume: Path,
    registries: Registries, stop: threading.Event,
) -> None:
    platforms = (f"linux/{images['data/only:5'].own.architecture}",)
    first, second = (f"{registry.address}/{name}" for name in ("base/tools:1.0", "data/only:5"))
    promised = plan(first, stored_as=form, platforms=platforms)
    job = _job(first, stored_as=form, platforms=platforms)
    with open(os.devnull, "w") as nobody:
        outcome = build(job, volume, registries, Lines(nobody), stop)
    assert outcome.succeeded
    documents = 20_000  # configs, manifests and links
    if promised.total.to_write.certainty is Certainty.EXACT or form is StoredAs.DECOMPRESSED:
        assert promised.total.to_write.size < outcome.used < promised.total.to_write.size + documents
    else:
        assert promised.total.to_write.size / 2 < outcome.used < promised.total.to_write.size * 2
    before = _files(volume)
    found = plan(first, second, stored_as=form, platforms=platforms)
    assert _files(volume) == before
    own = images["data/only:5"].own
    there, (_, fresh) = _contents(found), own.layers
    assert (there.missing_layers, there.missing_compressed, there.to_write) == (0, 0, Amount())
    assert (found.total.missing_layers, found.total.missing_compressed) == (1, fresh.size)
    assert _contents(found, 1).layers == 2
    assert found.used == outcome.used
    assert found.left == GIB - outcome.used
    exact = form is StoredAs.DECOMPRESSED
    assert (there.unpacked.certainty is Certainty.EXACT) is exact
    assert there.unpacked.size == images["base/tools:1.0"].own.raw_size


def _zstd_streamed(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


def _gzip_twice(data: bytes) -> bytes:
    return gzip.compress(data) + gzip.compress(b"")


@pytest.mark.parametrize(("media_type", "compress", "certainty"), [
    ("application/vnd.oci.image.layer.v1.tar", bytes, Certainty.EXACT),
    ("application/vnd.docker.image.rootfs.diff.tar", bytes, Certainty.EXACT),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", gzip.compress, Certainty.ESTIMATE),
    ("application/vnd.oci.image.layer.v1.tar+zstd", zstandard.compress, Certainty.ESTIMATE),
    ("application/vnd.oci.image.layer.v1.tar+zstd", _zstd_streamed, Certainty.AT_LEAST),
    ("application/vnd.oci.image.layer.v1.tar+gzip", _gzip_twice, Certainty.AT_LEAST),
    ("application/vnd.oci.image.layer.v1.tar+zstd", gzip.compress, Certainty.AT_LEAST),
    ("application/vnd.oci.image.layer.v1.tar+gzip", lambda _: b"gz", Certainty.AT_LEAST),
])
def test_how_well_a_size_is_known(
    media_type: str, compress: Callable[[bytes], bytes], certainty: Certainty, faulty: FaultyRegistry, plan: Plan,
) -> None:
    data = random.Random(1).randbytes(5000) * 2
    image = SmallImage([data], compress)
    image.manifest["layers"][0]["mediaType"] = media_type
    amount = _contents(plan(faulty.add("a", image))).unpacked
    assert amount.certainty is certainty
    assert amount.size == (len(compress(data)) * 99 // 100 if certainty is Certainty.AT_LEAST else len(data))


def test_a_registry_without_ranges_leaves_a_lower_bound(faulty: FaultyRegistry, plan: Plan) -> None:
    image = SmallImage([bytes(100_000)])
    faulty.fail(f"/v2/a/blobs/{image.layer_digests[0]}", ignores_range())
    assert _contents(plan(faulty.add("a", image))).unpacked.certainty is Certainty.AT_LEAST


def test_only_the_edge_of_a_layer_is_read(faulty: FaultyRegistry, plan: Plan) -> None:
    image = SmallImage([random.Random(2).randbytes(100_000)])
    plan(faulty.add("a", image))
    (asked,) = (headers for path, headers in faulty.requests if image.layer_digests[0] in path)
    assert asked["range"] == f"bytes={len(image.blobs[image.layer_digests[0]]) - 4}-"


@pytest.mark.parametrize(("capacity", "compress", "fits"), [
    (200_000, gzip.compress, True), (99_999, gzip.compress, False), (200_000, _gzip_twice, None),
    (10, _gzip_twice, False),
])
def test_whether_it_fits(
    capacity: int, compress: Callable[[bytes], bytes], fits: bool | None, faulty: FaultyRegistry, plan: Plan,
) -> None:
    found = plan(faulty.add("a", SmallImage([bytes(100_000)], compress)), capacity=capacity)
    assert found.fits is fits
    assert found.promising is (fits is not False)


def test_images_that_cannot_be_had_are_named_with_their_reasons(faulty: FaultyRegistry, plan: Plan) -> None:
    sound, lost = SmallImage([b"a" * 5000]), SmallImage([b"b" * 5000, b"c" * 5000])
    references = [faulty.add("sound", sound), faulty.add("lost", lost), f"{faulty.address}/missing:1", "Not/one"]
    del faulty.documents[f"/v2/lost/blobs/{lost.layer_digests[1]}"]
    found = plan(*references)
    assert [image.reason for image in found.images] == [None, *[Reason.NOT_FOUND] * 2, Reason.UNSUPPORTED]
    assert "lost a part" in found.images[1].message
    assert found.images[1].digest == sha256(lost.body)
    assert [image.contents is None for image in found.images] == [False, True, True, True]
    assert found.total.layers == 1
    assert found.fits
    assert not found.promising


def test_trouble_that_passes_is_waited_for(faulty: FaultyRegistry, plan: Plan) -> None:
    image = SmallImage([b"a" * 5000])
    faulty.fail(f"/v2/a/blobs/{image.layer_digests[0]}", answers(503), answers(429))
    assert _contents(plan(faulty.add("a", image))).unpacked.certainty is Certainty.ESTIMATE


def test_a_plan_that_is_stopped_says_so(faulty: FaultyRegistry, plan: Plan, stop: threading.Event) -> None:
    stop.set()
    assert [i.reason for i in plan(faulty.add("a", SmallImage([b"a"]))).images] == [Reason.CANCELLED]


def test_a_volume_that_is_none_is_named(faulty: FaultyRegistry, plan: Plan, volume: Path) -> None:
    (volume / "docker").write_text("no folder")
    (image,) = plan(faulty.add("a", SmallImage([b"a"]))).images
    assert (image.reason, image.message) == (Reason.INTERNAL, "The volume cannot be read: Not a directory.")


def test_the_command_prints_one_document(
    registry: RegistryProcess, images: dict[str, Image], tmp_path: Path,
) -> None:
    image, nowhere = images["base/tools:1.0"], tmp_path / "not-there"
    done = run(
        "--plan", "--output", nowhere, "--image", f"{registry.address}/{image.name}",
        "--platform", f"linux/{image.own.architecture}", env=environment(registry.authority.ca_file),
    )
    assert (done.returncode, done.stderr) == (0, "")
    document = json.loads(done.stdout)
    assert document["fits"] is True
    assert document["storedAs"] == "Decompressed"
    assert document["images"][0]["digest"] == image.digest
    assert document["total"]["missingCompressed"] == image.own.compressed_size
    assert document["total"]["unpacked"] == {"size": image.own.raw_size, "certainty": "Estimate"}
    assert not nowhere.exists()


@pytest.mark.parametrize(("form", "words"), [
    ("json", '"reason": "NotFound"'), ("text", "missing:1: NotFound: The registry "),
])
def test_the_command_fails_where_an_image_does(
    form: str, words: str, registry: RegistryProcess, volume: Path,
) -> None:
    missing = f"{registry.address}/missing:1"
    done = run(
        "--plan", "--output", volume, "--image", missing, "--log-format", form,
        env=environment(registry.authority.ca_file),
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert words in done.stdout
    assert list(volume.iterdir()) == []
