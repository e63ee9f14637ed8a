# SPDX-License-Identifier: Apache-2.0
"""Makes the base images that a machine with its own engine can't pull: for `docker build` and for companions.

Called by `life` and, for its first layers, by `node_image`. One debootstrap, everything else is a Dockerfile below
images/. An image's tag is the stamp of all that went into it, and a tag appears only when the build is complete:
what is present is right.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import cache, here
from .binaries import Binaries, copy_into
from .engine import Engine
from .progress import ClusterError, Progress

SOURCES = cache.HERE / "images"
SUITE = "bookworm"
PREFIX = "imagecache.test"  # a name that no registry answers to: a pull by mistake fails at once
NOT_NEEDED = ("var/lib/apt/lists", "var/cache/apt", "usr/share/man", "usr/share/info", "usr/share/locale")
PROGRAM = """\
FROM {base}
COPY {program} /usr/local/bin/{program}
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ENTRYPOINT ["/usr/local/bin/{program}"]
"""


class BaseImages:
    """Every image under its stamped reference; `ensure` builds those that are missing."""

    def __init__(self, engine: Engine, binaries: Binaries, progress: Progress) -> None:
        self.engine, self._binaries, self._progress = engine, binaries, progress
        self.debian_stamp = cache.stamp(SUITE, SOURCES / "debian", *NOT_NEEDED)
        self._debian = f"{PREFIX}/debian:{self.debian_stamp}"
        # This machine's certificates change more often than anything else here. What is built with their help, but
        # has no use for them afterwards (the node image), goes by `debian_stamp`.
        self._debian_here = f"{PREFIX}/debian-here:{cache.stamp(self._debian, *here.files().values())}"
        self.python = f"{PREFIX}/python:{cache.stamp(self._debian_here, SOURCES / 'python')}"
        registry, pause = (binaries[program].parent.name for program in ("registry", "pause"))
        self.registry = f"{PREFIX}/registry:{cache.stamp(SOURCES / 'registry', registry)}"
        self.pause = f"{PREFIX}/pause:{cache.stamp(PROGRAM, pause)}"

    def ensure(self) -> None:
        self.make(self.registry, "the registry image", self._make_registry)
        self.make(self.pause, "the pause image", lambda: self.with_program("pause", self.pause))
        self.make(self.python, "the Python base image", self._make_python)

    def on_demand(self, program: str) -> str:
        """The image of one program that no cluster needs; its binary is there. Its reference."""
        reference = f"{PREFIX}/{program}:{cache.stamp(PROGRAM, self._binaries[program].parent.name)}"
        self.make(reference, f"the {program} image", lambda: self.with_program(program, reference))
        return reference

    def make(self, reference: str, text: str, build: Callable[[], None]) -> None:
        if not self.engine.has_image(reference):
            self._progress.note(f"making {text}")
            build()

    def docker(self, text: str, *args: str) -> None:
        """Like `engine.docker`, for commands that take so long that somebody may wonder."""
        log = cache.home() / "logs" / f"docker-{args[0]}.log"
        self._progress.run(text, ["docker", *args], log, env=self.engine.full_environment())

    def on_debian(self, reference: str, folder: Path, dockerfile: Path) -> None:
        """Builds a Dockerfile that starts with `FROM ${DEBIAN}`."""
        self.make(self._debian_here, "this machine's Debian image", self._make_debian_here)
        arguments = ("--build-arg", f"DEBIAN={self._debian_here}", "--file", str(dockerfile))
        self.docker(f"building {reference}", "build", "--tag", reference, *arguments, str(folder))

    def with_program(self, program: str, reference: str, base: str = "scratch") -> None:
        """Builds an image with one static program, which is also its entrypoint."""
        with context() as folder:
            copy_into(folder, self._binaries[program])
            (folder / "Dockerfile").write_text(PROGRAM.format(base=base, program=program))
            self.engine.build(reference, folder)

    def _make_debian(self) -> None:
        with context() as folder:
            root = folder / "root"
            # debootstrap mounts /proc in there: in a mount namespace of its own, that can't be left behind.
            command = ["unshare", "--mount", "debootstrap", "--variant=minbase", "--include=ca-certificates"]
            log = cache.home() / "logs" / "debootstrap.log"
            environment = self.engine.full_environment()
            self._progress.run(f"installing Debian {SUITE}", [*command, SUITE, str(root)], log, environment)
            for path in NOT_NEEDED:
                for entry in (root / path).iterdir():
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            for file in (path for path in (SOURCES / "debian").rglob("*") if path.is_file()):
                copy_into(root / file.relative_to(SOURCES / "debian").parent, file)
            archive = folder / "root.tar"
            subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
            self.docker("importing it", "import", str(archive), self._debian)

    def _make_debian_here(self) -> None:
        self.make(self._debian, "the Debian image", self._make_debian)
        with context() as folder:
            for path, content in here.files().items():
                target = folder / "root" / path.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(content)
            (folder / "Dockerfile").write_text(f"FROM {self._debian}\nCOPY root/ /\n")
            self.engine.build(self._debian_here, folder)

    def _make_python(self) -> None:
        self.on_debian(self.python, SOURCES / "python", SOURCES / "python" / "Dockerfile")
        # Found out now, not by the first person who builds the product: can a build reach the package index?
        check = "pip download --quiet --no-deps --dest /tmp six"
        try:
            self.engine.docker("run", "--rm", self.python, "sh", "-c", check)
        except ClusterError as error:
            self._progress.note(f"WARNING: pip reaches no package index from a container: {error}")

    def _make_registry(self) -> None:
        with context() as folder:
            copy_into(folder, self._binaries["registry"], *(SOURCES / "registry").iterdir())
            self.engine.build(self.registry, folder)


@contextmanager
def context() -> Iterator[Path]:
    """A temporary folder in the cache (not in /tmp, which may be small): a build's context."""
    with tempfile.TemporaryDirectory(dir=cache.home(), prefix=".context-") as folder:
        yield Path(folder)
