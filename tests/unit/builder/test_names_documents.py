# SPDX-License-Identifier: Apache-2.0
"""Texts inside documents that would be a path, a second line, a terminal's command: they stay texts, or are refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from imagecache_operator.api.job import StoredAs
from imagecache_operator.api.reasons import Reason

from .conftest import Run
from .content import OCI_TAR, Bench, descriptor, entry, packed
from .faulty import OCI_INDEX, OCI_MANIFEST, FaultyRegistry, SmallImage, sha256

TEXTS = {
    "parent": "../../../../../../tmp/owned",
    "absolute": "/etc/passwd",
    "nul": "a\0b",
    "lines": 'a\n{"type": "log", "level": "error", "message": "owned"}\r\n',
    "escapes": "\x1b]0;owned\x07\x1b[2J\x1b[31mred\x9b0m\x7f",
    "bidi": "\u202egpj.exe\u2066\u2069\u200f",
    "separators": "\u2028\u2029\x85\v\f",
    "invisible": "\u200b\ufeff\u00ad\u2060",
    "json": '"}],"x":["',
    "astral": "\U0001f4a3" * 50,
    "templates": "${jndi:ldap://x/}{{7*7}}%s%n$(id)`id`",
    "markup": "<script>alert(1)</script>",
    "megabyte": "x" * 1_000_000,
}
SHORT = {name: text for name, text in TEXTS.items() if name != "megabyte"}


@pytest.fixture
def bench(faulty: FaultyRegistry, run: Run, volume: Path, output: io.StringIO) -> Bench:
    return Bench(faulty, run, volume, output)


@pytest.fixture(autouse=True)
def _nothing_outside(bench: Bench, tmp_path: Path) -> Any:
    """Whatever the test builds, no file appears beside the volume."""
    before = {path for path in tmp_path.rglob("*") if bench.volume not in path.parents}
    yield
    assert {path for path in tmp_path.rglob("*") if bench.volume not in path.parents} == before


def test_annotations_are_kept_and_mean_nothing(bench: Bench) -> None:
    """Of manifest and index; also where they claim to be ours."""
    references, annotations = {}, {}
    for name, text in TEXTS.items():
        said = {"note": text, "imagecache.dev/source-digest": text, **({text: "key"} if name in SHORT else {})}
        image = SmallImage([name.encode()], compress=packed)
        image.manifest["annotations"] = said
        bench.faulty.add(name, image, "one")
        index = {"manifests": [entry(image)], "annotations": said}
        references[bench.put(name, index, OCI_INDEX)] = sha256(json.dumps(index).encode())
        references[f"{bench.faulty.address}/{name}:one"] = sha256(image.body)
        annotations[name] = said
    bench.takes(*references)
    for reference, digest in references.items():
        said = annotations[reference.split("/")[1].split(":")[0]]
        assert bench.stored(reference)["annotations"] == {**said, "imagecache.dev/source-digest": digest}


@pytest.mark.parametrize("form", StoredAs)
def test_texts_that_nobody_asked_for_lead_nowhere(form: StoredAs, bench: Bench) -> None:
    """In fields of descriptors, of platforms, of the config, and in fields that there are not."""
    references = []
    for name, text in SHORT.items():
        image = SmallImage([name.encode()], compress=packed)
        image.config |= {"author": text, "created": text, "config": {"Labels": {text: text}}, text: text}
        image.refresh()
        more = {"annotations": {text: text}, "urls": [text], "data": text, "artifactType": text, text: text}
        image.manifest["layers"][0] |= more
        image.manifest["config"] |= more
        image.manifest |= {"subject": text, text: text}
        bench.faulty.add(name, image, "inner")
        platform = {"os": "linux", "architecture": "amd64", "os.version": text, "os.features": [text], text: text}
        listed = {**entry(image, platform=platform), **more}
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed], text: text}
        references.append(bench.put(name, index, OCI_INDEX))
    bench.takes(*references, stored_as=form)


@pytest.mark.parametrize("place", ["manifest", "config", "layer"])
def test_a_media_type_is_shown_on_one_line_and_shortened(place: str, bench: Bench) -> None:
    expected = {}
    for name, text in TEXTS.items():
        image = SmallImage([b"x"], compress=packed)
        part = {"config": image.manifest["config"], "layer": image.manifest["layers"][0]}.get(place)
        if part:
            part["mediaType"] = text
        document = image.manifest if part else {"mediaType": text}
        expected[bench.put(name, document, OCI_MANIFEST)] = ["of the type '", "take it off the list"]
    bench.refuses_all(expected, Reason.UNSUPPORTED)


@pytest.mark.parametrize("field", ["os", "architecture", "variant"])
@pytest.mark.parametrize("place", ["index", "config"])
def test_a_platform_is_shown_on_one_line_and_shortened(place: str, field: str, bench: Bench) -> None:
    expected = {}
    for name, text in TEXTS.items():
        image = SmallImage([b"x"], compress=packed)
        platform = {"os": "linux", "architecture": "amd64", field: text}
        if place == "config":
            image.config |= platform
            image.refresh()
        reference = bench.faulty.add(name, image)
        if place == "index":
            reference = bench.put(name, {"manifests": [entry(image, platform=platform)]}, OCI_INDEX)
        expected[reference] = ["no image for linux/amd64, only for", "take it off the list"]
    bench.refuses_all(expected, Reason.PLATFORM_MISSING)


@pytest.mark.parametrize("place", ["config", "layer", "entry", "diff_id"])
def test_a_digest_is_a_digest(place: str, bench: Bench) -> None:
    expected = {}
    texts = {**TEXTS, "prefix": f"sha256:{'a' * 64}/../../x", "line": f"sha256:{'a' * 64}\n", "short": "sha256:a",
             "wide": "sha256:" + "\uff11" * 64, "blank": "sha256:" + " " * 64, "dots": "sha256:" + "../" * 21 + "."}
    for name, text in texts.items():
        image = SmallImage([b"x"], compress=packed)
        listed = entry(image)
        if place == "diff_id":
            image.config["rootfs"]["diff_ids"] = [text]
            image.refresh()
            listed = entry(image)
        else:
            {"config": image.manifest["config"], "layer": image.manifest["layers"][0], "entry": listed}[place][
                "digest"] = text
        if place in ("config", "layer"):
            listed = entry(image)
        bench.faulty.add(name, image)
        expected[bench.put(name, {"manifests": [listed]}, OCI_INDEX)] = ["not a sha256 digest", "push the image again"]
    bench.refuses_all(expected, Reason.MANIFEST_INVALID)


def test_the_name_of_a_broken_field_is_shown_on_one_line(bench: Bench) -> None:
    expected = {}
    for name, text in TEXTS.items():
        body = {"mediaType": OCI_MANIFEST, "config": descriptor("x", b""), "layers": [], "annotations": {text: 5}}
        expected[bench.put(name, body)] = ["annotations.", "push the image again"]
        twice = b'{"a": 1, %b: 1, %b: 2}' % ((json.dumps(text).encode(),) * 2)
        expected[bench.put(f"{name}-twice", twice)] = ["says '", "' twice", "push the image again"]
    bench.refuses_all(expected, Reason.MANIFEST_INVALID)


def test_layers_of_an_odd_type_do_not_hide_behind_a_known_one(bench: Bench) -> None:
    """A type must be one of those known, not begin or end like one."""
    expected = {}
    kinds = [f"{OCI_TAR}\n", f" {OCI_TAR}", f"{OCI_TAR}+gzip\0", OCI_TAR.upper(), f"{OCI_TAR}+xz", f"{OCI_TAR}/../x"]
    for number, kind in enumerate(kinds):
        image = SmallImage([b"x"], compress=packed)
        image.manifest["layers"][0]["mediaType"] = kind
        expected[bench.put(f"odd/{number}", image.body, OCI_MANIFEST)] = ["layers of the type", "take it off the list"]
    bench.refuses_all(expected, Reason.UNSUPPORTED)
