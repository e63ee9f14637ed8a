# SPDX-License-Identifier: Apache-2.0
"""What tells whether a child that is applied (a server, a warmer) is still what is wanted: a hash of its manifest, in
an annotation. It is compared instead of the object itself, into which the API server and its admission write defaults;
so a pass that wants nothing else writes nothing."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from imagecache_operator import names


def versioned(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with its version, which stands for the whole of its content. It must have annotations."""
    content = json.dumps(manifest, sort_keys=True).encode()
    manifest["metadata"]["annotations"][names.ANNOTATION_MANIFEST] = hashlib.sha256(content).hexdigest()[:16]
    return manifest


def version(manifest: dict[str, Any]) -> str:
    """The version that `versioned` has given."""
    return str(manifest["metadata"]["annotations"][names.ANNOTATION_MANIFEST])
