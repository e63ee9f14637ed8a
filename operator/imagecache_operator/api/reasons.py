# SPDX-License-Identifier: Apache-2.0
"""Why an image could not be cached, as an enumeration that builder, plan, status and docs share.

The builder picks the reason (`builder/`), the plan decides by it whether a new attempt can help
(`planning/attempts.py`), the reference page explains each one to users.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """One word for what went wrong with one image."""

    NOT_FOUND = "NotFound"
    UNAUTHORIZED = "Unauthorized"
    DENIED = "Denied"
    PLATFORM_MISSING = "PlatformMissing"
    MANIFEST_INVALID = "ManifestInvalid"
    DIGEST_MISMATCH = "DigestMismatch"
    UNSUPPORTED = "Unsupported"
    REGISTRY_UNAVAILABLE = "RegistryUnavailable"
    TOO_MANY_REQUESTS = "TooManyRequests"
    TLS_FAILED = "TlsFailed"
    DNS_FAILED = "DnsFailed"
    TIMEOUT = "Timeout"
    DOES_NOT_FIT = "DoesNotFit"
    NO_SPACE_LEFT = "NoSpaceLeft"
    CANCELLED = "Cancelled"
    INTERNAL = "Internal"


# Trouble that passes by itself: a new attempt may succeed without anybody doing anything.
# For every other reason a person must act, so the cache fails at once and says what to do.
TRANSIENT = frozenset({
    Reason.REGISTRY_UNAVAILABLE,
    Reason.TOO_MANY_REQUESTS,
    Reason.DNS_FAILED,
    Reason.TIMEOUT,
    Reason.CANCELLED,
    Reason.INTERNAL,
})
