# SPDX-License-Identifier: Apache-2.0
"""The canary's bytes: what volumes of all versions of the operator have, and what makes a trial mean something."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import Any

import pytest
from imagecache_operator.api import canary
from imagecache_operator.api.canary import Part


def read(part: Part) -> tuple[Any, Any, dict[str, bytes]]:
    """Its manifest, its config, and its blobs by digest."""
    blobs = {f"sha256:{hashlib.sha256(blob).hexdigest()}": blob for blob in part.blobs}
    manifest = json.loads(part.manifest)
    return manifest, json.loads(blobs[manifest["config"]["digest"]]), blobs


def test_its_digests_never_change() -> None:
    """Volumes of an earlier version would be asked for what they do not have."""
    assert (canary.layers("linux/amd64").path, canary.image("linux/amd64").path) == (
        "canary/layers@sha256:c396c62a1d1c0c87050eead8750b864bcc5fbc90b83fbb9019bef68cb5de05e7",
        "canary/image@sha256:8fb1e55108ae26e5493c53244ec65f040d43b43d0d439f1ab03669a1742ce28d",
    )


@pytest.mark.parametrize(("platform", "words"), [
    ("linux/amd64", {"os": "linux", "architecture": "amd64"}),
    ("linux/arm/v7", {"os": "linux", "architecture": "arm", "variant": "v7"}),
])
def test_both_parts_have_one_layer_in_two_forms_of_which_one_is_nowhere(platform: str, words: dict[str, str]) -> None:
    (here, config, blobs), (named, other, others) = read(canary.layers(platform)), read(canary.image(platform))
    (tar,), (nowhere,) = ([layer["digest"] for layer in manifest["layers"]] for manifest in (here, named))
    with tarfile.open(fileobj=io.BytesIO(blobs[tar])) as archive:
        assert archive.getnames() == ["canary"]
    assert nowhere == canary.MISSING
    assert nowhere not in blobs | others
    assert config["rootfs"]["diff_ids"] == other["rootfs"]["diff_ids"] == [tar], "for a node they are the same layers"
    assert here["config"]["digest"] != named["config"]["digest"], "and two images"
    for found in (config, other):
        assert {key: found[key] for key in found if key not in ("config", "rootfs")} == words


def test_platforms_share_the_layer_and_nothing_else() -> None:
    one, two = canary.layers("linux/amd64"), canary.layers("linux/arm64")
    assert len(set(one.blobs) & set(two.blobs)) == 1
    assert one.path != two.path
