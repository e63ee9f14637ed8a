# SPDX-License-Identifier: Apache-2.0
"""Builds the cluster's programs from published Go modules, where no engine can pull their images.

Called by the images (what goes into them) and `life` (kind and kubectl for this machine). The go.mod and go.sum
files below go/ pin every version; nothing but the ordinary Go module proxy is asked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import cache
from .progress import ClusterError, Progress
from .releases import Release

FLAGS = {"GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly"}


@dataclass(frozen=True)
class Family:
    """The programs of one Go module, built and kept together."""

    module: str  # folder below go/
    packages: dict[str, str]  # program → package
    tags: str = ""
    variables: tuple[tuple[str, str], ...] = ()  # -X name=value: else the programs lie about their version

    @property
    def folder(self) -> Path:
        source = cache.HERE / "go" / self.module
        stamp = cache.stamp(source, repr(self), repr(FLAGS))
        return cache.home() / "binaries" / f"{self.module}-{stamp}"

    def build(self, program: str, target: Path, progress: Progress, text: str) -> None:
        variables = " ".join(f"-X {name}={value}" for name, value in self.variables)
        command = ["go", "build", "-trimpath", "-ldflags", f"-s -w {variables}", "-o", str(target / program)]
        if self.tags:
            command += ["-tags", self.tags]
        log = cache.home() / "logs" / f"build-{program}.log"
        source = cache.HERE / "go" / self.module
        progress.run(text, [*command, self.packages[program]], log, env=os.environ | FLAGS, cwd=source)


def _kubernetes(release: Release) -> Family:
    programs = ("kube-apiserver", "kubectl", "kubelet", "kube-controller-manager", "kube-scheduler")
    minor = release.kubernetes.split(".")[1]
    stamped = {
        **{"gitVersion": release.kubernetes, "gitMajor": "1", "gitMinor": minor, "gitTreeState": "clean"},
        **{"gitCommit": "published-module", "buildDate": "1970-01-01T00:00:00Z"},
    }
    places = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return Family(
        release.go_module,
        {name: f"k8s.io/kubernetes/cmd/{name}" for name in (*programs, "kube-proxy", "kubeadm")},
        variables=tuple((f"{place}.{name}", value) for place in places for name, value in stamped.items()),
    )


KIND = Family("kind", {"kind": "sigs.k8s.io/kind"})
CONTAINERD = Family(
    "containerd",
    {
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
    tags="no_btrfs,no_zfs,no_devmapper,urfave_cli_no_docs",  # what needs C libraries, and what nobody uses here
    variables=(("github.com/containerd/containerd/v2/version.Version", "v2.3.7"),),
)
OTHERS = (
    Family("etcd", {"etcd": "go.etcd.io/etcd/server/v3"}),
    Family("coredns", {"coredns": "github.com/coredns/coredns"}),
    Family("local-path", {"local-path-provisioner": "github.com/rancher/local-path-provisioner"}),
    Family("registry", {"registry": "github.com/distribution/distribution/v3/cmd/registry"}),
    Family("pause", {"pause": "."}),
)
# No cluster needs them: built for who asks (`build_one`), and nobody else waits. Traefik: the newest release whose
# modules can all be had of the module proxy; its go.mod has the replacements of Traefik's own, which do not come along.
ON_DEMAND = (Family("traefik", {"traefik": "github.com/traefik/traefik/v3/cmd/traefik"}),)


class Binaries:
    """All programs for one release, each built when it isn't in the cache."""

    def __init__(self, release: Release) -> None:
        self._kubernetes = _kubernetes(release)
        self._families = (KIND, self._kubernetes, CONTAINERD, *OTHERS)

    @property
    def stamp(self) -> str:
        return cache.stamp(*(family.folder.name for family in self._families))

    @property
    def path(self) -> str:
        """For PATH: the folders with kind and kubectl."""
        return f"{KIND.folder}:{self._kubernetes.folder}"

    def __getitem__(self, program: str) -> Path:
        return self._family(program).folder / program

    def build(self, progress: Progress) -> None:
        self._build(self._families, progress)

    def build_one(self, program: str, progress: Progress) -> Path:
        """That program and what is built with it; for those who need no cluster."""
        family = self._family(program)
        self._build((family,), progress)
        return family.folder / program

    def _family(self, program: str) -> Family:
        return next(family for family in (*self._families, *ON_DEMAND) if program in family.packages)

    @staticmethod
    def _build(families: tuple[Family, ...], progress: Progress) -> None:
        total = sum(len(family.packages) for family in families)
        done = 0
        for family in families:
            if family.folder.is_dir():
                done += len(family.packages)
                continue
            family.folder.parent.mkdir(exist_ok=True)
            with cache.new_folder(family.folder) as target:
                for program in family.packages:
                    done += 1
                    family.build(program, target, progress, f"building {program} ({done}/{total})")


def kind_base_files() -> Path:
    """kind's own files for node images, out of its published Go module: we copy none of them."""
    command = ["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kind"]
    source = cache.HERE / "go" / "kind"
    done = subprocess.run(command, cwd=source, env=os.environ | FLAGS, capture_output=True, text=True, check=False)
    files = Path(done.stdout.strip()) / "images" / "base" / "files"
    if done.returncode != 0 or not files.is_dir():
        raise ClusterError(f"kind's Go module can't be found: {done.stderr.strip()}")
    return files


def copy_into(folder: Path, *sources: Path) -> None:
    """Copies files into a build's context, readable for all: a strict umask at `git clone` must not get into images."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        target = folder / source.name
        shutil.copyfile(source, target)
        target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)
