# SPDX-License-Identifier: Apache-2.0
"""What the operator asks of one builder: the job.

`planning/children/builder_pod.py` writes it into the builder Pod's environment, `builder/` reads it there
(or makes it from command-line options when a person runs the builder by hand).
"""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from imagecache_operator.api.model import Model

GIB = 1024**3
WORKERS = 3  # layers at the same time, where nobody says otherwise; container runtimes pull as many


class StoredAs(StrEnum):
    """The form in which layers lie on the volume."""

    DECOMPRESSED = "Decompressed"
    ORIGINAL = "Original"
    ZSTD = "Zstd"


class BuildJob(Model):
    """One attempt's work: all images, to be complete on one volume."""

    images: tuple[str, ...] = Field(min_length=1, max_length=20)
    platforms: tuple[str, ...] = Field(min_length=1, description='Wanted platforms, e.g. "linux/arm64/v8".')
    stored_as: StoredAs = StoredAs.DECOMPRESSED
    capacity: int = Field(gt=0, description="Bytes that the layout may take in all: the size that was asked for.")
    plain_http: tuple[str, ...] = Field(
        default=(), description="Registries (host or host:port) that may be spoken to without TLS."
    )
