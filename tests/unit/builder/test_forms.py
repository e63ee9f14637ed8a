# SPDX-License-Identifier: Apache-2.0
"""The three forms of `storedAs`: what lies on the volume, that a plain registry serves it, and what a second attempt
need not do again."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from imagecache_operator import names
from imagecache_operator.api.job import StoredAs
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import parse
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import Layout

from tests.support.images import Image
from tests.support.registry_process import RegistryProcess

from . import faulty as faults
from .conftest import Run
from .faulty import OCI_INDEX, FaultyRegistry, SmallImage, sha256

TREE = "docker/registry/v2"
NOISE = random.Random(3).randbytes(400_000)
TEXT = b"all work and no play " * 30_000
FORMS = list(StoredAs)


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=9).compress(data)


def manifest(volume: Path, reference: str) -> Any:
    """What a reader of the volume finds under the reference's tag."""
    stored = parse(reference)
    tags = volume / TREE / "repositories" / stored.stored_repository / "_manifests/tags"
    digest = (tags / stored.stored_tag / "current/link").read_text()
    return json.loads(Layout(volume).blob_path(digest).read_bytes())


def layers(volume: Path, reference: str) -> list[tuple[str, str]]:
    return [(found["mediaType"].rpartition(".")[2], found["digest"]) for found in manifest(volume, reference)["layers"]]


@pytest.mark.parametrize("form", FORMS)
def test_every_kind_of_image_is_stored_whole_and_a_second_run_fetches_no_layer(
    form: StoredAs, registry: RegistryProcess, images: dict[str, Image], run: Run, volume: Path,
) -> None:
    references = [f"{registry.address}/{name}" for name in images]
    first = run(*references, stored_as=form)
    assert first.succeeded, first
    assert check(volume) == []
    files = {path: path.stat().st_mtime_ns for path in volume.rglob("data")}
    again = run(*references, stored_as=form)
    assert [i.digest for i in again.images] == [image.digest for image in images.values()]
    assert {path: path.stat().st_mtime_ns for path in volume.rglob("data")} == files


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_what_lies_on_the_volume(
    compress: Callable[[bytes], bytes], faulty: FaultyRegistry, run: Run, volume: Path,
) -> None:
    image = SmallImage([NOISE, TEXT], compress=compress)
    reference = faulty.add("team/app", image)
    stored: dict[StoredAs, list[tuple[str, str]]] = {}
    for form in FORMS:
        assert run(reference, stored_as=form).succeeded
        assert check(volume) == []
        stored[form] = layers(volume, reference)
        told = manifest(volume, reference)
        source = told.get("annotations", {}).get(f"{names.GROUP}/source-digest")
        assert (sha256(image.body) == source) is (form is not StoredAs.ORIGINAL)
        assert told["config"]["digest"] == image.manifest["config"]["digest"]
    assert stored[StoredAs.ORIGINAL] == [("tar+gzip", digest) for digest in image.layer_digests]
    assert stored[StoredAs.DECOMPRESSED] == [("tar", diff_id) for diff_id in image.diff_ids]
    assert {kind for kind, _ in stored[StoredAs.ZSTD]} == {"tar+zstd"}
    kept = [digest for _, digest in stored[StoredAs.ZSTD]] == image.layer_digests
    assert kept is (compress is zstd), "what comes as zstd is kept as it is"
    for (_, digest), layer in zip(stored[StoredAs.ZSTD], image.layers, strict=True):
        data = Layout(volume).blob_path(digest).read_bytes()
        assert zstandard.ZstdDecompressor().decompressobj().decompress(data) == layer


def test_an_original_keeps_every_digest_also_of_an_index(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    mine, other = SmallImage([NOISE]), SmallImage([TEXT], architecture="arm64")
    for image in (mine, other):
        faulty.add("team/app", image, sha256(image.body))
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [
        {"mediaType": faults.OCI_MANIFEST, "digest": sha256(i.body), "size": len(i.body),
         "platform": {"os": "linux", "architecture": i.architecture}} for i in (mine, other)
    ]}).encode()
    for key in ("1", sha256(index)):
        faulty.documents[f"/v2/team/app/manifests/{key}"] = (OCI_INDEX, index)
    outcome = run(f"{faulty.address}/team/app:1", stored_as=StoredAs.ORIGINAL)
    assert outcome.succeeded
    assert check(volume) == []
    layout = Layout(volume)
    assert layout.blob_path(sha256(index)).read_bytes() == index
    assert layout.blob_path(sha256(mine.body)).read_bytes() == mine.body
    assert not layout.has(sha256(other.body)), "a platform that nobody wants is not stored"


