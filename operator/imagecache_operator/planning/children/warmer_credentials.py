# SPDX-License-Identifier: Apache-2.0
"""The Secrets by which a warmer's Pods pull private images from their registries: what the images need of a user's pull
Secret, in the operator's namespace, for as long as nodes are kept warm. Applied by server-side apply.

One for each Secret that served an image: two of them may have an entry of the same name, and a Secret of this type has
place for one.
"""

from __future__ import annotations

from typing import Any

from imagecache_operator import names
from imagecache_operator.api.credentials import SECRET_TYPE, Credential, Credentials, secret_data
from imagecache_operator.planning.children import owner
from imagecache_operator.planning.children.applied import versioned
from imagecache_operator.planning.observed import Cache, PullSecret


def manifest(
    cache: Cache, source: PullSecret, needed: Credentials, home_uid: str, namespace: str,
) -> dict[str, Any]:
    """The Secret with what is `needed` of that source."""
    made = versioned({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.warmer_secret_name(home_uid, cache.uid, source.reference),
            "namespace": namespace,
            "labels": names.child_labels(names.COMPONENT_WARMER_CREDENTIALS, home_uid, cache.uid),
            "annotations": {
                names.ANNOTATION_CACHE_NAME: cache.name,
                # Part of the version, in place of the content: a hash of that would be a gift to whoever guesses.
                names.ANNOTATION_SOURCE: f"{source.reference} {source.version}",
            },
            "ownerReferences": [owner.reference(cache)],
        },
        "type": SECRET_TYPE,
    })
    made["data"] = secret_data({entry.match: _auth(entry) for entry in needed.entries})
    return made


def _auth(entry: Credential) -> dict[str, str]:
    fields = {
        "username": entry.username, "password": entry.password,
        "identitytoken": entry.identity_token, "registrytoken": entry.registry_token,
    }
    return {name: value for name, value in fields.items() if value}
