# SPDX-License-Identifier: Apache-2.0
"""The canary: a tiny image that lies on every cache's volume, so that a node can try how Pods start from that cache.

It comes in two parts, which differ as a carrier and the image that it carries do. Both are of one layer, a file of a
few words. `layers` has it. `image` names the same layer in a compressed form that is nowhere: whoever takes `image` and
nothing else is told that a blob is missing; a node that has taken `layers` before needs none. `ABSENT` is an image that
no cache has.

The builder writes it for the platforms that it pulls images for (`builder/build.py`); `planning/children/canary.py`
makes the Pod that tries it. Its bytes follow from the platform alone, and so do the digests by which it is asked for.
"""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from imagecache_operator import names
from imagecache_operator.api.oci import OCI_CONFIG, OCI_MANIFEST, OCI_TAR, as_json, descriptor, digest_of

_FILE = "canary"
_BLOCKS = 4  # the file's header, its content, and two of zeros, which end a tar
_WORDS = b"This node takes layers from an image cache.\n"


@dataclass(frozen=True)
class Part:
    """An image of one platform as a registry has it. `blobs` are its config, and its layer where that is somewhere."""

    repository: str
    blobs: tuple[bytes, ...]
    manifest: bytes

    @property
    def path(self) -> str:
        """What follows the server's address in a reference."""
        return f"{self.repository}@{digest_of(self.manifest)}"


def _tar() -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(_FILE)
        entry.size, entry.mode = len(_WORDS), 0o444
        tar.addfile(entry, io.BytesIO(_WORDS))
    return data.getvalue()[:_BLOCKS * tarfile.BLOCKSIZE]  # the rest is padding


_TAR = _tar()
# Of no content that anybody has: it is the digest of these words, and they are stored nowhere.
_NOWHERE = b"the layer of the canary, compressed, which is nowhere"
MISSING = digest_of(_NOWHERE)

LAYERS, IMAGE = f"{_FILE}/layers", f"{_FILE}/image"  # repositories
ABSENT = f"{_FILE}/absent@{MISSING}"


@lru_cache
def layers(platform: str) -> Part:
    """The part that has the layer, for a platform as in `linux/amd64`."""
    return _part(LAYERS, platform, _pointer(OCI_TAR, _TAR), (_TAR,))


@lru_cache
def image(platform: str) -> Part:
    """The part that has not."""
    return _part(IMAGE, platform, _pointer(f"{OCI_TAR}+gzip", _NOWHERE), ())


def _part(repository: str, platform: str, layer: dict[str, Any], blobs: tuple[bytes, ...]) -> Part:
    words = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    config = as_json({
        **words, "config": {"Labels": {names.LABEL_CANARY: repository}},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(_TAR)]},
    })
    manifest = as_json({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": _pointer(OCI_CONFIG, config), "layers": [layer],
    })
    return Part(repository, (*blobs, config), manifest)


def _pointer(media_type: str, data: bytes) -> dict[str, Any]:
    return descriptor(media_type, digest_of(data), len(data))
