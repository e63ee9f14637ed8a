# SPDX-License-Identifier: Apache-2.0
"""A volume whose file system is smaller than its claim says, and belongs to root: the cache fails with what to do, the
node is unharmed, and with more room a new attempt fetches what is missing.

The default class enforces no size, so the volume is an ext4 of its own: a file on a node, mounted through a loop
device, offered as a `local` PersistentVolume of a class that nobody else asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support import volume_server
from tests.support.kube import Cache, Kube, until
from tests.support.upstream import Upstream

NAME = "e2e-full-volume"
SIZE, TAKEN = "60M", "28M"  # what is left is enough for both images as they come, and for one of them unpacked
FITS, TOO_LARGE = "base/tools:1.0", "team/app:2.1"

# A node's /dev is a copy of the machine's, made when the node was; loop devices that came later are made here.
_MOUNT = f"""
[ -e /dev/loop-control ] || {{ modprobe loop; mknod -m 600 /dev/loop-control c 10 237; }}
for number in {{0..63}}; do [ -e /dev/loop$number ] || mknod -m 600 /dev/loop$number b 7 $number; done
mkdir -p /var/{NAME}/disk
cd /var/{NAME}
truncate -s {SIZE} image
mkfs.ext4 -q -m 0 image
mount -o loop image disk
fallocate -l {TAKEN} disk/somebody-elses
"""
_REMOVE = f"""
! mountpoint -q /var/{NAME}/disk || umount /var/{NAME}/disk
rm -rf /var/{NAME}
"""


@dataclass(frozen=True)
class Disk:
    """The file system on its node, and what offers it to the cluster."""

    kube: Kube
    node: str

    def make(self) -> None:
        self.on_node(_MOUNT)
        self.kube.apply({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": NAME},
            "provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer",
        })
        here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [self.node]}
        self.kube.apply({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": NAME},
            "spec": {
                "storageClassName": NAME, "capacity": {"storage": "20Gi"}, "accessModes": ["ReadWriteOnce"],
                "persistentVolumeReclaimPolicy": "Retain", "local": {"path": f"/var/{NAME}/disk"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            },
        })

    def remove(self) -> None:
        """Also right when there is none, or half of one."""
        self.kube.delete("persistentvolume", NAME)
        self.kube.delete("storageclass", NAME)
        self.on_node(_REMOVE)

    def on_node(self, script: str) -> str:
        return self.kube.cluster.on_node(self.node, script)

    def list(self, kind: str) -> set[str]:
        """Owner, group and mode of everything of that kind (find's -type) that the builder has made."""
        return set(self.on_node(f"cd /var/{NAME}/disk && find docker -type {kind} -printf '%U:%G %m\\n'").splitlines())


@pytest.fixture(scope="module")
def disk(kube: Kube) -> Iterator[Disk]:
    disk = Disk(kube, kube.cluster.nodes[-1])
    _remove(disk)  # of a run that was cut off
    disk.make()
    try:
        yield disk
    finally:
        _remove(disk)


def _remove(disk: Disk) -> None:
    volume_server.remove_all(disk.kube)
    Cache(disk.kube, NAME).delete()
    disk.remove()


@pytest.fixture(scope="module")
def full(disk: Disk, upstream: Upstream) -> Cache:
    assert disk.on_node(f"stat --format %u:%g:%a /var/{NAME}/disk").strip() == "0:0:755"
    cache = Cache(disk.kube, NAME)
    cache.apply([upstream.reference(FITS), upstream.reference(TOO_LARGE)], {"storageClassName": NAME})
    cache.wait_for("Failed")
    return cache


def test_it_says_that_the_volume_is_full_and_what_to_do(full: Cache, upstream: Upstream) -> None:
    assert full.volume()["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert full.condition("Ready")["reason"] == "NoSpaceLeft"
    assert full.condition("Stalled")["status"] == "True"
    message = full.status["message"]
    assert upstream.reference(TOO_LARGE) in message
    assert "imageCacheSize" in message
    states = {i["reference"]: (i["state"], i.get("reason")) for i in full.status["images"]}
    assert states == {
        upstream.reference(FITS): ("Pulled", None), upstream.reference(TOO_LARGE): ("Failed", "NoSpaceLeft"),
    }


def test_the_node_is_unharmed(full: Cache, disk: Disk) -> None:
    until(lambda: not full.builders(), "the builder Pod is removed", 30)
    node = disk.kube.get("node", disk.node)
    assert node is not None
    conditions = {condition["type"]: condition["status"] for condition in node["status"]["conditions"]}
    assert (conditions["Ready"], conditions["DiskPressure"]) == ("True", "False")
    assert "taints" not in node["spec"]


@pytest.fixture(scope="module")
def made_room(full: Cache, disk: Disk, upstream: Upstream) -> list[str]:
    """Somebody has made room and asked again. What the attempt asked the registry for."""
    before = len(upstream.access_log())
    disk.on_node(f"rm /var/{NAME}/disk/somebody-elses")
    full.annotate("imagecache.dev/retry=with-more-room")
    full.wait_for("Available")
    return upstream.access_log()[before:]


def test_with_more_room_it_fetches_what_is_missing(made_room: list[str], full: Cache, upstream: Upstream) -> None:
    assert full.status["attempt"]["number"] == 2
    images = upstream.images[FITS], upstream.images[TOO_LARGE]
    asked = {digest for image in images for digest in image.own.layer_digests for line in made_room if digest in line}
    assert images[1].own.layer_digests[-1] in asked, "the layer that did not fit"
    assert not asked & set(images[0].own.layer_digests)
    volume_server.check(full)


@pytest.mark.usefixtures("made_room")
def test_everybody_can_read_what_the_builder_wrote(full: Cache, disk: Disk, upstream: Upstream) -> None:
    assert disk.list("f") == {"65534:65534 644"}
    # The kubelet has given the volume to the Pod's group, and new folders inherit that.
    assert disk.list("d") == {"65534:65534 2755"}
    volume_server.serve(full).start_pod("e2e-from-full-volume", upstream.reference(TOO_LARGE), disk.node)
