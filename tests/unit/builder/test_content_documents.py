# SPDX-License-Identifier: Apache-2.0
"""Manifests, indexes and configs that are odd, hostile, of another time, or of no image at all."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.layout import Layout
from imagecache_operator.builder.manifest import DOCKER_LIST, DOCKER_MANIFEST

from .conftest import Run
from .content import OCI_CONFIG, OCI_TAR, Bench, descriptor, entry, named, packed
from .faulty import OCI_INDEX, OCI_MANIFEST, FaultyRegistry, SmallImage, sha256

FOUR_MIB = 4 * 1024 * 1024
Change = Callable[[bytes], bytes]
Document = Callable[[SmallImage], dict[str, Any]]
AGAIN, ANOTHER = "push the image again", "take it off the list"


@pytest.fixture
def bench(faulty: FaultyRegistry, run: Run, volume: Path, output: io.StringIO) -> Bench:
    return Bench(faulty, run, volume, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([b"a layer " * 300], compress=packed)


def changed(image: SmallImage, **changes: Any) -> dict[str, Any]:
    return {**image.manifest, **changes}


def layer(media_type: str) -> Document:
    return lambda image: changed(image, layers=[{**image.manifest["layers"][0], "mediaType": media_type}])


def artifact(config_type: str, layer_type: str) -> Document:
    return lambda image: {**layer(layer_type)(image), "config": descriptor(config_type, b"{}")}


NO_IMAGE: dict[str, tuple[Document, list[str]]] = {
    "schema 1": (
        lambda image: {"schemaVersion": 1, "name": "a", "fsLayers": [{"blobSum": sha256(b"")}]}, ["schema 1", AGAIN],
    ),
    "schema 1 with a type": (
        lambda image: {"schemaVersion": 1, "mediaType": OCI_INDEX, "manifests": []}, ["schema 1", AGAIN],
    ),
    "foreign": (layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"), ["foreign layers", ANOTHER]),
    "nondistributable": (
        layer("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"), ["foreign layers", ANOTHER],
    ),
    "encrypted": (layer(f"{OCI_TAR}+gzip+encrypted"), ["encrypted layers", ANOTHER]),
    "encrypted zstd": (layer(f"{OCI_TAR}+zstd+encrypted"), ["encrypted layers", ANOTHER]),
    "cosign": (layer("application/vnd.dev.cosign.simplesigning.v1+json"), ["simplesigning", ANOTHER]),
    "wasm": (layer("application/vnd.wasm.content.layer.v1+wasm"), ["wasm", ANOTHER]),
    "attestation": (layer("application/vnd.in-toto+json"), ["in-toto", ANOTHER]),
    "no type": (layer(""), ["type ''", ANOTHER]),
    "helm": (
        artifact("application/vnd.cncf.helm.config.v1+json", "application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
        ["helm", ANOTHER],
    ),
    "wasm with a config": (artifact("application/vnd.wasm.config.v0+json", "application/wasm"), ["wasm", ANOTHER]),
    "an sbom": (artifact("application/vnd.oci.empty.v1+json", "application/spdx+json"), ["empty", ANOTHER]),
    "plugin": (artifact("application/vnd.docker.plugin.v1+json", f"{OCI_TAR}+gzip"), ["plugin", ANOTHER]),
    "oci artifact": (
        lambda image: {"schemaVersion": 2, "mediaType": "application/vnd.oci.artifact.manifest.v1+json", "blobs": []},
        ["artifact", ANOTHER],
    ),
    "nothing": (lambda image: {}, ["application/json", ANOTHER]),
}


def test_what_is_no_image_is_refused_by_name(bench: Bench, image: SmallImage) -> None:
    bench.refuses_all({
        bench.put(named(what), document(image)): words for what, (document, words) in NO_IMAGE.items()
    }, Reason.UNSUPPORTED)


NO_MANIFEST: dict[str, tuple[Change, str]] = {
    "nothing": (lambda body: b"", "no JSON object"),
    "a page": (lambda body: b"<html>", "no JSON object"),
    "a list": (lambda body: b"[]", "no JSON object"),
    "cut": (lambda body: body[:-1], "no JSON object"),
    "byte order mark": (lambda body: b"\xef\xbb\xbf" + body, "no JSON object"),
    "utf-16": (lambda body: body.decode().encode("utf-16"), "no JSON object"),
    "utf-32": (lambda body: body.decode().encode("utf-32-le"), "no JSON object"),
    "latin-1": (lambda body: body.replace(b"layers", b"l\xe4yers"), "no JSON object"),
    "NaN": (lambda body: body.replace(b'"schemaVersion": 2', b'"schemaVersion": NaN'), "no JSON object"),
    "a long number": (lambda body: body.replace(b"2", b"9" * 5_000, 1), "no JSON object"),
    "deep": (lambda body: b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "no JSON object"),
    "deep in a field": (lambda body: b'{"mediaType": ' + b"[" * 900 + b"]" * 900 + b"}", "mediaType"),
    "deep objects": (lambda body: b'{"a":' * 100_000 + body + b"}" * 100_000, "no JSON object"),
    "key twice": (lambda body: body.replace(b'"layers"', b'"layers": [], "layers"'), "'layers' twice"),
    "inner key twice": (lambda body: body.replace(b'"size"', b'"size": 1, "size"', 1), "'size' twice"),
    "other capitals": (
        lambda body: body.replace(b'"layers"', b'"Layers": [], "layers"'), "'layers' is spelled 'Layers'",
    ),
    "long s": (lambda body: body.replace(b'"layers"', b'"layer\xc5\xbf": [], "layers"'), "'layers' is spelled"),
    "inner capitals": (lambda body: body.replace(b'"size"', b'"SIZE": 1, "size"', 1), "'size' is spelled 'SIZE'"),
    "capitals of the type": (
        lambda body: body.replace(b'"mediaType"', b'"MediaType": "x", "mediaType"', 1), "'mediaType' is spelled",
    ),
    "index too": (lambda body: body.replace(b'"layers"', b'"manifests": [], "layers"'), "claims to be an index too"),
    "half a character": (
        lambda body: body.replace(b'"layers"', b'"annotations": {"a": "\\ud800"}, "layers"'), "not Unicode",
    ),
    "number as annotation": (
        lambda body: body.replace(b'"layers"', b'"annotations": {"a": 1}, "layers"'), "annotations.a",
    ),
    "list of annotations": (lambda body: body.replace(b'"layers"', b'"annotations": ["a"], "layers"'), "annotations"),
    "no layers": (lambda body: body.replace(b'"layers"', b'"rows"'), "layers"),
}


def test_what_is_no_manifest_is_invalid(bench: Bench, image: SmallImage) -> None:
    bench.refuses_all({
        bench.put(named(what), change(image.body), OCI_MANIFEST): [said, AGAIN]
        for what, (change, said) in NO_MANIFEST.items()
    }, Reason.MANIFEST_INVALID)
    huge = bench.put("huge", image.body + b" " * FOUR_MIB, OCI_MANIFEST)
    bench.refuses(huge, Reason.MANIFEST_INVALID, "more than 4 MiB")


NO_CONFIG: dict[str, tuple[Change, str]] = {
    "byte order mark": (lambda text: b"\xef\xbb\xbf" + text, "no JSON object"),
    "os twice": (lambda text: text.replace(b'"os"', b'"os": "windows", "os"'), "'os' twice"),
    "list twice": (lambda text: text.replace(b'"diff_ids"', b'"diff_ids": [], "diff_ids"'), "'diff_ids' twice"),
    "other capitals": (
        lambda text: text.replace(b'"rootfs"', b'"RootFS": {}, "rootfs"'), "'rootfs' is spelled 'RootFS'",
    ),
    "inner capitals": (
        lambda text: text.replace(b'"diff_ids"', b'"Diff_IDs": [], "diff_ids"'), "'diff_ids' is spelled",
    ),
    "no architecture": (lambda text: text.replace(b'"architecture"', b'"cpu"'), "architecture"),
    "null": (lambda text: text.replace(b'"amd64"', b"null"), "architecture"),
    "half a character": (lambda text: text.replace(b'"amd64"', b'"\\udfff"'), "not Unicode"),
    "Infinity": (lambda text: text.replace(b'"layers"', b"Infinity"), "no JSON object"),
    "no object": (lambda text: b"null", "no JSON object"),
}


def test_what_is_no_config_is_invalid(bench: Bench, image: SmallImage) -> None:
    expected = {}
    for what, (change, said) in NO_CONFIG.items():
        text = change(json.dumps(image.config).encode())
        bench.put_blob(named(what), text)
        expected[bench.put(named(what), changed(image, config=descriptor(OCI_CONFIG, text)))] = [said, AGAIN]
    bench.refuses_all(expected, Reason.MANIFEST_INVALID)


def test_a_huge_config(bench: Bench, image: SmallImage) -> None:
    """Whether it says so, or only turns out to be."""
    text = json.dumps({**image.config, "history": "x" * FOUR_MIB}).encode()
    bench.put_blob("honest", text)
    bench.put_blob("liar", text)
    image.manifest["config"] = descriptor(OCI_CONFIG, text)
    bench.refuses(bench.put("honest", image.body), Reason.UNSUPPORTED, "config of more than 4 MiB", "fewer labels")
    image.manifest["config"]["size"] = 500
    bench.refuses(bench.put("liar", image.body), Reason.MANIFEST_INVALID, "more than 4 MiB")


def test_a_config_of_just_under_4_mib(bench: Bench, image: SmallImage) -> None:
    image.config["history"] = "x" * (FOUR_MIB - 500)
    image.refresh()
    bench.takes(bench.faulty.add("large", image))


@pytest.mark.parametrize(("count", "reason"), [(500, None), (501, Reason.UNSUPPORTED), (20_000, Reason.UNSUPPORTED)])
def test_as_many_layers_as_a_kernel_can_stack(count: int, reason: Reason | None, bench: Bench) -> None:
    image = SmallImage([b"one and the same"] * count, compress=packed)
    reference = bench.faulty.add("many", image)
    if reason:
        bench.refuses(reference, reason, f"{count} layers", "500")
    else:
        bench.takes(reference)


def test_null_is_absent_as_it_is_for_those_who_write_it(bench: Bench, image: SmallImage) -> None:
    image.config["variant"] = None
    image.refresh()
    body = json.dumps(changed(image, annotations=None, artifactType=None, manifests=None, subject=None)).encode()
    bench.faulty.add("odd", image)
    bench.put("odd", body, OCI_MANIFEST, tag="single")
    platform = {"os": "linux", "architecture": "amd64", "variant": None, "os.version": None, "os.features": None}
    listed = descriptor(OCI_MANIFEST, body, platform=platform, annotations=None)
    bench.put("odd", {"manifests": [listed], "annotations": None, "layers": None}, OCI_INDEX, tag="listed")
    bench.takes(*(f"{bench.faulty.address}/odd:{tag}" for tag in ("single", "listed")))


def test_dockers_words_and_no_words(bench: Bench, image: SmallImage) -> None:
    """Docker's types; none in the document; none from the registry either."""
    docker = changed(image, mediaType=DOCKER_MANIFEST, config={
        **image.manifest["config"], "mediaType": "application/vnd.docker.container.image.v1+json",
    }, layers=[{**image.manifest["layers"][0], "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip"}])
    silent = {key: value for key, value in image.manifest.items() if key != "mediaType"}
    listed = descriptor(DOCKER_MANIFEST, json.dumps(docker).encode(), platform={"os": "linux", "architecture": "amd64"})
    for name in ("docker", "silent", "mute"):
        bench.faulty.add(name, image)
    bench.put("docker", docker, DOCKER_MANIFEST)
    bench.takes(
        bench.put("docker", {"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [listed]}, DOCKER_LIST),
        bench.put("silent", silent, f"{OCI_MANIFEST}; charset=utf-8"), bench.put("mute", silent, "text/plain"),
    )


def index_of(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries), **more}


def test_an_index_of_indexes(bench: Bench, image: SmallImage) -> None:
    bench.faulty.add("bad", image)
    inner = bench.put("bad", index_of(entry(image)), OCI_INDEX, tag="inner")
    listed = descriptor(OCI_INDEX, json.dumps(index_of(entry(image))).encode())
    outer = bench.put("bad", index_of(listed), OCI_INDEX)
    bench.refuses(outer, Reason.UNSUPPORTED, "index of indexes", "list one of those")
    bench.takes(inner)
    beside = bench.put("bad", index_of(listed, entry(image)), OCI_INDEX, tag="beside")
    bench.takes(beside)


def test_an_index_in_disguise(bench: Bench, image: SmallImage) -> None:
    inner = json.dumps(index_of(entry(image))).encode()
    bench.faulty.add("bad", image)
    bench.put("bad", inner, OCI_INDEX)
    listed = descriptor(OCI_MANIFEST, inner, platform={"os": "linux", "architecture": "amd64"})
    reference = bench.put("bad", index_of(listed), OCI_INDEX, tag="2")
    bench.refuses(reference, Reason.MANIFEST_INVALID, "an index where a manifest should be", AGAIN)


@pytest.mark.parametrize("entries", [
    [{"os": "linux", "architecture": "arm64"}, {"os": "windows", "architecture": "amd64", "os.version": "10.0"}],
    [{"os": "linux", "architecture": "amd64", "variant": "v3"}], [{"os": "unknown", "architecture": "unknown"}], [],
], ids=["others", "newer", "attestation", "empty"])
def test_an_index_without_our_platform(entries: list[dict[str, str]], bench: Bench, image: SmallImage) -> None:
    bench.faulty.add("bad", image)
    reference = bench.put("bad", index_of(*(entry(image, platform=there) for there in entries)), OCI_INDEX)
    bench.refuses(reference, Reason.PLATFORM_MISSING, "linux/amd64", "take it off the list")


def test_of_two_entries_for_a_platform_the_first_counts(bench: Bench, image: SmallImage, volume: Path) -> None:
    second = SmallImage([b"another layer"], compress=packed)
    bench.faulty.add("app", image)
    bench.faulty.add("app", second, "2")
    bench.takes(bench.put("app", index_of(entry(image), entry(second)), OCI_INDEX))
    assert Layout(volume).has(image.diff_ids[0])
    assert not Layout(volume).has(second.diff_ids[0])


def test_what_belongs_to_an_image_is_left_out(bench: Bench, image: SmallImage) -> None:
    """Attestations, an SBOM and a signature beside it, by their annotation, their platform, or neither and lost."""
    of_it = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": sha256(image.body)}
    lost = SmallImage([b"lost"])
    reference = bench.put("app", index_of(
        entry(lost, platform={"os": "unknown", "architecture": "unknown"}), entry(lost, annotations=of_it),
        entry(lost, platform=None), entry(image),
    ), OCI_INDEX)
    bench.faulty.add("app", image, "other")
    bench.takes(reference)
    stored = bench.stored(reference)
    assert [found["platform"] for found in stored["manifests"]] == [{"os": "linux", "architecture": "amd64"}]


def test_an_entry_without_platform_that_is_lost_is_told_where_it_may_matter(bench: Bench, image: SmallImage) -> None:
    bench.faulty.add("bad", image)
    reference = bench.put("bad", index_of(entry(SmallImage([b"lost"]), platform=None), entry(image)), OCI_INDEX)
    bench.refuses(
        reference, Reason.NOT_FOUND, "lost a part of bad", AGAIN, platforms=("linux/amd64", "linux/arm64"),
    )
