# SPDX-License-Identifier: Apache-2.0
"""The canary: a tiny image that lies on every cache's volume, so that a node can try how Pods start from that cache.

It comes in two parts, which differ as a carrier and the image that it carries do. Both are of one layer, a file of a
few words. `LAYERS` has it. `IMAGE` names the same layer in a compressed form that is nowhere: whoever takes `IMAGE` and
nothing else is told that a blob is missing; a node that has taken `LAYERS` before needs none. `ABSENT` is an image that
no cache has.

The builder writes it (`builder/build.py`); `planning/children/canary.py` makes the Pod that tries it. Its bytes, and so
its digests, are the same everywhere. Any platform that Kubernetes runs on is in it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from typing import Any

from imagecache_operator import names

PLATFORMS: tuple[dict[str, str], ...] = (
    {"architecture": "amd64", "os": "linux"},
    {"architecture": "arm", "os": "linux", "variant": "v7"},
    {"architecture": "arm64", "os": "linux"},
    {"architecture": "ppc64le", "os": "linux"},
    {"architecture": "riscv64", "os": "linux"},
    {"architecture": "s390x", "os": "linux"},
)
TAG = "canary"

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_FILE = "canary"
_BLOCKS = 4  # the file's header, its content, and two of zeros, which end a tar
_WORDS = b"This node takes layers from an image cache.\n"


def _digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass(frozen=True)
class Part:
    """An image as a registry has it. `blobs` are layers and configs; `manifests` end with the index, which is what is
    asked for."""

    repository: str
    blobs: tuple[bytes, ...]
    manifests: tuple[bytes, ...]

    @property
    def digest(self) -> str:
        return _digest_of(self.manifests[-1])

    @property
    def path(self) -> str:
        """What follows the server's address in a reference."""
        return f"{self.repository}@{self.digest}"


def _tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(_FILE)
        entry.size, entry.mode = len(_WORDS), 0o444
        tar.addfile(entry, io.BytesIO(_WORDS))
    return data.getvalue()[:_BLOCKS * tarfile.BLOCKSIZE]  # the rest is padding


def _document(content: dict[str, Any]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _pointer(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": _digest_of(data), "size": len(data), **more}


def _part(name: str, layer: dict[str, Any], blobs: tuple[bytes, ...]) -> Part:
    configs = [
        _document({
            **platform, "config": {"Labels": {names.LABEL_CANARY: name}},
            "rootfs": {"type": "layers", "diff_ids": [_digest_of(_TAR)]},
        })
        for platform in PLATFORMS
    ]
    manifests = [
        _document({
            "schemaVersion": 2, "mediaType": _MANIFEST, "config": _pointer(_CONFIG, config), "layers": [layer],
        })
        for config in configs
    ]
    index = _document({
        "schemaVersion": 2, "mediaType": _INDEX, "manifests": [
            _pointer(_MANIFEST, manifest, platform=platform)
            for manifest, platform in zip(manifests, PLATFORMS, strict=True)
        ],
    })
    return Part(f"{_FILE}/{name}", (*blobs, *configs), (*manifests, index))


_TAR = _tar()
# Of no content that anybody has: it is the digest of these words, and they are stored nowhere.
_NOWHERE = b"the layer of the canary, compressed, which is nowhere"
MISSING = _digest_of(_NOWHERE)

LAYERS = _part("layers", _pointer(_LAYER, _TAR), (_TAR,))
IMAGE = _part("image", _pointer(f"{_LAYER}+gzip", _NOWHERE), ())
ABSENT = f"{_FILE}/absent@{MISSING}"
