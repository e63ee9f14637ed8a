# SPDX-License-Identifier: Apache-2.0
"""An ImageCache of public images becomes Available, and what it promises is on its volume: every byte checked by us
and by tools that are not ours, every image started by a real kubelet."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from imagecache_operator.api.reference import parse

from tests.support import volume_server
from tests.support.images import Image
from tests.support.kube import Cache, Kube, until
from tests.support.upstream import Upstream
from tests.support.volume_server import VolumeServer, config_and_diff_ids

BY_TAG = ("base/tools:1.0", "team/app:2.1", "team/web:zstd", "team/multi:1.0", "data/only:5")


@pytest.fixture(scope="module")
def references(upstream: Upstream) -> dict[str, str]:
    """By image name: all by tag, one of them once more by digest."""
    by_digest = f"{upstream.reference('team/app:2.1').rpartition(':')[0]}@{upstream.digest('team/app:2.1')}"
    return {**{name: upstream.reference(name) for name in BY_TAG}, "by-digest": by_digest}


@pytest.fixture(scope="module")
def available(kube: Kube, references: dict[str, str]) -> Iterator[Cache]:
    found = Cache(kube, "e2e-available")
    found.apply(references.values(), {"imageCacheSize": 23})
    try:
        found.wait_for("Available")
        yield found
    finally:
        found.delete()


@pytest.fixture(scope="module")
def server(available: Cache) -> Iterator[VolumeServer]:
    yield volume_server.serve(available)
    volume_server.remove_all(available.kube)


def _image(upstream: Upstream, name: str) -> Image:
    return upstream.images["team/app:2.1" if name == "by-digest" else name]


def test_status_names_every_digest_and_size(
    available: Cache, upstream: Upstream, references: dict[str, str],
) -> None:
    images = {i["reference"]: i for i in available.status["images"]}
    assert list(images) == list(references.values())
    for name, reference in references.items():
        assert images[reference]["state"] == "Pulled"
        assert images[reference]["digest"] == _image(upstream, name).digest
        # Decompressed layers, the config and a manifest or two: a little more than the layers alone.
        layers = _image(upstream, name).own.raw_size
        assert layers < images[reference]["size"] < layers + 64 * 1024


def test_conditions_events_and_columns_tell_it(available: Cache) -> None:
    assert available.condition("Ready")["status"] == "True"
    assert available.condition("Reconciling")["status"] == "False"
    assert available.condition("Stalled")["status"] == "False"
    kubectl = available.kube.cluster.kubectl
    kubectl("wait", "--for=condition=Ready", f"imagecache/{available.name}", "--timeout=5s")
    assert "6 images" in available.status["message"]
    reasons = {
        e["reason"] for e in available.kube.list("events", namespace="default")
        if e["involvedObject"]["name"] == available.name
    }
    assert {"BuilderPending", "Available"} <= reasons
    row = kubectl("get", "imc", available.name, "-o", "wide")
    assert row.splitlines()[0].split()[:6] == ["NAME", "PHASE", "IMAGES", "SIZE", "PROGRESS", "EXPIRES"]
    assert "Available" in row
    assert "100 %" in row


def test_volume_has_exactly_the_size_asked(available: Cache) -> None:
    assert available.volume()["spec"]["resources"]["requests"]["storage"] == "23Gi"
    assert available.volume()["status"]["phase"] == "Bound"


def test_builder_is_gone_and_was_only_one(available: Cache) -> None:
    until(lambda: not available.builders(), "the builder Pod is removed", 30)
    assert available.status["attempt"]["number"] == 1
    assert available.status["attempt"]["state"] == "Succeeded"


def test_every_blob_re_hashes(available: Cache) -> None:
    volume_server.check(available)


def test_skopeo_agrees_on_config_and_layers(
    server: VolumeServer, upstream: Upstream, references: dict[str, str],
) -> None:
    """Asked twice by a tool that is not ours: at the upstream registry, and at a plain one on the volume."""
    with server.from_host() as address:
        for name, reference in references.items():
            image = _image(upstream, name)
            there = config_and_diff_ids(
                f"{upstream.address}/{image.repository}", f"@{image.digest}",
                f"--cert-dir={upstream.authority.ca_file.parent}",
            )
            stored = parse(reference)
            here = config_and_diff_ids(
                f"{address}/{stored.stored_repository}", f":{stored.stored_tag}", "--tls-verify=false",
            )
            assert here == there == (image.own.config.digest, list(image.own.diff_ids)), name


def test_kubelets_start_a_pod_from_each_image(
    server: VolumeServer, available: Cache, references: dict[str, str],
) -> None:
    nodes = available.kube.cluster.nodes
    for number, reference in enumerate(references.values()):
        server.start_pod(f"e2e-from-cache-{number}", reference, nodes[number % len(nodes)])


def test_an_idle_cache_is_not_written_to(available: Cache) -> None:
    """Wake it by a label, which is no edit of the spec: nothing may change but that."""
    before = available.object
    available.kube.cluster.kubectl("label", "imagecache", available.name, "touched=yes", "--overwrite")
    after = available.object
    assert before is not None
    assert after is not None
    assert after["status"] == before["status"]
    assert not [key for key in after["metadata"].get("annotations", {}) if key.startswith("imagecache.dev/kopf")]


def test_images_cannot_be_edited_yet(make_cache: Callable[..., Cache], available: Cache) -> None:
    said = available.kube.cluster.engine.run(
        "kubectl", "--kubeconfig", str(available.kube.cluster.kubeconfig), "patch", "imagecache", available.name,
        "--type=merge", "-p", '{"spec": {"images": ["busybox"]}}', check=False,
    )
    assert "patched" not in said
    assert available.status["phase"] == "Available"
