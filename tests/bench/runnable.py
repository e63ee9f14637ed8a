# SPDX-License-Identifier: Apache-2.0
"""Two images of real files, one large and one medium, that run and tell when they do. Called by `start`.

Their layers are of programs and libraries (`dataset.RUNNING`), gzip, as most of the world's are; below them lies one
with a shell and a clock. The medium image's layers are also the large one's, as of images on one base.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.support.images import Image
from tests.support.layers import Layer, make_layer, programs

from .dataset import MB, Dataset, image

# The first is what the aims are for. The small one shows that all of it runs.
SIZES, SMALL_SIZES = (620 * MB, 200 * MB), (60 * MB,)
# A time of the machine's own clock, which nodes share with whoever asks for the Pod.
# The trap is for the Pod's end: the first process of a container does not hear SIGTERM otherwise.
COMMAND = ("/bin/sh", "-c", "/bin/date +%s.%N; trap exit TERM; /bin/sleep 3600 & wait")


def images(dataset: Dataset, folder: Path, sizes: Sequence[int]) -> list[Image]:
    """One for each size (bytes, compressed), about as large; `folder` is for what is made."""
    # A file that no other image has: on a node, a layer that others have too would never be cold.
    base = make_layer(folder, {**programs("sh", "date", "sleep"), "bench/start": Path(__file__)}, "gzip")
    found = []
    for size in sizes:
        layers = [base, *about(dataset.layers, size - base.size)]
        megabytes = sum(layer.size for layer in layers) // MB
        found.append(image(folder, f"bench/{megabytes}mb:1.0", layers))
    return found


def about(layers: Sequence[Layer], size: int) -> list[Layer]:
    """The first layers that are gzip, as many as come nearest to the size."""
    found: list[Layer] = []
    for layer in layers:
        if layer.compression == "gzip" and sum(known.size for known in found) + layer.size / 2 <= size:
            found.append(layer)
    return found


def described(found: Image) -> str:
    """Its layers in a sentence's part."""
    own = found.own
    return (
        f"{own.compressed_size // MB} MB are {len(own.layers)} gzip layers, {own.raw_size // MB} MB unpacked "
        f"({factor(found):.2f} times)"
    )


def factor(found: Image) -> float:
    """How many times its size as pulled it is unpacked: what the node's disk has to do for each byte of network."""
    return found.own.raw_size / found.own.compressed_size
