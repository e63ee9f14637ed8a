# SPDX-License-Identifier: Apache-2.0
"""Condition types and the reasons that users read in them. docs/reference/imagecache.md explains each one;
a test compares the two lists."""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """The three kstatus types, all present from the first pass on, and three of ours."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    # Ours: True where listed pull Secrets could all be used.
    PULL_SECRETS = "PullSecretsUsable"
    # Ours: True where Pods can start from the cache.
    SERVED = "Served"
    # Ours, where spec.warmNodes is set: True where every node that it speaks of holds every image.
    WARM = "Warm"


class ConditionReason(StrEnum):
    """Why a cache is, or is not, ready."""

    # Creating
    WAITING_FOR_SLOT = "WaitingForSlot"
    QUOTA_EXCEEDED = "QuotaExceeded"
    VOLUME_PENDING = "VolumePending"
    BUILDER_PENDING = "BuilderPending"
    PULLING = "Pulling"
    RETRY_SCHEDULED = "RetryScheduled"
    # Available
    AVAILABLE = "Available"
    # Unavailable
    VOLUME_LOST = "VolumeLost"
    EXPIRED = "Expired"
    # Failed
    IMAGE_FAILED = "ImageFailed"
    DOES_NOT_FIT = "DoesNotFit"
    NO_SPACE_LEFT = "NoSpaceLeft"
    CLUSTER_NOT_FOUND = "ClusterNotFound"
    INVALID_SPEC = "InvalidSpec"
    REJECTED = "Rejected"
    ATTEMPTS_EXHAUSTED = "AttemptsExhausted"
    # Of the condition PullSecretsUsable
    SECRETS_READ = "SecretsRead"
    SECRET_NOT_FOUND = "SecretNotFound"  # noqa: S105
    SECRET_INVALID = "SecretInvalid"  # noqa: S105
    SECRET_FORBIDDEN = "SecretForbidden"  # noqa: S105
    SECRET_UNAVAILABLE = "SecretUnavailable"  # noqa: S105
    # Of the condition Served
    SERVING = "Serving"
    SERVER_PENDING = "ServerPending"
    CANARY_PENDING = "CanaryPending"
    CANARY_FAILED = "CanaryFailed"
    NOT_AVAILABLE = "NotAvailable"
    NOT_WANTED = "NotWanted"
    NOBODY_ADMITTED = "NobodyAdmitted"
    KUBELET_TOO_OLD = "KubeletTooOld"
    # Of the condition Warm
    NODES_WARM = "NodesWarm"
    WARMING = "Warming"
    NOT_SERVED = "NotServed"
    # Deleting
    DELETING = "Deleting"


# Reasons of the condition Served while there is to be a server, whether Pods can start from it or not.
WITH_SERVER = (
    ConditionReason.SERVING, ConditionReason.SERVER_PENDING, ConditionReason.CANARY_PENDING,
    ConditionReason.CANARY_FAILED,
)
