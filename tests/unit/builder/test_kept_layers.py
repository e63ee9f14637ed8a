# SPDX-License-Identifier: Apache-2.0
"""What an Original layer that broke leaves on the volume: counted once, kept through an outage, and no image stored
that no registry could serve."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from imagecache_operator.api.credentials import Credential, Credentials
from imagecache_operator.api.job import StoredAs
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.forms import Zstd
from imagecache_operator.builder.inflate import MAX_ZSTD_WINDOW
from imagecache_operator.builder.layout import Layout

from . import faulty as faults
from .conftest import Run
from .faulty import FaultyRegistry, SmallImage

NOISE = random.Random(5).randbytes(400_000)
DOWN = [faults.answers(503)] * 20
ORIGINAL = StoredAs.ORIGINAL


def asked(faulty: FaultyRegistry, digest: str) -> list[str]:
    return [headers.get("range", "all") for path, headers in faulty.requests if path.endswith(digest)]


def break_off(faulty: FaultyRegistry, run: Run, image: SmallImage, after: int) -> str:
    """A first attempt that gets that many bytes of the layer. Returns the image's reference."""
    reference = faulty.add("team/app", image)
    faulty.fail(f"/v2/team/app/blobs/{image.layer_digests[0]}", faults.ends_after(after), *DOWN)
    assert run(reference, stored_as=ORIGINAL).images[0].reason is Reason.REGISTRY_UNAVAILABLE
    faulty.script.clear()
    faulty.requests.clear()
    return reference


def test_what_was_kept_is_not_counted_twice(
    faulty: FaultyRegistry, run: Run, monkeypatch: pytest.MonkeyPatch,
) -> None:
    def free(layout: Layout) -> int:
        return 600_000 - sum(path.stat().st_size for path in layout.root.rglob("*") if path.is_file())

    monkeypatch.setattr(Layout, "free", free)
    reference = break_off(faulty, run, SmallImage([NOISE]), 300_000)
    assert run(reference, stored_as=ORIGINAL).succeeded


def test_an_outage_of_manifests_does_not_throw_away_layers(faulty: FaultyRegistry, run: Run) -> None:
    image = SmallImage([NOISE])
    reference = break_off(faulty, run, image, 100_000)
    faulty.fail("/v2/team/app/manifests/1", *DOWN)
    assert run(reference, stored_as=ORIGINAL).images[0].reason is Reason.REGISTRY_UNAVAILABLE
    faulty.script.clear()
    assert run(reference, stored_as=ORIGINAL).succeeded
    assert asked(faulty, image.layer_digests[0]) == ["bytes=100000-"]


@pytest.mark.parametrize("lie", [
    lambda m: m.pop("schemaVersion"), lambda m: m.update(mediaType="application/x-own"),
    lambda m: m["layers"][0].update(size=m["layers"][0]["size"] + 1),
], ids=["no schema version", "an unknown type", "another size"])
def test_an_original_that_nobody_could_serve_is_refused(
    lie: Callable[[dict[str, object]], object], faulty: FaultyRegistry, run: Run,
) -> None:
    image = SmallImage([NOISE])
    assert run(faulty.add("good", image), stored_as=ORIGINAL).succeeded
    liar = copy.deepcopy(image)
    lie(liar.manifest)
    (result,) = run(faulty.add("liar", liar), stored_as=ORIGINAL).images
    assert result.reason in (Reason.MANIFEST_INVALID, Reason.UNSUPPORTED)


def test_a_frame_that_unpacks_to_nothing_is_not_held_in_memory() -> None:
    taken = 0
    piece = 256 * 1024
    count = 2 * MAX_ZSTD_WINDOW // piece

    def pieces() -> Iterator[bytes]:
        nonlocal taken
        yield b"\x50\x2a\x4d\x18" + (piece * count).to_bytes(4, "little")
        for _ in range(count):
            taken += 1
            yield bytes(piece)
        yield zstandard.ZstdCompressor().compress(NOISE)

    with pytest.raises(ImageError, match="unpacks to nothing"):
        next(Zstd().packed(pieces(), lambda part: None))
    assert taken * piece <= MAX_ZSTD_WINDOW + piece


def test_a_plain_tar_may_pack_to_nearly_nothing(faulty: FaultyRegistry, run: Run) -> None:
    image = SmallImage([bytes(3_000_000)], compress=bytes)
    image.manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar"
    assert run(faulty.add("team/app", image), stored_as=StoredAs.ZSTD, capacity=1_000_000).succeeded


def test_a_damaged_memory_of_a_packed_layer_is_none(faulty: FaultyRegistry, run: Run, volume: Path) -> None:
    image = SmallImage([NOISE])
    memory = volume / ".imagecache/packed/sha256" / image.diff_ids[0].removeprefix("sha256:")
    memory.parent.mkdir(parents=True)
    memory.write_bytes(b"\xff\xfe")
    assert run(faulty.add("team/app", image), stored_as=StoredAs.ZSTD).succeeded


def test_a_password_of_a_registry_with_tls_stays_with_tls(
    faulty: FaultyRegistry, run: Run, tmp_path: Path,
) -> None:
    """Also where another host may be spoken to without, and offers itself as the token service."""
    plain = FaultyRegistry(None, tmp_path / "plain")
    try:
        plain.documents["/token"] = ("application/json", b'{"token": "good"}')
        faulty.guard(lambda h: 200 if h.headers.get("Authorization") == "Bearer good" else 401, {
            "WWW-Authenticate": f'Bearer realm="http://{plain.address}/token"',
        })
        for more in ({"username": "u", "password": "p"}, {"identity_token": "secret"}):
            entry = Credential(match=faulty.address, source="a:b", **more)
            run(
                faulty.add("a", SmallImage([b"x" * 1000])), credentials=Credentials(entries=(entry,)),
                plain_http=(plain.address,),
            )
        assert not [h for _, h in plain.requests if "authorization" in h or "secret" in h.get("body", "")]
    finally:
        plain.close()
