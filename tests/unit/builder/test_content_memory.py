# SPDX-License-Identifier: Apache-2.0
"""Documents that are small to send and large to understand: the builder takes no more memory than its Pod has.

A process of its own, because the bound is a process's.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import zstandard
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.settings import Settings

from tests.support.tls import Authority

from .content import GOOD, descriptor, entry
from .faulty import OCI_INDEX, OCI_MANIFEST, FaultyRegistry, SmallImage
from .program import PROGRAM, environment

FOUR_MIB = 4 * 1024 * 1024
MANIFEST = json.dumps({"mediaType": OCI_MANIFEST, "config": descriptor("x", b""), "layers": []}).encode()
ENTRY = json.dumps(entry(GOOD[0])).encode()


def filled(start: bytes, member: bytes, end: bytes) -> bytes:
    """As many members as a document may hold."""
    return start + member * ((FOUR_MIB - len(start) - len(end)) // len(member)) + end


DOCUMENTS = {
    "layers": filled(MANIFEST[:-2], b"1,", b"1]}"),
    "annotations": MANIFEST[:-1] + b',"annotations":{' + b",".join(b'"%x":1' % n for n in range(400_000)) + b"}}",
    "features": filled(b'{"manifests":[' + ENTRY[:-2] + b',"os.features":[', b"1,", b"1]}}]}"),
    "entries": filled(b'{"manifests":[', b"{},", b"{}]}"),
    "anything": filled(b'{"mediaType":"x","a":[', b'{"":0},', b"0]}"),
    "keys": b'{"mediaType":"x",' + b",".join(b'"%x":[]' % n for n in range(350_000)) + b"}",
}


def test_no_document_takes_more_memory_than_a_builder_has(
    faulty: FaultyRegistry, authority: Authority, volume: Path, tmp_path: Path,
) -> None:
    """Beside layers that need the largest window, as many at once as there are threads."""
    wide = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=26))
    references = [faulty.add(f"wide/{n}", SmallImage([b"%d" % n * 200_000], compress=wide.compress)) for n in range(4)]
    for name, body in DOCUMENTS.items():
        for tag in ("1", "2"):
            kind = OCI_INDEX if b'"manifests"' in body[:20] else OCI_MANIFEST
            faulty.documents[f"/v2/{name}/manifests/{tag}"] = (kind, body)
            references.append(f"{faulty.address}/{name}:{tag}")
    message = tmp_path / "message"
    command = [*PROGRAM, "--output", str(volume), "--platform", "linux/amd64", "--termination-log", str(message)]
    command += [part for reference in references for part in ("--image", reference)]
    memory = Settings.model_fields["builder_memory"].default
    assert memory.endswith("Mi")
    limited = ["sh", "-c", f'ulimit -d {int(memory[:-2]) * 1024} && exec "$@"', "sh", *command]
    done = subprocess.run(limited, env=environment(authority.ca_file), capture_output=True, text=True, check=False)
    assert message.exists(), done
    results = Outcome.from_termination_message(message.read_text()).images
    assert [i.reason for i in results[:4]] == [None] * 4, done.stdout
    assert {i.reason for i in results[4:]} == {Reason.UNSUPPORTED}, done.stdout
