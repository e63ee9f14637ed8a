# SPDX-License-Identifier: Apache-2.0
"""Whoever may not use a private cache does not get its images, whatever he tries."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from imagecache_operator import names

from tests.support import cold_node, pods
from tests.support.kube import NAMESPACE, Cache, Kube, Object, until
from tests.support.starts import volumes
from tests.support.upstream import Upstream

from .private import (
    CACHE,
    OTHER,
    OTHERS_IMAGE,
    OURS,
    SECRET,
    THEIRS,
    address,
    allow,
    answer,
    carrier,
    login,
    make_namespace,
    refused,
    told,
    works,
)


def test_another_namespace_asks_by_name(image: str, make: Callable[..., Object], kube: Kube) -> None:
    manifest, nowhere = make(image, THEIRS, cache=CACHE), make(image, THEIRS, cache="no-such-cache")
    refused(kube, manifest)
    assert volumes(pods.running(kube, manifest)) == []
    assert told(kube, manifest).replace(CACHE, "X") == told(kube, nowhere).replace("no-such-cache", "X"), (
        "whoever may not use it does not learn that it is there"
    )


def test_another_namespace_asks_for_the_best_one(
    image: str, other: Cache, make: Callable[..., Object], kube: Kube,
) -> None:
    manifest = make(image, THEIRS, cache="auto")
    refused(kube, manifest)
    assert volumes(pods.running(kube, manifest)) == []
    assert CACHE not in told(kube, manifest).replace(OTHER, "")


def test_a_copied_annotation(image: str, private: Cache, make: Callable[..., Object], kube: Kube) -> None:
    marks = {
        "annotations": {names.ANNOTATION_INJECTED: CACHE}, "labels": {names.LABEL_INJECTED_FROM: private.uid},
    }
    manifest = make(image, THEIRS, metadata=marks)
    refused(kube, manifest)
    assert volumes(pods.running(kube, manifest)) == []


def test_a_copied_pod(image: str, private: Cache, make: Callable[..., Object], kube: Kube) -> None:
    """With the volume and the Secret's name, in a namespace whose Secret of that name is for another cache."""
    reference = f"{address(private)}/{carrier(private)}"
    copied = [{"name": "imagecache-0", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}]
    manifest = make(image, THEIRS, volumes=copied, imagePullSecrets=[{"name": SECRET}])
    refused(kube, manifest)
    assert not cold_node.knows(kube.cluster, kube.cluster.nodes[0], re.escape(reference))


@pytest.mark.parametrize("where", ["image", "volume"])
def test_a_direct_reference(
    where: str, image: str, private: Cache, upstream: Upstream, make: Callable[..., Object], kube: Kube,
) -> None:
    """A guessed name at a guessed port."""
    direct = f"{address(private)}/{image.replace(':', '_', 1)}"
    if where == "image":
        manifest = make(direct, THEIRS)
    else:
        manifest = make(upstream.reference(OTHERS_IMAGE), THEIRS, mounts=direct)
    refused(kube, manifest)
    assert not cold_node.knows(kube.cluster, kube.cluster.nodes[0], re.escape(direct))


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "manifest", "blob"])
def test_a_guessed_port(path: str, private: Cache, kube: Kube) -> None:
    repository, _, digest = carrier(private).partition("@")
    url = address(private) + {
        "manifest": f"/v2/{repository}/manifests/{digest}", "blob": f"/v2/{repository}/blobs/{digest}",
    }.get(path, path)
    assert answer(kube, url) == "401"
    assert answer(kube, url, login(kube, OURS, private)) in ("200", "404")


@pytest.mark.parametrize("reached", ["by its Pod", "by its Service"])
def test_past_the_port(reached: str, private: Cache, kube: Kube) -> None:
    name = private.status["server"]["name"]
    if reached == "by its Service":
        ip = (kube.get("service", name) or {})["spec"]["clusterIP"]
    else:
        selector = f"{names.LABEL_CACHE}={private.uid},{names.LABEL_COMPONENT}={names.COMPONENT_SERVER}"
        ip = kube.list("pods", selector)[0]["status"]["podIP"]
    assert answer(kube, f"{ip}:5000/v2/") == "401"


