# SPDX-License-Identifier: Apache-2.0
"""A cache of public images is served: every node pulls from it by a port of its own, whatever becomes of the server's
Pod; and nothing of the server is left when nobody wants it any more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.support import volume_server
from tests.support.audit import OPERATOR as ACCOUNT
from tests.support.audit import WRITES, AuditLog
from tests.support.kube import NAMESPACE, Cache, Kube, until
from tests.support.upstream import Upstream
from tests.support.volume_server import VolumeServer

TOOLS, APP = "base/tools:1.0", "team/app:2.1"
QUOTA = "e2e-node-ports"


@pytest.fixture(scope="module")
def served(kube: Kube, upstream: Upstream) -> Iterator[Cache]:
    with Cache(kube, "e2e-served").served([upstream.reference(TOOLS), upstream.reference(APP)]) as found:
        yield found


def is_not_served(cache: Cache, reason: str, *words: str) -> None:
    def told() -> bool:
        served = cache.condition("Served")
        return served.get("reason") == reason and all(word in served["message"] for word in words)

    until(told, f"{cache.name} is not served: {reason}", 60, lambda: str(cache.status))


def server_objects(cache: Cache, uid: str) -> list[str]:
    return [f"{c['kind']} {c['metadata']['name']}" for c in cache.children(uid)
            if c["metadata"]["labels"]["imagecache.dev/component"] == "server"]


def server_pod(cache: Cache) -> str:
    selector = f"imagecache.dev/cache-uid={cache.uid},imagecache.dev/component=server"
    pod, = (p for p in cache.kube.list("pods", selector) if "deletionTimestamp" not in p["metadata"])
    return str(pod["metadata"]["name"])


def test_every_node_pulls_from_it(served: Cache, upstream: Upstream) -> None:
    """The kubelet of each node takes each image, and starts a Pod of it."""
    server = served.status["server"]
    stored = VolumeServer(served.kube, server["name"], int(server["address"].removeprefix("localhost:")))
    try:
        for number, node in enumerate(served.kube.cluster.nodes):
            for image in (TOOLS, APP):
                stored.start_pod(f"e2e-served-{number}-{image[:4]}", upstream.reference(image), node)
    finally:
        volume_server.remove_all(served.kube)


def test_it_only_reads(served: Cache) -> None:
    address = served.status["server"]["address"]
    asked = f"curl -s -o /dev/null -w '%{{http_code}}' -X POST http://{address}/v2/some/image/blobs/uploads/"
    assert served.kube.cluster.on_node(served.kube.cluster.nodes[0], asked).strip() == "405"


def test_columns_tell_it(served: Cache) -> None:
    row = served.kube.cluster.kubectl("get", "imc", served.name, "-o", "wide").splitlines()
    assert "SERVED" in row[0].split()
    assert "true" in row[1].split()


def test_a_pod_that_is_killed_comes_back_under_the_same_port(served: Cache, upstream: Upstream) -> None:
    address, pod = served.status["server"]["address"], server_pod(served)
    served.kube.delete("pod", pod, NAMESPACE, "--grace-period=0", "--force")
    until(lambda: server_pod(served) != pod, "another Pod is made")
    node, asked = served.kube.cluster.nodes[-1], f"curl -sf --max-time 2 http://{address}/v2/ && echo yes || true"
    until(lambda: "yes" in served.kube.cluster.on_node(node, asked), "it answers at the same port", 60)
    assert served.wait_until_served()["address"] == address
    assert served.status["phase"] == "Available"


def test_a_server_that_rests_is_not_written_to(served: Cache) -> None:
    """Wake its owner by a label of the Deployment: a pass looks at everything, and writes nothing."""
    served.wait_until_served()
    log, began = AuditLog(served.kube.cluster.audit_log), datetime.now(UTC)
    name = served.status["server"]["name"]
    served.kube.cluster.kubectl("-n", NAMESPACE, "label", "deployment", name, "touched=yes", "--overwrite")

    # Each pass lists the nodes before it writes. When a second one does, all that the first wrote is in the log.
    for passes in (1, 2):
        label = f"touched=for-the-{passes}-time"
        served.kube.cluster.kubectl("-n", NAMESPACE, "label", "deployment", name, label, "--overwrite")
        until(
            lambda least=passes: sum(r.resource == "nodes" for r in log.requests(ACCOUNT, began)) >= least,  # type: ignore[misc]
            f"pass {passes} was made", 30,
        )
    mine = [r for r in log.requests(ACCOUNT, began) if r.verb in WRITES and r.name in (name, served.name)]
    assert mine == []


def test_an_edit_removes_it_and_brings_it_back(served: Cache) -> None:
    uid = served.uid
    served.edit(serve=False)
    is_not_served(served, "NotWanted")
    until(lambda: server_objects(served, uid) == [], "nothing of the server is left", 60,
          lambda: str(server_objects(served, uid)))
    assert served.status["phase"] == "Available"
    assert "server" not in served.status
    served.edit(serve=True)
    served.wait_until_served()


def test_a_quota_of_node_ports_does_not_fail_a_cache(
    kube: Kube, make_cache: Callable[..., Cache], upstream: Upstream,
) -> None:
    kube.apply({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": QUOTA, "namespace": NAMESPACE},
        "spec": {"hard": {"services.nodeports": "0"}},
    })
    try:
        cache = make_cache("e2e-no-port", upstream.reference(TOOLS))
        cache.wait_for("Available")
        is_not_served(cache, "ServerPending", f"exceeded quota: {QUOTA}", "services.nodeports")
        assert cache.condition("Ready")["status"] == "True"
        assert server_objects(cache, cache.uid) == [], "no Pod that nobody could reach"
    finally:
        kube.delete("resourcequota", QUOTA)
    cache.annotate("imagecache.dev/retry=now")  # else within a minute
    cache.wait_until_served()


def test_a_deleted_cache_takes_its_server_and_its_volume_along(
    make_cache: Callable[..., Cache], upstream: Upstream,
) -> None:
    cache = make_cache("e2e-served-deleted", upstream.reference(TOOLS))
    cache.wait_for("Available")
    cache.wait_until_served()
    uid = cache.uid
    kinds = {child["kind"] for child in cache.children()}
    assert {"Deployment", "Service", "Pod", "PersistentVolumeClaim"} <= kinds
    cache.delete()
    assert cache.children(uid) == []


def test_a_volume_that_somebody_deletes_is_let_go_and_built_again(
    make_cache: Callable[..., Cache], upstream: Upstream,
) -> None:
    """The claim waits for the server's Pod, the Pod goes because the claim is on its way, and then a builder may."""
    cache = make_cache("e2e-served-lost", upstream.reference(TOOLS))
    cache.wait_for("Available")
    before = cache.wait_until_served()
    uid = cache.uid
    cache.kube.delete("pvc", cache.volume()["metadata"]["name"], NAMESPACE, "--wait=false")
    cache.wait_for("Unavailable")
    cache.annotate("imagecache.dev/retry=1")
    cache.wait_for("Available")
    assert cache.wait_until_served()["name"] == before["name"]
    assert len(server_objects(cache, uid)) == 3