def test_one_tar_under_two_compressions_is_packed_once(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    as_gzip, as_zstd = SmallImage([NOISE]), SmallImage([NOISE], compress=zstd)
    references = [faulty.add("a", as_gzip), faulty.add("b", as_zstd)]
    assert run(*references, stored_as=StoredAs.ZSTD).succeeded
    assert layers(volume, references[0]) == layers(volume, references[1])
    fetched = [path for path in faulty.paths() if "/blobs/" in path and "config" not in path]
    assert len([p for p in fetched if any(d in p for d in (*as_gzip.layer_digests, *as_zstd.layer_digests))]) == 1


@pytest.mark.parametrize("form", [StoredAs.DECOMPRESSED, StoredAs.ZSTD])
@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_layer_that_is_not_what_the_config_promises_is_not_stored(
    form: StoredAs, compress: Callable[[bytes], bytes], faulty: FaultyRegistry, run: Run, volume: Path,
) -> None:
    image = SmallImage([NOISE], compress=compress)
    image.config["rootfs"]["diff_ids"] = [sha256(TEXT)]
    image.refresh()
    (result,) = run(faulty.add("team/app", image), stored_as=form).images
    assert result.reason is Reason.DIGEST_MISMATCH
    assert "config promises" in result.message
    assert check(volume) == []
    assert not [path for path in volume.rglob("data") if path.stat().st_size > 10_000]


@pytest.mark.parametrize("form", FORMS)
def test_other_bytes_than_the_digest_asks_for_are_not_stored(
    form: StoredAs, faulty: FaultyRegistry, run: Run, volume: Path,
) -> None:
    image = SmallImage([NOISE])
    wrong = faults.sends(gzip.compress(TEXT[: len(NOISE)])[: len(image.blobs[image.layer_digests[0]])])
    padded = faults.sends(image.blobs[image.layer_digests[0]][:-1] + b"x")
    faulty.fail(f"/v2/team/app/blobs/{image.layer_digests[0]}", padded, wrong, padded)
    (result,) = run(faulty.add("team/app", image), stored_as=form).images
    assert result.reason is Reason.DIGEST_MISMATCH
    assert check(volume) == []


def bytes_asked(faulty: FaultyRegistry, digest: str) -> list[str]:
    return [headers.get("range", "all") for path, headers in faulty.requests if path.endswith(digest)]


def test_a_second_attempt_goes_on_where_an_original_layer_broke(
    faulty: FaultyRegistry, run: Run, volume: Path,
) -> None:
    image = SmallImage([NOISE])
    digest = image.layer_digests[0]
    reference = faulty.add("team/app", image)
    faulty.fail(f"/v2/team/app/blobs/{digest}", faults.ends_after(100_000), *[faults.answers(503)] * 20)
    assert run(reference, stored_as=StoredAs.ORIGINAL).images[0].reason is Reason.REGISTRY_UNAVAILABLE
    assert check(volume) == [f"Half-written file resumable-{digest.removeprefix('sha256:')}."]
    faulty.script.clear()
    faulty.requests.clear()
    outcome: Outcome = run(reference, stored_as=StoredAs.ORIGINAL)
    assert outcome.succeeded
    assert check(volume) == []
    assert bytes_asked(faulty, digest) == ["bytes=100000-"]


def test_what_an_earlier_attempt_left_is_not_believed(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    """A power cut may leave anything under the name: then the layer is fetched once more, from its beginning."""
    image = SmallImage([NOISE])
    digest = image.layer_digests[0]
    left = volume / ".imagecache/tmp" / f"resumable-{digest.removeprefix('sha256:')}"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(50_000))
    assert run(faulty.add("team/app", image), stored_as=StoredAs.ORIGINAL).succeeded
    assert check(volume) == []
    assert bytes_asked(faulty, digest) == ["bytes=50000-", "all"]


def test_what_no_image_needs_any_more_is_swept(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    left = volume / ".imagecache/tmp" / f"resumable-{'a' * 64}"
    left.parent.mkdir(parents=True)
    left.write_bytes(bytes(1000))
    assert run(faulty.add("team/app", SmallImage([TEXT])), stored_as=StoredAs.ORIGINAL).succeeded
    assert not left.exists()


@pytest.mark.parametrize("form", FORMS)
def test_what_cannot_fit_is_refused_before_its_first_layer(
    form: StoredAs, faulty: FaultyRegistry, run: Run, volume: Path,
) -> None:
    image = SmallImage([NOISE])
    (result,) = run(faulty.add("team/app", image), stored_as=form, capacity=100_000).images
    assert result.reason is Reason.DOES_NOT_FIT
    assert bytes_asked(faulty, image.layer_digests[0]) == []
