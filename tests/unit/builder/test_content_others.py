# SPDX-License-Identifier: Apache-2.0
"""What one image claims or is must cost the others nothing: neither their room, nor a layer that they share, nor the
memory of the builder, nor the words in which they are told of."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
from pathlib import Path

import pytest
import zstandard
from imagecache_operator import names
from imagecache_operator.api.job import StoredAs
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import parse
from imagecache_operator.api.report import Outcome

from tests.support.tls import Authority

from . import faulty as faults
from .conftest import Run
from .content import GOOD, Bench, entry, image_of, packed
from .faulty import OCI_INDEX, FaultyRegistry, SmallImage
from .program import PROGRAM, environment
from .test_names_references import longest

MEMORY = 512 * 1024  # KiB, as a builder Pod has it
GIB = 1024**3


@pytest.fixture
def bench(faulty: FaultyRegistry, run: Run, volume: Path, output: io.StringIO) -> Bench:
    return Bench(faulty, run, volume, output)


def claiming(size: int) -> SmallImage:
    """An image whose layer is said to have another size than it has."""
    image = SmallImage([b"a layer"], compress=packed)
    image.manifest["layers"][0]["size"] = size
    return image


def test_one_that_can_never_fit_fails_alone(bench: Bench) -> None:
    bench.refuses(bench.faulty.add("bad", claiming(2**50)), Reason.DOES_NOT_FIT, "raise imageCacheSize")


@pytest.mark.parametrize("size", [1, 1000, 2**50])
def test_a_layer_is_as_large_as_its_own_image_says(size: int, bench: Bench) -> None:
    """Whichever of two tags of one repository is looked at first."""
    liar = bench.faulty.add("app", claiming(size), "liar")
    honest = bench.faulty.add("app", SmallImage([b"a layer"], compress=packed), "honest")
    assert bench.build(liar, honest)[1].reason is None


def test_a_date_beyond_all_calendars(bench: Bench) -> None:
    date = "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    bench.faulty.fail("/v2/bad/manifests/1", *[faults.answers(429, {"Retry-After": date})] * 20)
    bench.refuses(f"{bench.faulty.address}/bad:1", Reason.TOO_MANY_REQUESTS)


def test_null_in_originals(bench: Bench) -> None:
    """They are kept byte for byte, so whoever looks through the volume meets them."""
    scratch, image = SmallImage([]), SmallImage([b"a layer"], compress=packed)
    scratch.manifest["layers"] = None
    bench.faulty.add("app", image, "inner")
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry(image)], "annotations": None}
    bench.takes(
        bench.faulty.add("scratch", scratch), bench.put("app", index, OCI_INDEX), stored_as=StoredAs.ORIGINAL,
    )


def test_failed_layers_hold_no_memory(
    faulty: FaultyRegistry, authority: Authority, volume: Path, tmp_path: Path,
) -> None:
    """Each of them needs a window of 64 MiB as long as it is unpacked."""
    wide = zstandard.ZstdCompressionParameters(window_log=26)

    def damaged(seed: int) -> bytes:
        packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
        return packer.compress(random.Random(seed).randbytes(1000) + bytes(80_000_000)) + packer.flush() + b"garbage"

    references = [faulty.add(f"bad/{seed}", image_of(damaged(seed), b"%d" % seed)) for seed in range(19)]
    outcome = _limited(StoredAs.DECOMPRESSED, [*references, faulty.add("good", GOOD[0])], authority, volume, tmp_path)
    assert [i.reason for i in outcome.images] == [Reason.DIGEST_MISMATCH] * 19 + [None]


def test_layers_that_unpack_to_nothing_hold_no_memory(
    faulty: FaultyRegistry, authority: Authority, volume: Path, tmp_path: Path,
) -> None:
    nothing = (struct.pack("<II", 0x184D2A50, 1_000_000) + bytes(1_000_000)) * 600
    bad = faulty.add("bad", image_of(nothing + zstandard.compress(b"tar"), b"tar"))
    outcome = _limited(StoredAs.ZSTD, [bad, faulty.add("good", GOOD[0])], authority, volume, tmp_path)
    assert [i.reason for i in outcome.images] == [Reason.UNSUPPORTED, None]


def test_where_many_fail_each_is_still_told_what_to_do(bench: Bench) -> None:
    references = longest(bench.faulty.address)
    for reference in references:
        bench.put(parse(reference).path, b"{}", tag=parse(reference).tag or "1")
    message = bench.run(*references).to_termination_message()
    for image in Outcome.from_termination_message(message).images:
        assert image.message.startswith(bench.faulty.address)
        assert image.message.endswith("take it off the list.")


def _limited(
    form: StoredAs, references: list[str], authority: Authority, volume: Path, tmp_path: Path,
) -> Outcome:
    message = tmp_path / "message"
    job = {"images": references, "platforms": ["linux/amd64"], "capacity": 16 * GIB, "storedAs": form}
    done = subprocess.run(
        ["sh", "-c", f'ulimit -d {MEMORY} && exec "$@"', "sh", *PROGRAM, "--output", str(volume),
         "--termination-log", str(message)],
        env=environment(authority.ca_file, **{names.ENV_JOB: json.dumps(job)}),
        capture_output=True, text=True, check=False,
    )
    assert message.exists(), done
    return Outcome.from_termination_message(message.read_text())
