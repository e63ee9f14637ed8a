# SPDX-License-Identifier: Apache-2.0
"""Servers with host names instead of node ports: a real Ingress controller leads nodes to them, with a certificate that
they trust. The operator runs as a process here, with the settings that `deploy/components/host-names` is for; its
caches were served by ports before, and are again afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime

import pytest
import yaml
from imagecache_operator.api.conditions import WITH_SERVER

from tests.cluster import Cluster, ingress_image
from tests.support import ingress_controller, pods
from tests.support.audit import OPERATOR, AuditLog, Grant, grants
from tests.support.cutting_proxy import ApiServer, CuttingProxy
from tests.support.ingress_controller import CLASS, TLS_SECRET, IngressController
from tests.support.install import REPOSITORY
from tests.support.kube import Cache, Kube, until
from tests.support.operator_process import Installed, OperatorProcess, nobody_in_the_cluster
from tests.support.starts import SPACE, Starts, volumes
from tests.support.upstream import Upstream

from .access.private import carrier, login, refused

DOMAIN = "caches.test"
SETTINGS = {
    "IMAGECACHE_SERVER_DOMAIN": DOMAIN, "IMAGECACHE_SERVER_INGRESS_CLASS": CLASS,
    "IMAGECACHE_SERVER_TLS_SECRET": TLS_SECRET,
}
PUBLIC, PRIVATE = "e2e-host-names", "e2e-host-names-private"
APP, TOOLS = "team/app:2.1", "base/tools:1.0"
RIGHTS = REPOSITORY / "deploy" / "components" / "host-names" / "rbac.yaml"
BEGAN = datetime.now(UTC)
Run = Callable[..., AbstractContextManager[OperatorProcess]]


@pytest.fixture(scope="module")
def controller(
    kube: Kube, upstream: Upstream, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[IngressController]:
    image = made(kube.cluster, request)
    folder = tmp_path_factory.mktemp("certificate")
    with ingress_controller.running(kube, image, DOMAIN, upstream.authority, folder) as found:
        yield found


def made(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    """The first time, it takes minutes, and says what it is doing past pytest's capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        return ingress_image(cluster)


@pytest.fixture(scope="module")
def caches(kube: Kube, upstream: Upstream, space: str) -> Iterator[tuple[Cache, Cache]]:
    """One for everybody and one for our namespace, built at the same time and served by ports."""
    public, private = Cache(kube, PUBLIC), Cache(kube, PRIVATE)
    with ExitStack() as made:
        for cache, image, more in (
            (public, APP, {}), (private, TOOLS, {"allowedNamespaces": {"names": [SPACE]}}),
        ):
            cache.apply([upstream.reference(image)], more)
            made.callback(cache.delete)
        for cache in (public, private):
            cache.wait_for("Available")
            cache.wait_until_served()
        yield public, private


@pytest.fixture(scope="module")
def operator(
    kube: Kube, caches: tuple[Cache, Cache], controller: IngressController, tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Run]:
    """An operator with other settings, instead of the cluster's own, and with the right to Ingresses."""
    folder = tmp_path_factory.mktemp("operator")
    with (
        nobody_in_the_cluster(kube),
        CuttingProxy(ApiServer.of(kube.cluster.kubeconfig), lambda moment: False) as proxy,
    ):
        installed = Installed.of(kube)

        def run(**settings: str) -> AbstractContextManager[OperatorProcess]:
            return installed.running(proxy.url, folder, folder / "operator.log", **settings)

        kube.cluster.kubectl("apply", "-f", str(RIGHTS))
        yield run
        with run():  # every cache is as it was, also those of others
            until(lambda: kube.list("ingresses") == [], "no Ingress is left", 60)
            until(lambda: all("localhost:" in a for a in addresses(kube)), "all have ports", 60,
                  lambda: str(addresses(kube)))
        kube.cluster.kubectl("delete", "-f", str(RIGHTS))


def addresses(kube: Kube) -> list[str]:
    """Of all caches that are to be served."""
    told = [cache.get("status", {}) for cache in kube.list("imagecaches")]
    return [
        status.get("server", {}).get("address", "") for status in told
        if any(c["type"] == "Served" and c["reason"] in WITH_SERVER for c in status.get("conditions", []))
    ]


@pytest.fixture(scope="module")
def named(
    operator: Run, caches: tuple[Cache, Cache], controller: IngressController,
) -> Iterator[ExitStack]:
    """The operator with the settings, its servers known to the nodes. To close it is to end that operator."""
    hosts = [f"{cache.status['server']['name']}.{DOMAIN}" for cache in caches]
    with controller.known_to_nodes(*hosts), ExitStack() as running:
        running.enter_context(operator(**SETTINGS))
        for cache in caches:
            by_name(cache)
        until(lambda: all(controller.answer(h, "/") == "200" for h in hosts), "the Ingress controller knows them", 30,
              lambda: f"{[controller.answer(h, '/') for h in hosts]}\n{controller.log()[-3000:]}")
        yield running


