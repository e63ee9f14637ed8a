# SPDX-License-Identifier: Apache-2.0
"""Whatever a registry sends as manifest, index or config: it is understood, or refused in a sentence.

Each run takes the same documents; IMAGECACHE_FUZZ_EXAMPLES=20000 .venv/bin/pytest tests/unit/builder -k fuzz takes
that many new ones, of these and of what the other fuzz tests are about.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator.api import oci
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder import manifest
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.manifest import Index, Manifest, is_digest, parse, parse_config
from imagecache_operator.builder.platforms import Platform, choose

from .fuzz import ODD_TEXTS, many, mutated

D = "sha256:" + "a" * 64
CONFIG = {"mediaType": oci.OCI_CONFIG, "digest": D, "size": 10}
LAYER = {"mediaType": oci.OCI_TAR + "+gzip", "digest": "sha256:" + "b" * 64, "size": 20}
PLATFORM = {"os": "linux", "architecture": "arm64", "variant": "v8", "os.version": "1", "os.features": ["a", "b"]}
IMAGE = {
    "schemaVersion": 2, "mediaType": oci.OCI_MANIFEST, "config": CONFIG, "layers": [LAYER, LAYER],
    "annotations": {"org.opencontainers.image.created": "2026-01-01", "b": "c"}, "subject": None,
}
LIST = {
    "schemaVersion": 2, "mediaType": oci.OCI_INDEX, "annotations": {"a": "b"}, "manifests": [
        {"mediaType": oci.OCI_MANIFEST, "digest": D, "size": 5, "platform": PLATFORM, "annotations": {"a": "b"}},
        {"mediaType": manifest.DOCKER_MANIFEST, "digest": "sha256:" + "c" * 64, "size": 7},
    ],
}
TEXT = {
    "os": "linux", "architecture": "amd64", "variant": "v1", "created": "2026-01-01T00:00:00Z",
    "config": {"Env": ["A=b"], "Labels": {"a": "b", "A": "b"}}, "rootfs": {"type": "layers", "diff_ids": [D, D]},
    "history": [{"created_by": "x", "empty_layer": True}],
}

# What takes a field's place: other fields' content, and values that programs differ about.
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 2**31, 2**50, 2**50 + 1, 2**63, 10**400, 0.0, 1.5, -0.0, 1e300, "", "a", [], {},
    [[]], [None], {"": None}, D, D.upper(), D[:-1], D + "a", D + "\n", "sha512:" + "a" * 128, "sha256:../../x",
    *ODD_TEXTS, "linux", "unknown", "amd64", "x86_64", "v8", "8", *manifest.ACCEPTED, oci.OCI_CONFIG,
    oci.OCI_TAR, CONFIG, LAYER, PLATFORM, [LAYER], [LAYER] * 501, LIST["manifests"], TEXT["rootfs"],
    {"a": 1}, {"a": "b"},
]
NAMES = [
    "schemaVersion", "mediaType", "media_type", "MediaType", "config", "layers", "Layers", "layer\u017f", "manifests",
    "fsLayers", "digest", "size", "Size", "platform", "os", "OS", "architecture", "variant", "os.version",
    "annotations", "rootfs", "diff_ids", "diffIds", "urls", "data", *ODD_TEXTS,
]

TYPES = st.sampled_from(["", "application/json", "text/html; charset=\xff", *manifest.ACCEPTED])
KNOWN = parse(json.dumps(IMAGE).encode(), "", "x")


def checked(read: Callable[[], Any]) -> Any:
    """What was understood, or None where it was refused, once it is seen how."""
    try:
        return read()
    except ImageError as refusal:
        reason, message = refusal.reason, refusal.message
    assert reason in (Reason.MANIFEST_INVALID, Reason.UNSUPPORTED)
    assert message.isprintable()
    assert message.startswith("reg.example/app:1 ")
    assert message.endswith(".")
    assert len(message) <= 400
    return None


@many()
@given(mutated([IMAGE, LIST, TEXT], VALUES, NAMES), TYPES)
def test_documents(body: bytes, content_type: str) -> None:
    found = checked(lambda: parse(body, content_type, "reg.example/app:1"))
    if isinstance(found, Manifest):
        assert all(is_digest(part.digest) and 0 <= part.size <= 2**50 for part in (found.config, *found.layers))
        assert len(found.layers) <= manifest.MAX_LAYERS
        assert found.config.size <= manifest.MAX_SIZE
        json.dumps(found.annotations, ensure_ascii=False).encode()
    elif isinstance(found, Index):
        assert all(is_digest(entry.digest) for entry in found.manifests)
        offered = [(platform, entry) for entry in found.manifests if (platform := entry.named_platform)]
        for platform, entry in offered:
            assert choose([platform], offered, "x")
            assert str(platform).isprintable()
            json.dumps(entry.platform and entry.platform.model_dump(mode="json"), ensure_ascii=False).encode()


@many()
@given(mutated([TEXT], VALUES, NAMES))
def test_configs(body: bytes) -> None:
    assert isinstance(KNOWN, Manifest)
    found = checked(lambda: parse_config(body, KNOWN, "reg.example/app:1"))
    if found:
        assert len(found.diff_ids) == 2
        assert all(map(is_digest, found.diff_ids))
        assert found.platform.suitability(found.platform) == 0
        assert str(found.platform).isprintable()


@many()
@given(st.text(st.sampled_from("/v0123456789.-_ \n\0aLlinux\u0130\u212a"), max_size=40) | st.sampled_from(ODD_TEXTS))
def test_platforms(text: str) -> None:
    try:
        found = Platform.parse(text)
    except ImageError as refusal:
        reason, message = refusal.reason, refusal.message
        assert (reason, message.isprintable()) == (Reason.UNSUPPORTED, True)
    else:
        assert Platform.parse(str(found)) == found


@pytest.mark.parametrize("body", [json.dumps(document).encode() for document in (IMAGE, LIST)], ids=["image", "list"])
def test_what_all_of_it_begins_with_is_understood(body: bytes) -> None:
    assert parse(body, "", "x")
