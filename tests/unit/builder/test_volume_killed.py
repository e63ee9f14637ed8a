# SPDX-License-Identifier: Apache-2.0
"""A builder that is killed at any moment: what is complete stays and is not fetched again, nothing half-written is
ever seen, and whoever comes next finishes the work."""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
import zstandard
from imagecache_operator.api.job import BuildJob, StoredAs
from imagecache_operator.api.oci import OCI_TAR
from imagecache_operator.builder.check import check
from imagecache_operator.builder.forms import FORMS
from imagecache_operator.builder.layout import OWN_FOLDER, Layout
from imagecache_operator.builder.manifest import Descriptor

from tests.support.tls import Authority

from .blobs import blobs_of_images
from .conftest import GIB
from .faulty import OCI_INDEX, FaultyRegistry, SmallImage, sha256
from .mortal import RENAME, SYNC, WRITE, Mortal

VOLUMES = {StoredAs.DECOMPRESSED: 5, StoredAs.ORIGINAL: 3, StoredAs.ZSTD: 3}
KILLS = 5  # on each volume


def _images(registry: FaultyRegistry) -> dict[str, list[SmallImage]]:
    """By reference: a large layer, a shared one, two compressions, an index of two platforms."""
    data = random.Random(1)
    base = data.randbytes(60_000)
    large = SmallImage([data.randbytes(3_000_000), base])
    small = SmallImage([base, data.randbytes(200_000)])
    zstd = SmallImage([data.randbytes(100_000), b"x" * 500_000], compress=zstandard.compress)
    platforms = [SmallImage([base, data.randbytes(20_000)], architecture=name) for name in ("amd64", "arm64")]
    for image in platforms:
        registry.add("multi", image, image.architecture)
    entries = [
        {"mediaType": i.manifest["mediaType"], "digest": sha256(i.body), "size": len(i.body),
         "platform": {"os": "linux", "architecture": i.architecture}}
        for i in platforms
    ]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    registry.documents["/v2/multi/manifests/1"] = (OCI_INDEX, json.dumps(index).encode())
    return {
        registry.add("large", large): [large],
        registry.add("small", small): [small],
        registry.add("zstd", zstd): [zstd],
        f"{registry.address}/multi:1": platforms,
    }


class Ledger:
    """What a volume has of the images' blobs, and what an attempt asked the registry for, by digests there."""

    def __init__(self, registry: FaultyRegistry, images: Mapping[str, list[SmallImage]], mortal: Mortal) -> None:
        self._registry = registry
        self._form = FORMS[mortal.job.stored_as]
        self._layout = Layout(mortal.volume)
        single = [image for images in images.values() for image in images]
        self.configs = {image.manifest["config"]["digest"] for image in single}
        self.layers = {
            digest: (len(image.blobs[digest]), diff_id)
            for image in single for digest, diff_id in zip(image.layer_digests, image.diff_ids, strict=True)
        }

    def complete(self) -> set[str]:
        layers = {
            digest for digest, (size, diff_id) in self.layers.items()
            if self._form.found(self._layout, Descriptor(media_type=OCI_TAR, digest=digest, size=size), diff_id)
        }
        return layers | {digest for digest in self.configs if self._layout.has(digest)}

    def half_written(self) -> dict[str, int]:
        """Sizes of the layers that an attempt can go on with."""
        folder = self._layout.root / OWN_FOLDER / "tmp"
        return {f"sha256:{path.name.removeprefix('resumable-')}": path.stat().st_size
                for path in folder.glob("resumable-*")}

    def asked(self) -> dict[str, set[str]]:
        """For each blob that was asked for: from which byte on."""
        found: dict[str, set[str]] = {}
        for path, headers in self._registry.requests:
            if "/blobs/" in path:
                found.setdefault(path.rpartition("/")[2], set()).add(headers.get("range", "bytes=0-"))
        return found


