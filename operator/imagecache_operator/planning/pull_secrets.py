# SPDX-License-Identifier: Apache-2.0
"""What the listed pull Secrets amount to: credentials for a builder, a version for status, a condition for people.

`view.py` asks for all three. A Secret that cannot be used is a warning, never a failure: its images may be public.
And back: which of them a builder says an image was pulled with (`images.py` asks).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence

from imagecache_operator.api.conditions import ConditionReason
from imagecache_operator.api.credentials import Credentials
from imagecache_operator.api.reference import InvalidReference, Reference, parse
from imagecache_operator.api.report import mark_of
from imagecache_operator.planning import wording
from imagecache_operator.planning.observed import PullSecret

# In place of a name. No namespace can be called so: `access.py` lets nobody in by it.
UNKNOWN = "(unknown)"


def needed(images: Sequence[str], secrets: Sequence[PullSecret]) -> Credentials:
    """The credentials that some image is tried with, and no others: a builder gets to see nothing else."""
    everything = Credentials(entries=tuple(entry for secret in secrets for entry in secret.credentials))
    return everything.needed_by(_references(images))


def version(secrets: Sequence[PullSecret]) -> str | None:
    """Changes when any of the Secrets does, or comes, or goes. None where none is listed, or one is unknown now."""
    if not secrets or any(secret.version is None for secret in secrets):
        return None
    # Made of uids and resource versions. A hash of what is in them would be a gift to whoever guesses passwords.
    return hashlib.sha256("\n".join(f"{s.reference} {s.version}" for s in secrets).encode()).hexdigest()[:16]


def usable(images: Sequence[str], secrets: Sequence[PullSecret]) -> tuple[bool, ConditionReason, str]:
    """The condition PullSecretsUsable: status, reason, and a sentence that names every Secret worth a look."""
    broken = [secret for secret in secrets if secret.problem]
    if broken:
        what = "; ".join(f"Secret {secret.reference} {secret.words}" for secret in broken)
        return False, broken[0].problem or ConditionReason.SECRET_INVALID, f"{what}. Images are pulled without it"
    idle = [secret.reference for secret in secrets if not serves(images, secret)]
    message = f"{wording.counted(len(secrets), 'Secret')} read"
    return True, ConditionReason.SECRETS_READ, message + (
        f"; nothing for these images in {', '.join(idle)}" if idle else ""
    )


def serves(images: Sequence[str], secret: PullSecret) -> bool:
    """Whether the Secret has something for some of the images."""
    return bool(needed(images, [secret]).entries)


def named(mark: str | None, secrets: Collection[str]) -> str | None:
    """The one Secret of these that the builder's mark stands for. UNKNOWN, and never None, where there is not just one:
    it was several, or the list was edited meanwhile. What was pulled with a Secret must not look public."""
    if mark is None:
        return None
    found = {secret for secret in secrets if mark_of((secret,)) == mark}
    return found.pop() if len(found) == 1 else UNKNOWN


def _references(images: Sequence[str]) -> Iterator[Reference]:
    for image in images:
        try:
            yield parse(image)
        except InvalidReference:
            continue  # the builder tells of it
