# SPDX-License-Identifier: Apache-2.0
"""Which images a node is told to forget, and by what names containerd keeps their layers."""

from __future__ import annotations

import hashlib

import pytest

from tests.support.cold_node import FROM_TESTS, chain_ids, referring

A, B, C, D, E = (f"sha256:{letter * 64}" for letter in "abcde")
LISTING = f"""REF TYPE DIGEST SIZE PLATFORMS LABELS
imagecache.test/registry:dev type {A} 6.0 MiB linux/amd64 -
registry.test:5000/team/app:2.1 type {B} 13 MiB linux/amd64 io.cri-containerd.image=managed
localhost:31420/carrier/slow.test_5000/team/app@{C} type {C} 13 MiB linux/amd64 -
sha256:{"1" * 64} type {A} 6.0 MiB linux/amd64 -
docker.io/library/imagecache-test-1:1 type {D} 13 MiB linux/amd64 -
docker.io/library/debian:13 type {E} 13 MiB linux/amd64 -
sha256:{"2" * 64} type {B} 13 MiB linux/amd64 -
sha256:{"3" * 64} type {C} 13 MiB linux/amd64 -
"""


@pytest.mark.parametrize(("references", "found"), [
    (FROM_TESTS, ["registry.test:5000/team/app:2.1", f"localhost:31420/carrier/slow.test_5000/team/app@{C}",
                  "docker.io/library/imagecache-test-1:1", f"sha256:{'2' * 64}", f"sha256:{'3' * 64}"]),
    (r"localhost:\d+/carrier/", [f"localhost:31420/carrier/slow.test_5000/team/app@{C}", f"sha256:{'3' * 64}"]),
    ("team/app", []),
])
def test_an_image_is_found_under_all_its_names(references: str, found: list[str]) -> None:
    assert referring(LISTING, references) == found


def test_a_chain_names_a_layer_and_all_below_it() -> None:
    """As in OCI's image-spec, config.md."""
    second = "sha256:" + hashlib.sha256(f"{A} {B}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {C}".encode()).hexdigest()
    assert chain_ids([A, B, C]) == [A, second, third]
    assert chain_ids([]) == []
