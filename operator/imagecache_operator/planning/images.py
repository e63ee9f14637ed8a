# SPDX-License-Identifier: Apache-2.0
"""The per-image part of the status: from what a builder says, by place in the job, to what users read, by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from imagecache_operator.api.conditions import ConditionReason
from imagecache_operator.api.imagecache import ImageStatus
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageState, Outcome, Progress
from imagecache_operator.planning import pull_secrets, wording

# Where the volume is at fault, the cache's reason says so, rather than blaming an image.
_VOLUME_REASONS: dict[str, ConditionReason] = {
    Reason.DOES_NOT_FIT: ConditionReason.DOES_NOT_FIT,
    Reason.NO_SPACE_LEFT: ConditionReason.NO_SPACE_LEFT,
}


def waiting(references: Sequence[str]) -> tuple[ImageStatus, ...]:
    """Before a builder has said anything."""
    return tuple(ImageStatus(reference=r, state=ImageState.WAITING) for r in references)


def moving(references: Sequence[str], progress: Progress) -> tuple[ImageStatus, ...]:
    """While a builder runs. A report of another length is not about these images."""
    if len(progress.images) != len(references):
        return waiting(references)
    return tuple(
        ImageStatus(reference=r, state=i.state, bytes_done=i.bytes_done, bytes_total=i.bytes_total)
        for r, i in zip(references, progress.images, strict=True)
    )


def ended(references: Sequence[str], outcome: Outcome, secrets: Collection[str]) -> tuple[ImageStatus, ...]:
    """After a builder has ended. `secrets` are those that it may have pulled with, as `namespace:secretName`."""
    if len(outcome.images) != len(references):
        return waiting(references)
    return tuple(
        ImageStatus(
            reference=r,
            state=i.state,
            digest=i.digest,
            carrier=i.carrier if i.reason is None else None,
            pull_secret=pull_secrets.named(i.pulled_with, secrets) if i.reason is None else None,
            size=i.size if i.reason is None else None,
            reason=str(i.reason) if i.reason is not None else None,
            message=i.message or None,
        )
        for r, i in zip(references, outcome.images, strict=True)
    )


def failure(images: Sequence[ImageStatus]) -> str:
    """One sentence that names every image that failed, and why."""
    failed = [i for i in images if i.state is ImageState.FAILED]
    listed = "; ".join(f"{i.reference}: {i.reason}" + (f" ({i.message})" if i.message else "") for i in failed)
    return f"{wording.counted(len(failed), 'image')} of {len(images)} failed: {listed}"


def volume_reason(reason: str | None) -> ConditionReason:
    """The cache's reason where a builder gave one for all images."""
    return _VOLUME_REASONS.get(reason or "", ConditionReason.IMAGE_FAILED)


def failure_reason(images: Sequence[ImageStatus]) -> ConditionReason:
    """The cache's reason: the volume's, if every failing image failed for the volume's sake."""
    reasons = {_VOLUME_REASONS.get(i.reason, ConditionReason.IMAGE_FAILED) for i in images if i.reason}
    return reasons.pop() if len(reasons) == 1 else ConditionReason.IMAGE_FAILED


def progressed(before: str | None, progress: Progress) -> bool:
    """Whether the progress is worth a write: at least one per cent has moved."""
    return wording.percent(progress.bytes_done, progress.bytes_total) != before