def test_another_caches_password(private: Cache, other: Cache, kube: Kube) -> None:
    user = works(kube, THEIRS, other)
    assert login(kube, THEIRS, private) is None
    assert answer(kube, f"{address(private)}/v2/", user) == "401"


def test_a_password_under_another_name(private: Cache, kube: Kube) -> None:
    user, _, password = works(kube, OURS, private).partition(":")
    assert answer(kube, f"{address(private)}/v2/", f"{user.replace(OURS, THEIRS)}:{password}") == "401"
    assert answer(kube, f"{address(private)}/v2/", f"{user}:{password[:-1]}") == "401"


def test_a_password_to_read_writes_nothing(private: Cache, kube: Kube) -> None:
    user, (repository, _, digest) = works(kube, OURS, private), carrier(private).partition("@")
    base = f"{address(private)}/v2/{repository}"
    assert answer(kube, f"{base}/manifests/{digest}", user, "-X", "DELETE") == "405"
    assert answer(kube, f"{base}/blobs/uploads/", user, "-X", "POST") == "405"


@pytest.mark.parametrize("what", ["its image", "its carrier"])
def test_a_warm_node(
    what: str, image: str, private: Cache, upstream: Upstream, make: Callable[..., Object], kube: Kube,
) -> None:
    """All is on the node, for us. They have no Secret for it, and kubelet asks for one."""
    ours = make(image, OURS, cache=CACHE, imagePullSecrets=[{"name": "regcred"}])
    pods.runs(kube, ours)
    reference = f"{address(private)}/{carrier(private)}"
    assert cold_node.knows(kube.cluster, kube.cluster.nodes[0], re.escape(reference))
    if what == "its image":
        refused(kube, make(image, THEIRS))
        return
    refused(kube, make(upstream.reference(OTHERS_IMAGE), THEIRS, mounts=reference))


def test_after_the_right_was_taken_back(other: Cache, image: str, make: Callable[..., Object], kube: Kube) -> None:
    allow(other, [THEIRS, OURS])
    user = works(kube, OURS, other)
    allow(other, [THEIRS])
    until(lambda: answer(kube, f"{address(other)}/v2/", user) == "401", "the password is dead", 100)
    assert login(kube, OURS, other) is None
    manifest = make("registry.test:5000/base/tools:1.0", OURS, cache=OTHER)
    pods.runs(kube, manifest)
    assert volumes(pods.running(kube, manifest)) == []


def test_a_namespace_of_the_same_name(other: Cache, kube: Kube) -> None:
    """Whoever gets the name of a namespace that is gone gets another password, and the old one is dead."""
    space = "e2e-access-again"
    allow(other, [THEIRS, space])
    try:
        make_namespace(kube, space)
        before = works(kube, space, other)
        kube.cluster.kubectl("delete", "namespace", space, "--timeout=60s")
        make_namespace(kube, space)
        after = works(kube, space, other)
        assert after != before
        assert answer(kube, f"{address(other)}/v2/", before) == "401"
    finally:
        kube.cluster.kubectl("delete", "namespace", space, "--wait=false")
        allow(other, [THEIRS])


def test_the_operator_may_write_secrets_of_no_other_name_elsewhere(kube: Kube, spaces: None) -> None:
    def may(verb: str, secret: str) -> str:
        account = f"system:serviceaccount:{NAMESPACE}:imagecache-operator"
        return kube.cluster.kubectl(
            "-n", OURS, "auth", "can-i", verb, f"secrets/{secret}", f"--as={account}", check=False,
        ).strip().splitlines()[-1]

    for verb in ("create", "patch", "delete"):
        assert (may(verb, SECRET), may(verb, "regcred")) == ("yes", "no"), verb
