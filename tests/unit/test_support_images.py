# SPDX-License-Identifier: Apache-2.0
"""The test images are what they say they are: other tests trust their digests, sizes and ability to run.

Judged by others than the code that made them: Python's own gzip and tar readers, and a chroot in which the programs
run. What a registry and skopeo make of them is in test_support_push.py.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard

from tests.support.images import Image, machine_architecture, make_images
from tests.support.layers import Layer

MIB = 2**20
NAMES = ["base/tools:1.0", "team/app:2.1", "team/web:zstd", "team/multi:1.0", "data/only:5"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Image]:
    return make_images(tmp_path_factory.mktemp("blobs"))


def inflate(layer: Layer) -> bytes:
    data = layer.path.read_bytes()
    if layer.compression.startswith("gzip"):
        return gzip.decompress(data)
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read()


def every_layer(images: Mapping[str, Image]) -> dict[str, Layer]:
    return {layer.digest: layer for image in images.values() for content in image.platforms for layer in content.layers}


def test_the_set_is_complete(images: Mapping[str, Image]) -> None:
    assert list(images) == NAMES
    assert images["team/app:2.1"].repository == "team/app"
    assert images["team/app:2.1"].tag == "2.1"


def test_two_builds_are_equal(images: Mapping[str, Image], tmp_path: Path) -> None:
    again = make_images(tmp_path)
    assert {name: image.digest for name, image in again.items()} == {
        name: image.digest for name, image in images.items()
    }
    assert every_layer(again).keys() == every_layer(images).keys()


def test_blobs_are_used_again(images: Mapping[str, Image]) -> None:
    folder = images["data/only:5"].own.config.path.parent
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert make_images(folder) == images
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_sizes(images: Mapping[str, Image]) -> None:
    for image in images.values():
        for content in image.platforms:
            assert content.compressed_size < 30 * MIB
            assert content.compressed_size < content.raw_size
    layers = every_layer(images).values()
    assert 4 * MIB < sum(layer.size for layer in layers) < 60 * MIB


def test_digests_and_diff_ids_are_those_of_the_bytes(images: Mapping[str, Image]) -> None:
    for image in images.values():
        for manifest in image.manifests:
            assert manifest.digest == "sha256:" + hashlib.sha256(manifest.data).hexdigest()
            for blob in manifest.blobs:
                data = blob.path.read_bytes()
                assert (blob.digest, blob.size) == ("sha256:" + hashlib.sha256(data).hexdigest(), len(data))
        for content in image.platforms:
            assert json.loads(content.config.path.read_bytes())["rootfs"]["diff_ids"] == list(content.diff_ids)
    for layer in every_layer(images).values():
        raw = inflate(layer)
        assert (layer.diff_id, layer.raw_size) == ("sha256:" + hashlib.sha256(raw).hexdigest(), len(raw))


def test_tars_say_nothing_about_who_made_them_and_when(images: Mapping[str, Image]) -> None:
    for layer in every_layer(images).values():
        with tarfile.open(fileobj=io.BytesIO(inflate(layer))) as archive:
            members = archive.getmembers()
        assert [member.name for member in members] == sorted(member.name for member in members)
        assert {(m.uid, m.gid, m.uname, m.gname, m.mtime) for m in members} == {(0, 0, "", "", 0)}
        assert {m.mode for m in members} <= {0o755, 0o644}


def test_each_kind_of_image_is_there(images: Mapping[str, Image]) -> None:
    def types(name: str) -> list[str]:
        document = json.loads(images[name].own.manifest.data)
        return [descriptor["mediaType"].rpartition("/")[2] for descriptor in document["layers"]]

    oci_gzip, oci_zstd = "vnd.oci.image.layer.v1.tar+gzip", "vnd.oci.image.layer.v1.tar+zstd"
    assert types("base/tools:1.0") == [oci_gzip] * 2
    assert types("team/app:2.1") == ["vnd.docker.image.rootfs.diff.tar.gzip"] * 4
    assert types("team/web:zstd") == [oci_gzip, oci_zstd, oci_zstd]
    docker = images["team/app:2.1"].top
    assert docker.media_type == "application/vnd.docker.distribution.manifest.v2+json"
    assert json.loads(docker.data)["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"

    base = images["base/tools:1.0"].own.layer_digests
    assert images["team/app:2.1"].own.layer_digests[:2] == base
    assert all(image.own.layer_digests[0] == base[0] for image in images.values())


def test_some_layers_have_several_members_or_frames(images: Mapping[str, Image]) -> None:
    members = images["team/app:2.1"].own.layers[-1].path.read_bytes()
    frames = images["team/web:zstd"].own.layers[-1].path.read_bytes()
    assert members.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") > 1
    assert frames.count(zstandard.FRAME_HEADER) > 1


def test_the_index_has_two_platforms_that_differ_and_attestations(images: Mapping[str, Image]) -> None:
    multi = images["team/multi:1.0"]
    first, second = multi.platforms
    assert {first.architecture, second.architecture} == {"amd64", "arm64"}
    assert multi.own.architecture == machine_architecture()
    assert set(first.diff_ids).isdisjoint(second.diff_ids)
    entries = json.loads(multi.top.data)["manifests"]
    unknown = [entry for entry in entries if entry["platform"] == {"architecture": "unknown", "os": "unknown"}]
    assert len(entries) == 4
    assert [e["annotations"]["vnd.docker.reference.digest"] for e in unknown] == [
        first.manifest.digest,
        second.manifest.digest,
    ]
    assert {e["annotations"]["vnd.docker.reference.type"] for e in unknown} == {"attestation-manifest"}