@pytest.mark.parametrize("stored_as", StoredAs)
def test_nothing_is_lost_wherever_it_is_killed(
    stored_as: StoredAs, faulty: FaultyRegistry, authority: Authority, tmp_path: Path,
) -> None:
    images = _images(faulty)
    job = BuildJob(
        images=tuple(images), platforms=("linux/amd64", "linux/arm64"), capacity=GIB, stored_as=stored_as,
    )
    undisturbed = Mortal(job, tmp_path / "undisturbed", authority, tmp_path).run()
    assert undisturbed.outcome.succeeded
    moments = random.Random(20)
    for number in range(VOLUMES[stored_as]):
        mortal = Mortal(job, tmp_path / f"volume-{number}", authority, tmp_path)
        ledger = Ledger(faulty, images, mortal)
        # What one attempt has done the next need not do: together they need as many touches as one undisturbed
        # attempt, or more. (Threads that make one folder at once touch it more or less often: hence nine tenths.)
        cuts = sorted(moments.sample(range(1, len(undisturbed.touches) * 9 // 10), KILLS))
        for before, cut in itertools.pairwise([0, *cuts]):
            complete = ledger.complete()
            faulty.requests.clear()
            attempt = mortal.run(signal.SIGKILL, cut - before)
            assert attempt.ended() == -signal.SIGKILL
            assert not attempt.message.exists()
            assert [p for p in check(mortal.volume) if not _is_unfinished(p)] == []
            assert complete <= ledger.complete()
            assert not complete & ledger.asked().keys()
        complete, halves = ledger.complete(), ledger.half_written()
        complete |= {digest for digest, size in halves.items() if size == ledger.layers[digest][0]}
        faulty.requests.clear()
        assert mortal.run().outcome == undisturbed.outcome
        assert check(mortal.volume) == []
        asked = ledger.asked()
        assert asked.keys() == (ledger.layers.keys() | ledger.configs) - complete
        for digest in halves.keys() - complete:
            assert f"bytes={halves[digest]}-" in asked[digest]


def _is_unfinished(problem: str) -> bool:
    """A tag whose own link is still missing is what a reader sees as no image; anything else must be whole."""
    return any(words in problem for words in ("Half-written", "points nowhere", "no layout"))


@pytest.mark.parametrize("stored_as", StoredAs)
def test_a_layer_is_half_written_under_no_name(
    stored_as: StoredAs, faulty: FaultyRegistry, authority: Authority, tmp_path: Path,
) -> None:
    """Killed in the middle of a large layer's stream, before it is on the disk, and before it has its name."""
    image = SmallImage([random.Random(2).randbytes(4_000_000)])
    images = {faulty.add("a", image): [image]}
    job = BuildJob(images=tuple(images), platforms=("linux/amd64",), capacity=GIB, stored_as=stored_as)
    touches = Mortal(job, tmp_path / "undisturbed", authority, tmp_path).run().touches
    stream = max(re.finditer(f"{WRITE}+", touches), key=lambda match: len(match[0]))
    middle = (stream.start() + stream.end()) // 2
    for moment in (middle, touches.index(SYNC, middle), touches.index(RENAME, middle)):
        mortal = Mortal(job, tmp_path / f"volume-{moment}", authority, tmp_path)
        attempt = mortal.run(signal.SIGKILL, moment + 1)
        assert attempt.ended() == -signal.SIGKILL
        assert attempt.touches == touches[:moment + 1]
        (half,) = (mortal.volume / OWN_FOLDER / "tmp").iterdir()
        size = half.stat().st_size
        assert not blobs_of_images(mortal.volume)
        faulty.requests.clear()
        assert mortal.run().outcome.succeeded
        assert check(mortal.volume) == []
        whole = max(blob.stat().st_size for blob in (mortal.volume / "docker").rglob("data"))
        assert 0 < size < whole if moment == middle else size == whole
        # What is stored as it comes is gone on with; nothing else can be.
        (digest,) = image.layer_digests
        start = size if stored_as is StoredAs.ORIGINAL else 0
        expected = {f"bytes={start}-"} if start < len(image.blobs[digest]) else set()
        assert Ledger(faulty, images, mortal).asked().get(digest, set()) == expected


@pytest.mark.parametrize("stored_as", StoredAs)
def test_every_file_is_on_the_disk_before_it_has_its_name_and_every_name_before_the_next(
    stored_as: StoredAs, faulty: FaultyRegistry, authority: Authority, tmp_path: Path,
) -> None:
    """What a kill cannot show and a power cut would: written, synced, renamed, and the folder synced."""
    image = SmallImage([b"x" * 3_000_000, b"y" * 1000])
    job = BuildJob(
        images=(faulty.add("a", image),), platforms=("linux/amd64",), capacity=GIB, stored_as=stored_as,
    )
    volume = tmp_path / "volume"
    volume.mkdir()
    touches = Mortal(job, volume, authority, tmp_path, options=("--workers", "1")).run().touches
    files = [path for path in volume.rglob("*") if path.is_file() and path.name != "lock"]
    assert touches.count(RENAME) == len(files) > 9
    assert len(re.findall("ws(?:mos)*ros", touches)) == touches.count(RENAME)
    assert touches.count("mos") == touches.count("m")
