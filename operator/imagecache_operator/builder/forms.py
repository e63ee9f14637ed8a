# SPDX-License-Identifier: Apache-2.0
"""The forms in which layers lie on the volume, `storedAs` in the spec: what is written for a layer, and found again.

`fetch.py` writes with a form, `schedule.py` and `rewrite.py` look with it for what is there. A form knows bytes and
digests; connections, files and room are others' affair. docs/decisions/0005 says what each form is good for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard

from imagecache_operator.api.job import StoredAs
from imagecache_operator.api.oci import OCI_TAR
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.inflate import MAX_ZSTD_WINDOW, inflated, is_zstd
from imagecache_operator.builder.layout import Layout, NewBlob
from imagecache_operator.builder.manifest import Descriptor

# Measured (docs/benchmarks/builder.md): higher levels cost builders far more time than they save nodes.
ZSTD_LEVEL = 1


class Form(Protocol):
    """How layers are stored."""

    @property
    def media_type(self) -> str | None:
        """What a stored layer is; None where the layer keeps its own type, and everything else stays as it is too."""

    @property
    def resumable(self) -> bool:
        """Whether a half-written layer can be gone on with, because what is written is what the registry sends."""

    def key(self, layer: Descriptor, diff_id: str) -> str:
        """Layers with one key are stored once."""

    def found(self, layout: Layout, layer: Descriptor, diff_id: str) -> str | None:
        """The digest under which the layer is on the volume; None where it is not."""

    def least(self, layer: Descriptor) -> int:
        """Bytes that the layer takes at the least."""

    def packed(self, pieces: Iterator[bytes], tar: Callable[[bytes], object]) -> Iterator[bytes]:
        """What to write for the layer that comes in these pieces; `tar` sees its tar, where the form unpacks it at all.

        Raises what `inflated` raises.
        """

    def publish(self, layout: Layout, blob: NewBlob, layer: Descriptor, diff_id: str, tar_digest: str) -> bool:
        """Gives the written blob its name. False, and nothing done, where it is not what the image promises."""


class Original:
    """As the registry has it: digests stay what they are, and nothing is unpacked, so diff_ids are left to nodes."""

    media_type = None
    resumable = True

    def key(self, layer: Descriptor, diff_id: str) -> str:
        return layer.digest

    def found(self, layout: Layout, layer: Descriptor, diff_id: str) -> str | None:
        return layer.digest if layout.has(layer.digest) else None

    def least(self, layer: Descriptor) -> int:
        return layer.size

    def packed(self, pieces: Iterator[bytes], tar: Callable[[bytes], object]) -> Iterator[bytes]:
        return pieces

    def publish(self, layout: Layout, blob: NewBlob, layer: Descriptor, diff_id: str, tar_digest: str) -> bool:
        blob.publish(layer.digest)
        return True


class Decompressed:
    """As a plain tar, named by its diff_id."""

    media_type = OCI_TAR
    resumable = False

    def key(self, layer: Descriptor, diff_id: str) -> str:
        return diff_id

    def found(self, layout: Layout, layer: Descriptor, diff_id: str) -> str | None:
        return diff_id if layout.has(diff_id) else None

    def least(self, layer: Descriptor) -> int:
        # gzip and zstd make incompressible data larger, by less than one part in a hundred and a few bytes.
        return layer.size * 99 // 100

    def packed(self, pieces: Iterator[bytes], tar: Callable[[bytes], object]) -> Iterator[bytes]:
        return inflated(pieces)

    def publish(self, layout: Layout, blob: NewBlob, layer: Descriptor, diff_id: str, tar_digest: str) -> bool:
        if blob.digest != diff_id:
            return False
        blob.publish(diff_id)
        return True


class Zstd:
    """As tar+zstd. What comes as zstd stays as it is; everything else is packed anew, and the volume remembers which
    blob came of which tar, because its digest cannot be known beforehand."""

    media_type = f"{OCI_TAR}+zstd"
    resumable = False

    def key(self, layer: Descriptor, diff_id: str) -> str:
        return diff_id

    def found(self, layout: Layout, layer: Descriptor, diff_id: str) -> str | None:
        return layout.packed_form_of(diff_id)

    def least(self, layer: Descriptor) -> int:
        # What is packed already does not get much smaller; a plain tar may shrink to nearly nothing.
        return 0 if layer.media_type.endswith("tar") else layer.size // 2

    def packed(self, pieces: Iterator[bytes], tar: Callable[[bytes], object]) -> Iterator[bytes]:
        head = next(pieces, b"")
        whole = itertools.chain([head], pieces)
        return self._kept(whole, tar) if is_zstd(head) else self._packed_anew(whole, tar)

    def publish(self, layout: Layout, blob: NewBlob, layer: Descriptor, diff_id: str, tar_digest: str) -> bool:
        if tar_digest != diff_id:
            return False
        digest = blob.digest
        blob.publish(digest)
        layout.remember_packed_form(diff_id, digest)
        return True

    def _kept(self, pieces: Iterator[bytes], tar: Callable[[bytes], object]) -> Iterator[bytes]:
        """The pieces themselves, while their tar is looked at beside."""
        seen: list[bytes] = []

        def watched() -> Iterator[bytes]:
            for piece in pieces:
                seen.append(piece)
                if sum(map(len, seen)) > MAX_ZSTD_WINDOW:
                    raise ImageError(
                        Reason.UNSUPPORTED, "A layer has a zstd frame that unpacks to nothing for too long: push it "
                        "again, packed by another tool.",
                    )
                yield piece

        for part in inflated(watched()):
            tar(part)
            yield from seen
            seen.clear()
        yield from seen

    def _packed_anew(self, pieces: Iterator[bytes], tar: Callable[[bytes], object]) -> Iterator[bytes]:
        packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
        for part in inflated(pieces):
            tar(part)
            if out := packer.compress(part):
                yield out
        yield packer.flush()


FORMS: dict[StoredAs, Form] = {
    StoredAs.ORIGINAL: Original(),
    StoredAs.DECOMPRESSED: Decompressed(),
    StoredAs.ZSTD: Zstd(),
}
