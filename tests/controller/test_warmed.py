# SPDX-License-Identifier: Apache-2.0
"""A cache and its warm nodes, pass by pass: applied once, told as they change, gone with the server."""

from __future__ import annotations

import pytest
from imagecache_operator import names
from imagecache_operator.cluster.api import Object, Unavailable

from .world import PULL_SECRET, World


def warm(**nodes: object) -> World:
    """A cache that has become warm on its three nodes."""
    world = three_nodes()
    world.make("ml", warmNodes=nodes)
    world.run(lambda: told(world)[0] == "True")
    world.settle()
    return world


def three_nodes() -> World:
    world = World()
    for name in ("node-2", "node-3"):
        world.memory.create({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "status": {"nodeInfo": {
                "operatingSystem": "linux", "architecture": "amd64", "kubeletVersion": "v1.37.2",
            }},
        })
    return world


def told(world: World) -> tuple[str, str]:
    conditions = world.status("ml").get("conditions") or []
    return next(((c["status"], c["reason"]) for c in conditions if c["type"] == "Warm"), ("", ""))


def only(world: World) -> Object:
    found, = world.memory.list("DaemonSet")
    return found


def edit_spec(world: World, **fields: object) -> None:
    world.memory.edit(names.KIND, "ml", lambda o: o["spec"].update(fields))


def test_nodes_become_warm_one_by_one_once_the_cache_is_served() -> None:
    world, seen = three_nodes(), []
    world.make("ml", warmNodes={})

    def is_warm() -> bool:
        status = world.status("ml")
        if world.children("warmer"):
            assert status["server"]["name"]
            seen.append((status.get("warmNodes") or {}).get("summary"))
        return told(world) == ("True", "NodesWarm")

    world.run(is_warm)
    assert [s for s in dict.fromkeys(seen) if s] == ["0/3", "1/3", "2/3", "3/3"]
    assert world.status("ml")["warmNodes"] == {
        "name": only(world)["metadata"]["name"], "warm": 3, "wanted": 3, "summary": "3/3",
    }
    assert {e["type"] for e in world.events()} == {"Normal"}


def test_a_warmer_is_not_written_to_while_nothing_changes() -> None:
    world = warm()
    writes = world.api.writes
    for _ in range(5):
        world.now += world.settings.resync
        world.one_pass("ml")
    assert world.api.writes == writes


def test_other_nodes_are_another_template() -> None:
    world = warm()
    edit_spec(world, warmNodes={"nodeSelector": {"gpu": "true"}, "tolerations": [{"operator": "Exists"}]})
    world.one_pass("ml")
    assert told(world) == ("False", "Warming")
    world.run(lambda: told(world) == ("True", "NodesWarm"))
    pod = only(world)["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux", "gpu": "true"}
    assert pod["tolerations"] == [{"operator": "Exists"}]
    edit_spec(world, warmNodes={})
    world.settle()
    assert only(world)["spec"]["template"]["spec"]["nodeSelector"] == {"kubernetes.io/os": "linux"}


def test_one_that_somebody_deletes_comes_back() -> None:
    world = warm()
    world.memory.delete("DaemonSet", only(world)["metadata"]["name"], names.NAMESPACE)
    world.run(lambda: told(world) == ("False", "Warming"))
    world.run(lambda: told(world) == ("True", "NodesWarm"))


def test_a_server_that_is_silent_for_a_while_costs_no_warm_node() -> None:
    world = warm()
    before = only(world)["spec"]
    world.kubelet.deployments.answering = False
    world.run(lambda: world.condition("ml", "Served")["status"] == "False")
    assert told(world) == ("True", "NodesWarm")
    assert only(world)["spec"] == before


@pytest.mark.parametrize("change", [{"warmNodes": None}, {"serve": False}], ids=["not wanted", "not served"])
def test_an_edit_takes_it_away_and_brings_it_back(change: dict[str, object]) -> None:
    world = warm()
    edit_spec(world, **change)
    world.settle()
    assert world.children("warmer") == []
    assert "warmNodes" not in world.status("ml")
    assert world.phase("ml") == "Available"
    edit_spec(world, serve=True, warmNodes={})
    world.run(lambda: told(world) == ("True", "NodesWarm"))


