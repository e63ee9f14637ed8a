# SPDX-License-Identifier: Apache-2.0
"""What a builder says: progress while it runs (one JSON line on stdout), the outcome when it ends.

The builder writes these models; `cluster/` reads them back from the Pod's log and from the container's
termination message. The kubelet cuts that message at 4,096 bytes, so the outcome names images by their place in
the job, writes digests in base64, marks Secrets instead of naming them, and shortens its prose until it fits; digests,
marks, sizes and reasons are never cut.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer

from imagecache_operator.api.model import Model
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.text import without_its_middle

TERMINATION_MESSAGE_LIMIT = 4096


_WHOLE = re.compile(r"sha256:[0-9a-f]{64}")
_SHORT = re.compile(r"[A-Za-z0-9_-]{43}")


def _short(digest: str | None) -> str | None:
    """The 32 bytes of a digest in 43 characters (base64url without padding) instead of 71."""
    if digest is None or not _WHOLE.fullmatch(digest):
        return digest
    return base64.urlsafe_b64encode(bytes.fromhex(digest.removeprefix("sha256:"))).decode().rstrip("=")


def _whole(text: Any) -> Any:
    """Back again; a digest that is written out, as builders of an older version do, stays as it is."""
    if isinstance(text, str) and _SHORT.fullmatch(text):
        return f"sha256:{base64.urlsafe_b64decode(f'{text}=').hex()}"
    return text


# `sha256:<hex>` in Python, short in JSON.
Digest = Annotated[str | None, BeforeValidator(_whole), PlainSerializer(_short, when_used="json")]


def mark_of(secrets: Collection[str]) -> str | None:
    """Eight characters for the Secrets that an image was pulled with, whose names may have 317 each; None for none.

    Several have a mark together, which is that of no single one: whoever has one of them is not taken to have all.
    """
    if not secrets:
        return None
    names = "\n".join(sorted(secrets)).encode(errors="backslashreplace")  # by hand it is a path, of any bytes
    return base64.urlsafe_b64encode(hashlib.sha256(names).digest()[:6]).decode()


class ImageState(StrEnum):
    """Where one image is on its way onto the volume."""

    WAITING = "Waiting"
    PULLING = "Pulling"
    PULLED = "Pulled"
    FAILED = "Failed"


class ImageProgress(Model):
    """One image while the builder runs. Bytes are compressed bytes of its layers, as the registry sends them."""

    state: ImageState = Field(alias="s")
    bytes_done: int = Field(default=0, alias="d")
    bytes_total: int = Field(default=0, alias="t")


class Progress(Model):
    """One line of a builder's stdout. Layers that images share count once in the sums.

    The last two are None where there is nothing to reckon with, and absent from builders of an older version.
    """

    type: Literal["progress"] = "progress"
    images: tuple[ImageProgress, ...]
    bytes_done: int = 0
    bytes_total: int = 0
    rate: int | None = Field(default=None, description="Bytes a second, over the last ten seconds.")
    seconds_left: int | None = Field(default=None, description="How long the rest takes at that rate.")


class ImageOutcome(Model):
    """How one image ended. `digest` is what the reference resolved to at the registry, before any re-packing;
    `carrier` is the digest that nodes take its layers by; `pulled_with` is the mark of the Secrets that it took, None
    where it took none; `size` is the bytes that its content takes on the volume."""

    reason: Reason | None = Field(default=None, alias="r")
    digest: Digest = Field(default=None, alias="d")
    carrier: Digest = Field(default=None, alias="c")
    pulled_with: str | None = Field(default=None, alias="p")
    size: int = Field(default=0, alias="z")
    message: str = Field(default="", alias="m")

    @property
    def state(self) -> ImageState:
        return ImageState.PULLED if self.reason is None else ImageState.FAILED


class Outcome(Model):
    """How an attempt ended: every image by its place in the job, or one reason for all (`reason`, `message`)
    where the builder could not even begin (the volume is read-only, another builder holds its lock)."""

    images: tuple[ImageOutcome, ...] = ()
    used: int = Field(default=0, alias="u", description="Bytes that the whole layout takes on the volume.")
    reason: Reason | None = Field(default=None, alias="r")
    message: str = Field(default="", alias="m")

    @property
    def succeeded(self) -> bool:
        return self.reason is None and bool(self.images) and all(i.reason is None for i in self.images)

    def to_termination_message(self) -> str:
        """The outcome as JSON of at most 4,096 bytes; messages are shortened evenly until it fits."""
        longest = max((len(m) for m in (self.message, *(i.message for i in self.images))), default=0)
        # Halving ends: with all messages empty, 20 images with digests and marks take under 3,500 bytes.
        while len(text := self._with_messages_of(longest).encode()) > TERMINATION_MESSAGE_LIMIT and longest:
            longest //= 2
        return text.decode()

    def _with_messages_of(self, length: int) -> str:
        short = self.model_copy(update={
            "message": without_its_middle(self.message, length),
            "images": tuple(
                i.model_copy(update={"message": without_its_middle(i.message, length)}) for i in self.images
            ),
        })
        return short.model_dump_json(by_alias=True, exclude_none=True, exclude_defaults=True)

    @classmethod
    def from_termination_message(cls, text: str) -> Outcome:
        """Raises ValueError when the text is not an outcome (the builder was killed before it could speak)."""
        return cls.model_validate_json(text)
