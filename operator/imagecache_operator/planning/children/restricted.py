# SPDX-License-Identifier: Apache-2.0
"""Security contexts of all Pods that the operator makes, as Pod Security `restricted` asks for them."""

from __future__ import annotations

from typing import Any

# Not a user of any image: "nobody". All children are this one user, so that a server can read what a builder wrote.
UID = 65534

POD: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": UID,
    "runAsGroup": UID,
    "seccompProfile": {"type": "RuntimeDefault"},
}
POD_WITH_VOLUME: dict[str, Any] = {
    **POD,
    "fsGroup": UID,
    # A volume of many files would else be walked and changed at each start.
    "fsGroupChangePolicy": "OnRootMismatch",
}
CONTAINER: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
