# SPDX-License-Identifier: Apache-2.0
"""The words of OCI's documents, and how ours are written. The builder writes manifests and configs with it, `canary.py`
an image that never changes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_TAR = "application/vnd.oci.image.layer.v1.tar"


def digest_of(data: bytes) -> str:
    """`sha256:<hex>` of the bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def descriptor(media_type: str, digest: str, size: int) -> dict[str, Any]:
    """A pointer to content, for a document."""
    return {"mediaType": media_type, "digest": digest, "size": size}


def as_json(document: dict[str, Any]) -> bytes:
    """One way to write a document, so that the same content has one digest."""
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
