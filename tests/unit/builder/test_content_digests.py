# SPDX-License-Identifier: Apache-2.0
"""Images that lie about what is in them: digests, sizes, numbers of layers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.layout import Layout

from . import faulty as faults
from .conftest import Run
from .content import OCI_TAR, Bench, descriptor, entry, image_of, named, packed
from .faulty import OCI_INDEX, OCI_MANIFEST, FaultyRegistry, SmallImage, sha256

OTHER = sha256(b"something else")


@pytest.fixture
def bench(faulty: FaultyRegistry, run: Run, volume: Path, output: io.StringIO) -> Bench:
    return Bench(faulty, run, volume, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([b"first layer " * 300, b"second layer " * 300], compress=packed)


def test_another_manifest_than_the_digest_asks_for(bench: Bench, image: SmallImage) -> None:
    reference = bench.faulty.add("bad", image).removesuffix(":1")
    bench.faulty.documents[f"/v2/bad/manifests/{OTHER}"] = (OCI_MANIFEST, image.body)
    bench.refuses(f"{reference}@{OTHER}", Reason.DIGEST_MISMATCH, "another manifest", "bad")


def test_another_manifest_than_the_index_lists(bench: Bench, image: SmallImage) -> None:
    bench.faulty.add("bad", image)
    lying = {**entry(image), "digest": OTHER}
    bench.faulty.documents[f"/v2/bad/manifests/{OTHER}"] = (OCI_MANIFEST, image.body)
    reference = bench.put("bad", {"manifests": [lying]}, OCI_INDEX)
    bench.refuses(reference, Reason.DIGEST_MISMATCH, "another manifest", "bad")


def test_another_config_than_the_manifest_names(bench: Bench, image: SmallImage) -> None:
    reference = bench.faulty.add("bad", image)
    digest = image.manifest["config"]["digest"]
    forged = image.blobs[digest].replace(b"amd64", b"amd46")
    bench.faulty.documents[f"/v2/bad/blobs/{digest}"] = ("application/octet-stream", forged)
    bench.refuses(reference, Reason.DIGEST_MISMATCH, "another config", "bad")


def test_another_layer_than_the_manifest_names(bench: Bench, image: SmallImage, volume: Path) -> None:
    reference = bench.faulty.add("bad", image)
    digest = image.layer_digests[1]
    forged = bytearray(image.blobs[digest])
    forged[20] ^= 1
    bench.faulty.documents[f"/v2/bad/blobs/{digest}"] = ("application/octet-stream", bytes(forged))
    bench.refuses(reference, Reason.DIGEST_MISMATCH, "other bytes", "push the image again")
    assert Layout(volume).has(image.diff_ids[0])
    assert not Layout(volume).has(image.diff_ids[1])


@pytest.mark.parametrize("compress", [packed, zstandard.compress, bytes])
@pytest.mark.parametrize("diff_ids", [
    lambda one, two: [one, OTHER], lambda one, two: [two, one],
], ids=["another", "swapped"])
def test_layers_that_hold_something_else_than_the_config_says(
    diff_ids: Any, compress: Any, bench: Bench, volume: Path,
) -> None:
    image = SmallImage([b"first layer " * 300, b"second layer " * 300], compress=compress)
    image.config["rootfs"]["diff_ids"] = diff_ids(*image.diff_ids)
    image.refresh()
    bench.refuses(bench.faulty.add("bad", image), Reason.DIGEST_MISMATCH, "damaged as published", "build and push it")
    assert not Layout(volume).has(OTHER)


DIFF_IDS: dict[str, tuple[Callable[[str, str], Any], Reason, str]] = {
    "fewer": (lambda one, two: [one], Reason.MANIFEST_INVALID, "2 layers, its config 1"),
    "more": (lambda one, two: [one, two, one], Reason.MANIFEST_INVALID, "2 layers, its config 3"),
    "none": (lambda one, two: [], Reason.MANIFEST_INVALID, "2 layers, its config 0"),
    "null": (lambda one, two: None, Reason.MANIFEST_INVALID, "2 layers, its config 0"),
    "a path": (lambda one, two: [one, "sha256:../../../etc/passwd"], Reason.MANIFEST_INVALID, "not a sha256 digest"),
    "capitals": (lambda one, two: [one, two.upper()], Reason.MANIFEST_INVALID, "not a sha256 digest"),
    "a number": (lambda one, two: [one, 5], Reason.MANIFEST_INVALID, "string"),
    "an object": (lambda one, two: {one: two}, Reason.MANIFEST_INVALID, "tuple"),
    "sha512": (lambda one, two: [one, f"sha512:{'a' * 128}"], Reason.UNSUPPORTED, "sha512 digests"),
    "thousands": (lambda one, two: [one] * 5000, Reason.UNSUPPORTED, "5000 layers, more than 500"),
}


@pytest.mark.parametrize("reason", [Reason.MANIFEST_INVALID, Reason.UNSUPPORTED])
def test_a_config_that_disagrees_with_its_manifest(reason: Reason, bench: Bench) -> None:
    expected = {}
    for what, (diff_ids, its_reason, said) in DIFF_IDS.items():
        if its_reason is reason:
            image = SmallImage([b"first layer", b"second layer"], compress=packed)
            image.config["rootfs"]["diff_ids"] = diff_ids(*image.diff_ids)
            image.refresh()
            expected[bench.faulty.add(named(what), image)] = [said, "build it" if "500" in said else "push "]
    bench.refuses_all(expected, reason)


def _sized(part: str, size: Any) -> tuple[SmallImage, dict[str, Any]]:
    """An image and its index, where one of the three sizes is another one."""
    image = SmallImage([b"a layer " * 300], compress=packed)
    changed = {"config": image.manifest["config"], "layer": image.manifest["layers"][0]}.get(part)
    if changed is not None:
        changed["size"] = size(changed["size"])
    listed = entry(image)
    if part == "entry":
        listed["size"] = size(listed["size"])
    return image, {"manifests": [listed]}


NO_SIZES: dict[str, tuple[Callable[[int], Any], str]] = {
    "negative": (lambda size: -1, "greater than"),
    "very negative": (lambda size: -(10**400), "greater than"),
    "more than there is": (lambda size: 2**50 + 1, "less than"),
    "4000 digits": (lambda size: 10**4000, "less than"),
    "fraction": (lambda size: size + 0.5, "integer"),
    "float": (lambda size: float(size), "integer"),
    "exponent": (lambda size: 1e300, "integer"),
    "text": (lambda size: str(size), "integer"),
    "true": (lambda size: True, "integer"),
    "null": (lambda size: None, "integer"),
    "list": (lambda size: [size], "integer"),
}


@pytest.mark.parametrize("part", ["config", "layer", "entry"])
def test_a_size_that_is_none(part: str, bench: Bench) -> None:
    expected = {}
    for what, (size, said) in NO_SIZES.items():
        image, index = _sized(part, size)
        bench.faulty.add(named(what), image)
        expected[bench.put(named(what), index, OCI_INDEX)] = ["size", said, "push the image again"]
    bench.refuses_all(expected, Reason.MANIFEST_INVALID)


@pytest.mark.parametrize("by", [-1, 1, 1000])
@pytest.mark.parametrize(("part", "reason"), [
    ("config", Reason.MANIFEST_INVALID), ("entry", Reason.MANIFEST_INVALID), ("layer", Reason.DIGEST_MISMATCH),
])
def test_a_size_that_is_not_the_contents(part: str, reason: Reason, by: int, bench: Bench) -> None:
    image, index = _sized(part, lambda size: size + by)
    bench.faulty.add("bad", image)
    bench.refuses(bench.put("bad", index, OCI_INDEX), reason, "again")


def test_a_layer_said_to_be_empty(bench: Bench) -> None:
    image, index = _sized("layer", lambda size: 0)
    bench.faulty.add("bad", image)
    bench.refuses(bench.put("bad", index, OCI_INDEX), Reason.DIGEST_MISMATCH, "other bytes")


def test_one_digest_with_two_sizes(bench: Bench, image: SmallImage) -> None:
    image.manifest["layers"].append({**image.manifest["layers"][0], "size": 1})
    bench.refuses(bench.faulty.add("bad", image), Reason.MANIFEST_INVALID, "two sizes", "build and push it again")


def test_one_entry_twice_with_two_sizes(bench: Bench, image: SmallImage) -> None:
    bench.faulty.add("bad", image)
    reference = bench.put("bad", {"manifests": [entry(image), {**entry(image), "size": 1}]}, OCI_INDEX)
    bench.refuses(reference, Reason.MANIFEST_INVALID, "two sizes", "build and push it again")


def test_a_layer_that_somebody_else_delivers(bench: Bench, image: SmallImage) -> None:
    """Where junk stands in for a layer that is there all the same, the volume holds what the config promises."""
    junk = SmallImage([b"shared " * 500], compress=lambda _: packed(b"junk"))
    image.config["rootfs"]["diff_ids"] = [image.diff_ids[1]] * 2
    image.refresh()
    references = [bench.faulty.add("junk", junk), bench.faulty.add("twice", image)]
    bench.takes(*references)
    assert [[layer["digest"] for layer in bench.stored(reference)["layers"]] for reference in references] == [
        junk.diff_ids, image.diff_ids,
    ]


def test_a_layer_that_is_a_config_too(bench: Bench, image: SmallImage) -> None:
    """One blob in two roles is on the volume once."""
    text = json.dumps(image.config).encode()
    odd, plain = bench.faulty.add("odd", image_of(text, text, OCI_TAR)), bench.faulty.add("plain", image)
    bench.takes(odd, plain)
    assert bench.stored(odd)["layers"] == [descriptor(OCI_TAR, text)]
    assert bench.stored(plain)["config"]["digest"] == sha256(text)


def test_trouble_stays_with_the_image_that_has_it(bench: Bench, image: SmallImage) -> None:
    digest = image.layer_digests[0]
    bench.faulty.fail(f"/v2/bad/blobs/{digest}", *[faults.sends(b"x" * len(image.blobs[digest]))] * 2)
    bad, other = bench.faulty.add("bad", image), bench.faulty.add("other", SmallImage([b"third"], compress=packed))
    assert [i.reason for i in bench.build(bad, other)] == [Reason.DIGEST_MISMATCH, None]
