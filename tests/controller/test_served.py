# SPDX-License-Identifier: Apache-2.0
"""A cache and its server, pass by pass: applied once, kept where it is right, gone before anybody needs its volume."""

from __future__ import annotations

import pytest
from imagecache_operator import names
from imagecache_operator.cluster.api import Object, Unavailable

from .world import PULL_SECRET, World

PRIVATE = {"buildingConfig": {"imagePullSecrets": [PULL_SECRET]}}


def served(**spec: object) -> World:
    world = World()
    world.make("ml", **spec)
    world.run(lambda: bool((world.status("ml").get("server") or {}).get("ready")))
    world.settle()
    return world


def only(world: World, kind: str) -> Object:
    found, = (o for o in world.memory.list(kind) if o["metadata"]["labels"][names.LABEL_COMPONENT] == "server")
    return found


def refuse(world: World, kind: str, words: str) -> None:
    world.memory.refuse = lambda verb, m: words if (verb, m["kind"]) == ("apply", kind) else None


def told(world: World) -> tuple[str, str]:
    condition = world.condition("ml", "Served")
    return condition["status"], condition["reason"]


def edit_spec(world: World, **fields: object) -> None:
    world.memory.edit(names.KIND, "ml", lambda o: o["spec"].update(fields))


def test_a_public_cache_becomes_served() -> None:
    world = served()
    port = only(world, "Service")["spec"]["ports"][0]["nodePort"]
    server = world.status("ml")["server"]
    (tried,) = server.pop("canaries")
    assert server == {
        "name": only(world, "Deployment")["metadata"]["name"], "address": f"localhost:{port}", "ready": True,
    }
    assert (tried["node"], tried["passed"]) == ("node-1", True)
    assert told(world) == ("True", "Serving")
    assert {e["type"] for e in world.events()} == {"Normal"}


def test_a_server_is_not_written_to_while_nothing_changes() -> None:
    world = served()
    writes = world.api.writes
    for _ in range(5):
        world.now += world.settings.resync
        world.one_pass("ml")
    assert world.api.writes == writes


def test_another_image_for_servers_keeps_the_port() -> None:
    world = served()
    before = only(world, "Service")
    world.settings = world.settings.model_copy(update={"server_image": "registry:3.1"})
    world.operator = world.reconciler(world.api)
    world.one_pass("ml")
    assert told(world) == ("False", "ServerPending")
    world.settle()
    assert only(world, "Pod")["spec"]["containers"][0]["image"] == "registry:3.1"
    assert only(world, "Service") == before
    assert told(world) == ("True", "Serving")


def test_a_service_of_an_older_version_keeps_its_port_too() -> None:
    world = served()
    address = world.status("ml")["server"]["address"]
    annotations = {names.ANNOTATION_MANIFEST: "older"}
    name = only(world, "Service")["metadata"]["name"]
    world.memory.edit("Service", name, lambda o: o["metadata"].update(annotations=annotations), names.NAMESPACE)
    world.settle()
    assert only(world, "Service")["metadata"]["annotations"][names.ANNOTATION_MANIFEST] != "older"
    assert world.status("ml")["server"]["address"] == address


@pytest.mark.parametrize("kind", ["Deployment", "Service", "Pod"])
def test_what_somebody_deletes_comes_back(kind: str) -> None:
    world = served()
    world.memory.delete(kind, only(world, kind)["metadata"]["name"], names.NAMESPACE)
    world.kubelet.step()
    world.run(lambda: told(world) == ("True", "Serving"))
    world.settle()
    port = only(world, "Service")["spec"]["ports"][0]["nodePort"]
    assert world.status("ml")["server"]["address"] == f"localhost:{port}"


def test_a_server_that_flaps_is_one_event() -> None:
    world = served()
    for _ in range(3):
        world.kubelet.deployments.answering = False
        world.run(lambda: told(world)[0] == "False")
        assert world.phase("ml") == "Available"
        assert world.status("ml")["server"]["ready"] is False
        world.kubelet.deployments.answering = True
        world.run(lambda: told(world)[0] == "True")
    assert [e["reason"] for e in world.events() if e["type"] == "Warning"] == ["ServerPending"]


