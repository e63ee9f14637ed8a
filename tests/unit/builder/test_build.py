# SPDX-License-Identifier: Apache-2.0
"""The whole flow against a real registry, as a process and in this one."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import parse
from imagecache_operator.api.report import ImageState, Progress
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import Layout

from tests.support.images import Image
from tests.support.registry_process import RegistryProcess

from .conftest import Run
from .faulty import OCI_INDEX, FaultyRegistry, SmallImage, sha256

ROOT = Path(__file__).resolve().parents[3]


def _references(registry: RegistryProcess, images: dict[str, Image]) -> list[str]:
    return [f"{registry.address}/{name}" for name in images]


def _manifest(volume: Path, reference: str) -> dict[str, Any]:
    where = parse(reference)
    tags = volume / "docker/registry/v2/repositories" / where.stored_repository / "_manifests/tags"
    digest = (tags / where.stored_tag / "current/link").read_text()
    document = json.loads(Layout(volume).blob_path(digest).read_bytes())
    assert isinstance(document, dict)
    return document


def test_every_kind_of_image_lies_on_the_volume(
    registry: RegistryProcess, images: dict[str, Image], run: Run, volume: Path, output: io.StringIO,
) -> None:
    platform = f"linux/{next(iter(images.values())).own.architecture}"
    references = _references(registry, images)
    outcome = run(*references, platforms=(platform,))
    assert outcome.succeeded
    assert check(volume) == []
    layout = Layout(volume)
    assert outcome.used == layout.used()
    for reference, image, result in zip(references, images.values(), outcome.images, strict=True):
        assert result.digest == image.digest
        assert image.own.raw_size < result.size < image.own.raw_size + 50_000
        assert layout.read(image.own.config.digest, 10**6) == image.own.config.path.read_bytes()
        document = _manifest(volume, reference)
        assert document["annotations"] == {"imagecache.dev/source-digest": image.digest}
        if document["mediaType"] == OCI_INDEX:
            entry = document["manifests"][0]
            document = json.loads(layout.blob_path(entry["digest"]).read_bytes())
        assert [layer["digest"] for layer in document["layers"]] == list(image.own.diff_ids)
    last = Progress.model_validate_json(output.getvalue().splitlines()[-1])
    assert {i.state for i in last.images} == {ImageState.PULLED}
    unique = {layer.diff_id: layer.size for image in images.values() for layer in image.own.layers}
    assert last.bytes_done == last.bytes_total == sum(unique.values())


def test_several_platforms_make_an_index(
    registry: RegistryProcess, images: dict[str, Image], run: Run, volume: Path,
) -> None:
    reference = f"{registry.address}/team/multi:1.0"
    assert run(reference, platforms=("linux/amd64", "linux/arm64", "linux/s390x")).succeeded
    assert check(volume) == []
    document = _manifest(volume, reference)
    entries = document["manifests"]
    assert isinstance(entries, list)
    assert {entry["platform"]["architecture"] for entry in entries} == {"amd64", "arm64"}


def test_a_missing_platform_names_those_that_are_there(registry: RegistryProcess, run: Run) -> None:
    references = [f"{registry.address}/{name}" for name in ("team/multi:1.0", "base/tools:1.0")]
    outcome = run(*references, platforms=("linux/s390x",))
    assert [i.reason for i in outcome.images] == [Reason.PLATFORM_MISSING] * 2
    assert "linux/amd64, linux/arm64" in outcome.images[0].message


def test_a_digest_is_stored_under_its_own_tag(
    registry: RegistryProcess, images: dict[str, Image], run: Run, volume: Path,
) -> None:
    image = images["team/multi:1.0"]
    reference = f"{registry.address}/{image.name}@{image.digest}"
    platform = f"linux/{image.own.architecture}"
    single = f"{registry.address}/{image.repository}@{image.own.manifest.digest}"
    outcome = run(reference, single, platforms=(platform,))
    assert outcome.succeeded
    assert [i.digest for i in outcome.images] == [image.digest, image.own.manifest.digest]
    assert check(volume) == []
    assert parse(reference).stored_tag == image.digest.replace(":", "-")
    assert _manifest(volume, reference)["mediaType"] == OCI_INDEX


def test_an_index_without_platforms_is_looked_into(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    image, foreign = SmallImage([b"x" * 100]), SmallImage([b"y" * 100], architecture="arm64")
    faulty.add("a", image)
    faulty.add("a", foreign, "other")
    entries = [
        {"mediaType": i.manifest["mediaType"], "digest": sha256(i.body), "size": len(i.body)} for i in (foreign, image)
    ]
    faulty.documents["/v2/a/manifests/1"] = (OCI_INDEX, json.dumps({"manifests": entries}).encode())
    assert run(f"{faulty.address}/a:1").succeeded
    assert Layout(volume).has(image.diff_ids[0])
    assert not Layout(volume).has(foreign.diff_ids[0])


def test_an_index_of_indexes_is_refused_by_name(faulty: FaultyRegistry, run: Run) -> None:
    entry = {"mediaType": OCI_INDEX, "digest": sha256(b""), "size": 1}
    faulty.documents["/v2/a/manifests/1"] = (OCI_INDEX, json.dumps({"manifests": [entry]}).encode())
    (result,) = run(f"{faulty.address}/a:1").images
    assert result.reason is Reason.UNSUPPORTED
    assert "index of indexes" in result.message


def test_a_document_without_end_is_not_read(faulty: FaultyRegistry, run: Run) -> None:
    faulty.documents["/v2/a/manifests/1"] = (OCI_INDEX, b" " * 5_000_000)
    assert run(f"{faulty.address}/a:1").images[0].reason is Reason.MANIFEST_INVALID