def by_name(cache: Cache) -> str:
    """Waits until it is served by a host name. That name."""
    def is_so() -> bool:
        server = cache.status.get("server", {})
        return bool(server.get("address") == f"{server.get('name')}.{DOMAIN}" and server["ready"])

    until(is_so, f"{cache.name} is served by a host name", 60, lambda: json.dumps(cache.status, indent=1))
    return str(cache.status["server"]["address"])


@pytest.fixture
def public(caches: tuple[Cache, Cache], named: ExitStack) -> Cache:
    return caches[0]


@pytest.fixture
def private(caches: tuple[Cache, Cache], named: ExitStack) -> Cache:
    return caches[1]


def injected_from(starts: Starts, image: str, cache: Cache, address: str) -> None:
    """Waits until new Pods get their layers from there: a canary has, and the webhook has heard of it."""
    def would_be() -> list[str]:
        return volumes(starts.dry_run(starts.manifest("would-be", starts.reference(image), ask=cache.name)))

    until(lambda: [v.partition("/")[0] for v in would_be()] == [address], f"Pods start from {address}", 100,
          lambda: str(would_be()))


def test_a_cold_node_takes_layers_by_the_host_name(
    public: Cache, starts: Starts, controller: IngressController,
) -> None:
    address = by_name(public)
    injected_from(starts, APP, public, address)
    starts.forget(APP)
    before, seen = starts.logged(), len(controller.asked(address))
    starts.start("by-name", starts.reference(APP), ask=public.name)
    assert starts.layers_asked(before, APP) == set()
    blobs = [line for line in controller.asked(address)[seen:] if "/blobs/sha256:" in line]
    assert len(blobs) >= len(starts.upstream.images[APP].own.diff_ids), "each layer went through the Ingress"


def test_nothing_of_a_port_is_left(public: Cache, kube: Kube) -> None:
    name = public.status["server"]["name"]
    service = kube.get("service", name) or {}
    assert (service["spec"]["type"], "nodePort" in service["spec"]["ports"][0]) == ("ClusterIP", False)
    ingress = kube.get("ingress", name) or {}
    assert (ingress["spec"]["ingressClassName"], ingress["spec"]["tls"]) == (
        CLASS, [{"hosts": [f"{name}.{DOMAIN}"], "secretName": TLS_SECRET}],
    )


def test_a_private_cache_asks_for_its_password_there(
    private: Cache, starts: Starts, controller: IngressController, kube: Kube,
) -> None:
    address = by_name(private)
    assert controller.answer(address, "/v2/") == "401"
    until(lambda: login(kube, SPACE, private) is not None, "our namespace has a login for the name", 30)
    until(lambda: controller.answer(address, "/v2/", login(kube, SPACE, private)) == "200", "and it is let in", 100)
    injected_from(starts, TOOLS, private, address)
    starts.forget(TOOLS)
    before = starts.logged()
    starts.start("admitted", starts.reference(TOOLS), ask=private.name)
    assert starts.layers_asked(before, TOOLS) == set()


def test_another_namespace_does_not_start_from_it(private: Cache, starts: Starts, kube: Kube) -> None:
    image, address = starts.reference(TOOLS), by_name(private)
    asks = starts.dry_run(pods.pod("not-admitted", image, cache=private.name))
    assert volumes(asks) == []
    copied = pods.pod("not-admitted", f"{address}/{carrier(private)}", node=kube.cluster.nodes[1])
    kube.apply(copied)
    try:
        refused(kube, copied)
    finally:
        pods.remove(kube, copied)


def test_switched_off_they_have_ports_again(
    public: Cache, named: ExitStack, operator: Run, starts: Starts, kube: Kube,
) -> None:
    named.close()
    with operator():
        until(lambda: all("localhost:" in address for address in addresses(kube)), "all have ports", 60)
        public.wait_until_served()
        assert kube.get("ingress", public.status["server"]["name"]) is None
        injected_from(starts, APP, public, public.status["server"]["address"])
        starts.forget(APP)
        before = starts.logged()
        starts.start("by-port", starts.reference(APP), ask=public.name)
        assert starts.layers_asked(before, APP) == set()


def test_of_the_right_to_ingresses_all_is_used(named: ExitStack, kube: Kube) -> None:
    granted = grants(yaml.safe_load_all(RIGHTS.read_text()))
    log = AuditLog(kube.cluster.audit_log)

    def unused() -> list[Grant]:
        asked = log.requests(OPERATOR, BEGAN)
        return sorted(g for g in granted if not any(g.used_by(r) for r in asked))

    assert len(granted) == 5
    until(lambda: not unused(), "all that is granted is used", 20, lambda: "\n".join(map(str, unused())))
