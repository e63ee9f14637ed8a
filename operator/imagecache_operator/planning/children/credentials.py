# SPDX-License-Identifier: Apache-2.0
"""The Secret of one attempt: the credentials that its images need, and no others, for as long as the attempt lives.

It is created before its Pod, under the same name, and never applied again. Users' Secrets may be in any namespace
and hold more; a builder Pod can mount only what is in its own namespace, and should see only what it needs.
"""

from __future__ import annotations

import base64
from typing import Any

from imagecache_operator import names
from imagecache_operator.api.credentials import Credentials
from imagecache_operator.planning.children import owner
from imagecache_operator.planning.observed import Cache


def manifest(
    cache: Cache, attempt: int, generation: int, credentials: Credentials, home_uid: str, namespace: str,
) -> dict[str, Any]:
    """The Secret."""
    content = credentials.model_dump_json(by_alias=True, exclude_defaults=True)
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.builder_name(home_uid, cache.uid, generation, attempt),
            "namespace": namespace,
            "labels": {
                **names.child_labels(names.COMPONENT_CREDENTIALS, home_uid, cache.uid),
                names.LABEL_GENERATION: str(generation),
                names.LABEL_ATTEMPT: str(attempt),
            },
            "annotations": {names.ANNOTATION_CACHE_NAME: cache.name},
            "ownerReferences": [owner.reference(cache)],
        },
        "type": names.CREDENTIALS_TYPE,
        "immutable": True,
        "data": {names.CREDENTIALS_KEY: base64.b64encode(content.encode()).decode()},
    }