def test_to_list_a_secret_changes_nothing_that_is_built() -> None:
    world = served()
    world.make_pull_secret()
    edit_spec(world, **PRIVATE)
    world.settle()
    assert told(world) == ("True", "Serving")


def test_a_cache_that_was_built_with_a_secret_that_no_image_needed_is_for_nobody() -> None:
    world = World()
    world.make_pull_secret()
    world.make("ml", **PRIVATE)
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    assert (told(world), world.children("server")) == (("False", "NobodyAdmitted"), [])
    edit_spec(world, allowedNamespaces={"names": ["default"]})
    world.run(lambda: told(world) == ("True", "Serving"))


def test_an_edit_takes_the_server_away_and_brings_it_back() -> None:
    world = served()
    edit_spec(world, serve=False)
    world.settle()
    assert told(world) == ("False", "NotWanted")
    assert "server" not in world.status("ml")
    assert world.children("server") == []
    assert world.phase("ml") == "Available"
    edit_spec(world, serve=True)
    world.run(lambda: told(world) == ("True", "Serving"))


def test_a_deleted_cache_takes_its_server_along() -> None:
    world = served()
    world.delete("ml")
    world.run(lambda: world.is_gone("ml"))
    assert world.children() == []


def test_a_volume_that_somebody_deletes_is_let_go_by_its_server() -> None:
    """The claim waits for the server's Pod, and the Pod goes because the claim is on its way."""
    world = served()
    claim, = world.children("volume")
    world.memory.delete("PersistentVolumeClaim", claim, names.NAMESPACE)
    assert world.children("volume") == [claim]
    world.run(lambda: world.children() == [])
    assert (world.phase("ml"), world.reason("ml")) == ("Unavailable", "VolumeLost")


def test_nothing_is_built_beside_a_server_that_cannot_go() -> None:
    """Its node is lost: the Pod is asked to stop, and nobody says that it has."""
    world = served()
    claim, = world.children("volume")
    world.memory.delete("PersistentVolumeClaim", claim, names.NAMESPACE)
    world.annotate("ml", "again")
    for _ in range(10):
        world.one_pass("ml")
    pod = only(world, "Pod")["metadata"]["name"]
    assert pod in world.status("ml")["message"]
    assert sum(world.api.pods_made.values()) == 1
    world.run(lambda: told(world) == ("True", "Serving"))
    assert sum(world.api.pods_made.values()) == 2


@pytest.mark.parametrize("kind", ["Service", "Deployment"])
def test_a_refused_server_is_told_once_and_tried_again(kind: str) -> None:
    world = World()
    refuse(world, kind, "exceeded quota: ports, requested: services.nodeports=1")
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available" and world.children("builder") == [])
    assert told(world) == ("False", "ServerPending")
    assert "services.nodeports=1" in world.condition("ml", "Served")["message"]
    assert world.condition("ml", "Ready")["status"] == "True"
    before = world.cache("ml")
    assert world.one_pass("ml").again_in.total_seconds() == 60
    assert world.cache("ml") == before
    world.memory.refuse = lambda verb, manifest: None
    world.run(lambda: told(world) == ("True", "Serving"))


def test_no_node_port_left_is_an_internal_error_of_the_api_server_and_told_like_a_refusal() -> None:
    world = World()
    apply = world.memory.apply

    def exhausted(manifest: Object) -> None:
        if manifest["kind"] == "Service":
            raise Unavailable("the API server answered 500: failed to allocate a nodePort: range is full")
        apply(manifest)

    world.memory.apply = exhausted  # type: ignore[method-assign]
    world.make("ml")
    world.run(lambda: world.phase("ml") == "Available")
    assert "range is full" in world.condition("ml", "Served")["message"]
    assert world.children("server") == [], "no Pod that nobody could reach"


def test_a_refused_growth_of_the_volume_stops_no_server() -> None:
    world = World()
    world.make("ml", serve=False)
    world.run(lambda: world.phase("ml") == "Available")
    refuse(world, "PersistentVolumeClaim", "the class cannot grow")
    edit_spec(world, imageCacheSize=40, serve=True)
    world.run(lambda: told(world) == ("True", "Serving"))
    assert "the class cannot grow" in world.status("ml")["message"]
