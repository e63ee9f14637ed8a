# SPDX-License-Identifier: Apache-2.0
"""Makes kind's node image for machines that can't pull kindest/node. Called by `life`, only with our own engine.

Debian plus kind's base files plus our binaries (images/node/Dockerfile), and in its containerd the images that a fresh
cluster runs, so that a node pulls nothing.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from . import cache
from .base_images import PREFIX, SOURCES, BaseImages, context
from .binaries import Binaries, copy_into, kind_base_files
from .progress import Progress
from .releases import Release

KUBERNETES = "registry.k8s.io"
WITHOUT_IMAGES = f"{PREFIX}/node-without-images:building"
IPTABLES = f"{PREFIX}/iptables:building"
CONTAINER = "imagecache-bake"
ON_PATH = {
    "usr/bin": ("kubelet", "kubeadm", "kubectl"),
    "usr/local/bin": ("containerd", "containerd-shim-runc-v2", "ctr"),
}


class NodeImage:
    def __init__(self, base: BaseImages, binaries: Binaries, release: Release, progress: Progress) -> None:
        self._base, self._binaries, self._release, self._progress = base, binaries, release, progress
        sources = (*sorted(SOURCES.glob("*.Dockerfile")), SOURCES / "runc-clamp", SOURCES / "node", Path(__file__))
        stamp = cache.stamp(base.debian_stamp, binaries.stamp, release.etcd, release.coredns, release.pause, *sources)
        self.reference = f"{PREFIX}/node-{release.kubernetes}:{stamp}"

    def ensure(self) -> None:
        self._base.make(self.reference, f"the node image for Kubernetes {self._release.kubernetes}", self._make)

    def _make(self) -> None:
        docker = self._base.engine.docker
        with context() as folder:
            self._lay_out(folder)
            self._base.on_debian(WITHOUT_IMAGES, folder, SOURCES / "node" / "Dockerfile")
        images = self._make_pod_images()
        with context() as folder:
            self._bake(images, folder / "images.tar")
        docker("rmi", WITHOUT_IMAGES, IPTABLES, *images, check=False)
        docker("image", "prune", "--force")  # the first stages of our Dockerfiles

    def _lay_out(self, folder: Path) -> None:
        """The build's context: one folder for each COPY of the Dockerfile."""
        files = kind_base_files()
        for file in (path for path in files.rglob("*") if path.is_file()):
            target = folder / "kind-base-files" / file.relative_to(files)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)  # not the module cache's read-only mode
        for place, programs in ON_PATH.items():
            copy_into(folder / place, *(self._binaries[program] for program in programs))
        (folder / "usr/local/sbin").mkdir()
        shutil.copy2(SOURCES / "runc-clamp", folder / "usr/local/sbin/runc")
        copy_into(folder / "manifests", SOURCES / "node" / "default-storage.yaml")
        (folder / "version").write_text(self._release.kubernetes)

    def _make_pod_images(self) -> list[str]:
        """The images that a fresh cluster runs, under the names that kubeadm and our manifest ask for."""
        release = self._release
        control_plane = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
        programs = {f"{KUBERNETES}/{program}:{release.kubernetes}": program for program in control_plane} | {
            f"{KUBERNETES}/etcd:{release.etcd}": "etcd",
            f"{KUBERNETES}/coredns/coredns:{release.coredns}": "coredns",
            f"{KUBERNETES}/pause:{release.pause}": "pause",
            f"{KUBERNETES}/pause:3.10": "pause",  # what kind's containerd configuration names
            f"{PREFIX}/local-path-provisioner:built": "local-path-provisioner",
        }
        for reference, program in programs.items():
            self._base.with_program(program, reference)
        proxy = f"{KUBERNETES}/kube-proxy:{release.kubernetes}"
        helper = f"{PREFIX}/local-path-helper:built"
        with context() as empty:
            self._base.on_debian(IPTABLES, empty, SOURCES / "kube-proxy.Dockerfile")
            self._base.on_debian(helper, empty, SOURCES / "local-path-helper.Dockerfile")
        self._base.with_program("kube-proxy", proxy, base=IPTABLES)
        return [*programs, helper, proxy]

    def _bake(self, images: list[str], archive: Path) -> None:
        docker = self._base.engine.docker
        self._base.docker("collecting the cluster's images", "save", "--output", str(archive), *images)
        docker("rm", "--force", CONTAINER, check=False)  # of a build that was killed
        mounts = ("--volume", f"{archive}:/images.tar:ro", "--volume", f"{SOURCES}/node/bake.sh:/bake.sh:ro")
        command = ("run", "--name", CONTAINER, *mounts, "--entrypoint", "/bake.sh", WITHOUT_IMAGES)
        self._base.docker("putting them into the node image", *command)
        # The container ran something else: give the image back what it starts.
        start = ("--change", 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]', "--change", "CMD []")
        docker("commit", *start, CONTAINER, self.reference)
        docker("rm", CONTAINER)
