# SPDX-License-Identifier: Apache-2.0
"""The canary's bytes: what nodes of all versions of the operator have seen, and what makes a trial mean something."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import Any

from imagecache_operator.api import canary
from imagecache_operator.api.canary import Part


def documents(part: Part) -> tuple[list[Any], list[Any]]:
    """Manifests without the index, and their configs."""
    blobs = {f"sha256:{hashlib.sha256(blob).hexdigest()}": blob for blob in part.blobs}
    manifests = [json.loads(manifest) for manifest in part.manifests[:-1]]
    return manifests, [json.loads(blobs[manifest["config"]["digest"]]) for manifest in manifests]


def test_its_digests_never_change() -> None:
    """Volumes of an earlier version would be asked for what they do not have."""
    assert canary.LAYERS.path == (
        "canary/layers@sha256:6d3ded0686619fbba34f7db4d3adacfc1a0297a2c3ac8111e2c0d71bf8712363"
    )
    assert canary.IMAGE.path == "canary/image@sha256:e2b4b4113acad0334b3fd69d492e5211d5be6f5d686fd35d76823d6ed866c4d3"


def test_both_parts_have_one_layer_in_two_forms_of_which_one_is_nowhere() -> None:
    (here, configs), (named, others) = documents(canary.LAYERS), documents(canary.IMAGE)
    tar, = {m["layers"][0]["digest"] for m in here}
    data = next(blob for blob in canary.LAYERS.blobs if f"sha256:{hashlib.sha256(blob).hexdigest()}" == tar)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert archive.getnames() == ["canary"]
    assert {m["layers"][0]["digest"] for m in named} == {canary.MISSING}
    assert not any(hashlib.sha256(blob).hexdigest() in canary.MISSING for blob in canary.IMAGE.blobs)
    diff_ids = {tuple(config["rootfs"]["diff_ids"]) for config in (*configs, *others)}
    assert diff_ids == {(tar,)}, "for a node they are the same layers"
    assert not {m["config"]["digest"] for m in here} & {m["config"]["digest"] for m in named}, "and two images"


def test_every_platform_finds_its_own() -> None:
    for part in (canary.LAYERS, canary.IMAGE):
        index = json.loads(part.manifests[-1])
        assert [entry["platform"] for entry in index["manifests"]] == list(canary.PLATFORMS)
        _, configs = documents(part)
        assert [
            {key: config[key] for key in ("architecture", "os", "variant") if key in config} for config in configs
        ] == list(canary.PLATFORMS)
