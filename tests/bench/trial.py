# SPDX-License-Identifier: Apache-2.0
"""One run of the builder, or of the tool that people would use otherwise, as a command, and what it took.

Called by `builder`, which compares runs. Every volume is read again and checked, outside of what is timed: a fast
builder that writes something else is none.
"""

from __future__ import annotations

import compileall
import contextlib
import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imagecache_operator import names
from imagecache_operator.api.job import WORKERS, StoredAs
from imagecache_operator.builder.check import check

from tests.cluster.progress import tail
from tests.support import programs
from tests.support.install import REPOSITORY
from tests.support.kube import until
from tests.support.registry_process import RegistryProcess

from .dataset import Dataset
from .traffic import Traffic

METER = Path(__file__).with_name("metered.py")


@dataclass(frozen=True)
class Run:
    """What a run took, and what came of it."""

    seconds: float
    cpu: float  # seconds of processor time
    peak: int  # bytes of memory
    stored: int  # bytes of all files afterwards
    fetched: int = 0  # bytes of blobs, as the registry has sent them


class Trials:
    """Everything that runs have in common. `folder` is for small files."""

    def __init__(self, dataset: Dataset, registry: RegistryProcess, traffic: Traffic, folder: Path) -> None:
        self.dataset = dataset
        self.registry = registry
        self.traffic = traffic
        self._folder = folder
        # As in its image. Otherwise each run would compile what has changed, where Python is told to keep no bytecode.
        if not compileall.compile_dir(REPOSITORY / "operator" / "imagecache_operator", quiet=1):
            raise AssertionError("the builder does not compile")

    def build(
        self, volume: Path, form: StoredAs, *, altered: str | None = None, workers: int = WORKERS, cores: int = 0,
        address: str | None = None,
    ) -> Run:
        """The builder, with all images; `altered` names an alteration, `address` another way to the registry."""
        began = self.traffic.now()
        run = self._run(volume, form, altered, workers=workers, cores=cores, address=address)
        return self._checked(run, volume, began)

    def build_after_a_kill(self, volume: Path, form: StoredAs) -> Run:
        """The attempt that follows one that was killed halfway; `fetched` is of both."""
        began, half = self.traffic.now(), self.dataset.compressed // 2
        self._run(volume, form, f"killed-at={half}", expected=-signal.SIGKILL)
        return self._checked(self._run(volume, form), volume, began)

    def skopeo(self, folder: Path, form: StoredAs) -> Run:
        """skopeo's nearest to that form, image by image, as scripts do it."""
        blobs = ["--dest-shared-blob-dir", str(folder / "blobs")]
        kind, options = {StoredAs.DECOMPRESSED: ("dir", ["--dest-decompress"]), StoredAs.ORIGINAL: ("oci", blobs)}[form]
        trust = ["--src-cert-dir", str(self.registry.authority.ca_file.parent)]
        copies = [
            [programs.skopeo(), "copy", "--quiet", *trust, *options,
             f"docker://{self.registry.address}/{name}", f"{kind}:{folder}/{number}"]
            for number, name in enumerate(self.dataset.images)
        ]
        return self._metered(["sh", "-c", " && ".join(map(shlex.join, copies))], folder)

    def blobs(self, volume: Path) -> Iterator[Path]:
        """The files of all blobs of a volume that the builder has left."""
        return volume.glob("docker/registry/v2/blobs/sha256/*/*/data")

    def _run(
        self, volume: Path, form: StoredAs, altered: str | None = None, *, workers: int = WORKERS, cores: int = 0,
        address: str | None = None, expected: int = 0,
    ) -> Run:
        program = ["tests.bench.altered", altered] if altered else ["imagecache_operator.builder.command"]
        images = [f"--image={address or self.registry.address}/{name}" for name in self.dataset.images]
        return self._metered([
            sys.executable, "-m", *program, *images, "--output", str(volume), "--stored-as", form,
            "--workers", str(workers), "--log-format", "json", "--termination-log", os.devnull,
        ], volume, cores, expected)

    def _metered(self, command: Sequence[str], result: Path, cores: int = 0, expected: int = 0) -> Run:
        report, log = self._folder / "report.json", self._folder / "output.log"
        environment = {
            **os.environ,
            "PYTHONPATH": f"{REPOSITORY / 'operator'}:{REPOSITORY}",
            names.ENV_CA_FILE: str(self.registry.authority.ca_file),
        }
        with log.open("wb") as output:
            subprocess.run(
                [sys.executable, "-IS", str(METER), str(report), str(cores), *command],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, cwd=REPOSITORY, check=True,
            )
        took = json.loads(report.read_text())
        if took["status"] != expected:
            raise AssertionError(f"{shlex.join(command)}: ended with {took['status']}:\n{tail(log)}")
        return Run(took["seconds"], took["cpu"], took["peak"], _bytes_below(result))

    def _checked(self, run: Run, volume: Path, began: int) -> Run:
        if problems := check(volume):
            raise AssertionError(f"the builder left a volume that is not sound: {problems[:3]}")
        # A registry logs an answer when it has ended, which its reader may see a moment earlier.
        wanted = {layer.digest for layer in self.dataset.layers}
        until(lambda: wanted <= self.traffic.since(began).keys(), "the registry has logged every layer", 10)
        sent = self.traffic.since(began)
        return dataclasses.replace(run, fetched=sum(sent[digest] for digest in wanted))


@contextlib.contextmanager
def new_volume(place: Path) -> Iterator[Path]:
    """An empty folder, gone after the block: volumes of all runs together would fill any memory."""
    with tempfile.TemporaryDirectory(prefix="imagecache-bench-", dir=place) as folder:
        yield Path(folder)


def _bytes_below(folder: Path) -> int:
    return sum(
        os.lstat(os.path.join(place, name)).st_size for place, _, files in os.walk(folder) for name in files
    )
