# SPDX-License-Identifier: Apache-2.0
"""Servers with host names, pass by pass: made, followed when the settings change, and gone; with the right to Ingresses
and without it."""

from __future__ import annotations

from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.cluster.api import Object, Rejected
from imagecache_operator.controller.operator import INGRESSES, watched

from .world import World

DOMAIN = "caches.example.com"
FORBIDDEN = 'ingresses.networking.k8s.io is forbidden: User "system:serviceaccount:…" cannot do that'


def served(**settings: Any) -> World:
    world = World(**settings)
    world.make("ml")
    world.run(lambda: bool((world.status("ml").get("server") or {}).get("ready")))
    world.settle()
    return world


def switch(world: World, domain: str | None) -> None:
    """The operator starts again, with another setting."""
    world.settings = world.settings.model_copy(update={"server_domain": domain})
    world.operator = world.reconciler(world.api)
    world.settle()


def forbid(world: World) -> None:
    """Nothing may be done to Ingresses, nor may they be looked at."""
    listed = world.memory.list

    def refused(kind: str, namespace: str | None = None, selector: str | None = None) -> list[Object]:
        if kind == "Ingress":
            raise Rejected(FORBIDDEN)
        return listed(kind, namespace, selector)

    world.memory.list = refused  # type: ignore[method-assign]
    world.memory.refuse = lambda verb, m: FORBIDDEN if m["kind"] == "Ingress" else None


def address(world: World) -> str:
    return str(world.status("ml")["server"]["address"])


def kinds(world: World) -> list[str]:
    found = [
        o["kind"] for kind in ("Deployment", "Ingress", "Service") for o in world.memory.list(kind, names.NAMESPACE)
    ]
    return sorted(found)


def test_a_cache_is_served_under_a_host_name() -> None:
    world = served(server_domain=DOMAIN)
    ingress, = world.memory.list("Ingress", names.NAMESPACE)
    service, = world.memory.list("Service", names.NAMESPACE)
    assert ingress["spec"]["rules"][0]["host"] == address(world) == f"{service['metadata']['name']}.{DOMAIN}"
    assert "nodePort" not in service["spec"]["ports"][0]
    writes = world.api.writes
    for _ in range(3):
        world.now += world.settings.resync
        world.one_pass("ml")
    assert world.api.writes == writes


def test_an_ingress_that_somebody_deletes_comes_back() -> None:
    world = served(server_domain=DOMAIN)
    ingress, = world.memory.list("Ingress", names.NAMESPACE)
    world.memory.delete("Ingress", ingress["metadata"]["name"], names.NAMESPACE)
    world.settle()
    assert kinds(world) == ["Deployment", "Ingress", "Service"]
    assert world.condition("ml", "Served")["status"] == "True"


def test_switched_on_changed_and_off_it_converges() -> None:
    world = served()
    pod = [o["metadata"]["name"] for o in world.memory.list("Pod", names.NAMESPACE)]
    for domain in (DOMAIN, "other.example.com", None, DOMAIN, None):
        switch(world, domain)
        assert world.condition("ml", "Served")["status"] == "True", domain
        service, = world.memory.list("Service", names.NAMESPACE)
        if domain:
            assert address(world) == f"{service['metadata']['name']}.{domain}"
            assert world.memory.list("Ingress")[0]["spec"]["rules"][0]["host"] == address(world)
        else:
            assert address(world) == f"localhost:{service['spec']['ports'][0]['nodePort']}"
            assert world.memory.list("Ingress") == []
    assert [o["metadata"]["name"] for o in world.memory.list("Pod", names.NAMESPACE)] == pod, "it was never interrupted"


@pytest.mark.parametrize("domain", [DOMAIN, None])
def test_a_deleted_cache_leaves_nothing(domain: str | None) -> None:
    world = served(server_domain=DOMAIN)
    world.settings = world.settings.model_copy(update={"server_domain": domain})
    world.operator = world.reconciler(world.api)
    world.delete("ml")
    world.run(lambda: world.is_gone("ml"))
    assert (kinds(world), world.children()) == ([], [])


def test_without_the_right_the_cache_says_so_and_all_else_goes_on() -> None:
    world = World(server_domain=DOMAIN)
    forbid(world)
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available" and not world.children("builder"))
    told = world.condition("ml", "Served")
    assert (told["status"], told["reason"]) == ("False", "ServerPending")
    assert FORBIDDEN in told["message"]
    assert world.memory.list("Deployment") == [], "no Pod that nobody could reach"
    assert world.one_pass("ml").again_in.total_seconds() == 60
    world.delete("ml")
    world.run(lambda: world.is_gone("ml"))


def test_a_former_ingress_that_may_not_be_deleted_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    world = served(server_domain=DOMAIN)
    look, forbidden = world.memory.list, world.memory.refuse
    forbid(world)
    switch(world, None)
    assert address(world).startswith("localhost:")
    assert world.condition("ml", "Served")["status"] == "True"
    assert "Refused" not in world.status("ml")["message"]
    assert [r.getMessage() for r in caplog.records if "left behind" in r.getMessage()] != []
    assert len(look("Ingress")) == 1
    world.memory.refuse = forbidden  # Kubernetes collects it: it has the right
    world.delete("ml")
    world.run(lambda: world.is_gone("ml"))
    assert look("Ingress") == []


def test_ingresses_wake_their_caches_where_they_are_watched() -> None:
    world = World()
    domain = world.settings.model_copy(update={"server_domain": DOMAIN})
    assert INGRESSES not in watched(world.memory, world.settings), "there may be no right to"
    assert watched(world.memory, domain) == (*watched(world.memory, world.settings), INGRESSES)
    forbid(world)
    assert watched(world.memory, domain) == watched(world.memory, world.settings)