def test_a_deleted_cache_takes_it_along() -> None:
    world = warm()
    world.delete("ml")
    world.run(lambda: world.is_gone("ml"))
    assert world.children() == []


def test_one_that_somebody_holds_does_not_hold_a_deletion() -> None:
    world = warm()
    name = only(world)["metadata"]["name"]
    world.memory.edit("DaemonSet", name, lambda o: o["metadata"].update(finalizers=["held"]), names.NAMESPACE)
    world.delete("ml")
    world.run(lambda: world.is_gone("ml"))
    assert world.children() == [name]
    assert only(world)["metadata"]["deletionTimestamp"]


@pytest.mark.parametrize("trouble", ["refused", "an error of the API server"])
def test_where_the_cluster_knows_no_image_volumes_the_cache_is_served_all_the_same(trouble: str) -> None:
    world, words = three_nodes(), "spec.template.spec.volumes[0]: must specify a volume type"
    apply = world.memory.apply

    def old(manifest: Object) -> None:
        if manifest["kind"] == "DaemonSet":
            raise Unavailable(f"the API server answered 500: {words}")
        apply(manifest)

    if trouble == "refused":
        world.memory.refuse = lambda verb, m: words if (verb, m["kind"]) == ("apply", "DaemonSet") else None
    else:
        world.memory.apply = old  # type: ignore[method-assign]
    world.make("ml", warmNodes={})
    world.run(lambda: world.phase("ml") == "Available" and words in world.condition("ml", "Warm")["message"])
    world.run(lambda: world.children("builder") == [])
    assert world.condition("ml", "Served")["status"] == "True"
    assert world.condition("ml", "Ready")["status"] == "True"
    before = world.cache("ml")
    assert world.one_pass("ml").again_in.total_seconds() == 60
    assert world.cache("ml") == before
    world.memory.refuse, world.memory.apply = lambda verb, m: None, apply  # type: ignore[method-assign]
    world.run(lambda: told(world) == ("True", "NodesWarm"))


def test_killed_before_or_after_any_write_nodes_become_warm() -> None:
    for after in (False, True):
        for write in range(1, 30):
            world = three_nodes()
            world.api.die_at, world.api.after = (lambda n, write=write: n == write), after  # type: ignore[misc]
            world.make("ml", warmNodes={})
            world.run(lambda world=world: told(world) == ("True", "NodesWarm"))  # type: ignore[misc]
            world.settle()
            assert len(world.children("warmer")) == 1
            world.delete("ml")
            world.run(lambda world=world: world.is_gone("ml"))  # type: ignore[misc]
            assert world.children() == []


def test_credentials_of_private_images_live_as_long_as_the_warmer() -> None:
    world = three_nodes()
    world.make_pull_secret()
    world.make("ml", warmNodes={}, buildingConfig={"imagePullSecrets": [PULL_SECRET]})
    world.run(lambda: told(world) == ("True", "NodesWarm"))
    world.settle()
    world.memory.edit(names.KIND, "ml", lambda o: [i.update(pullSecret=PULL_SECRET) for i in o["status"]["images"]])
    world.settle()
    name, = world.children("warmer-credentials")
    pull_secrets = [s["name"] for s in only(world)["spec"]["template"]["spec"]["imagePullSecrets"]]
    assert pull_secrets == [names.ACCESS_SECRET, name]
    writes = world.api.writes
    world.one_pass("ml")
    assert world.api.writes == writes

    copy = world.memory.get("Secret", name, names.NAMESPACE) or {}
    world.make_pull_secret("another password")
    world.settle()
    changed = world.memory.get("Secret", name, names.NAMESPACE) or {}
    assert changed["data"] != copy["data"]
    assert changed["metadata"]["uid"] == copy["metadata"]["uid"]

    edit_spec(world, warmNodes=None)
    world.settle()
    assert world.children("warmer-credentials") == []
