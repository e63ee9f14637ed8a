# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with one cache, or with what the operator reads for it, holds up nobody else and nothing more."""

from __future__ import annotations

from datetime import timedelta

import pytest
from imagecache_operator import names
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageOutcome, Outcome
from imagecache_operator.cluster.api import Object, Unavailable

from .kubelet import DIGEST
from .world import PULL_SECRET, World

PRIVATE = {"buildingConfig": {"imagePullSecrets": [PULL_SECRET]}}
UNAUTHORIZED = Outcome(images=(ImageOutcome(digest=DIGEST, size=1), ImageOutcome(reason=Reason.UNAUTHORIZED)))


def test_a_refused_cache_leaves_its_slot_to_others() -> None:
    world = World(max_builders=1)

    def limit(verb: str, manifest: Object) -> str | None:
        claim = manifest["kind"] == "PersistentVolumeClaim"
        large = claim and manifest["spec"]["resources"]["requests"]["storage"] == "400Gi"
        return "maximum storage per PersistentVolumeClaim is 100Gi" if large else None

    world.memory.refuse = limit
    world.make("large", imageCacheSize=400)
    world.run(lambda: world.phase("large") == "Failed")
    world.make("small")
    world.run(lambda: world.phase("small") == "Available")
    world.memory.refuse = lambda verb, manifest: None
    world.run(lambda: world.phase("large") == "Available")
    assert world.kubelet.most_alive == 1


def test_an_unreadable_log_holds_nothing_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the builder's node, which may be lost."""
    def unreadable(*_: object) -> str:
        raise Unavailable("the API server answered 500: dial tcp 10.0.0.1:10250: i/o timeout")

    world = World()
    monkeypatch.setattr(world.memory, "read_log", unreadable)
    world.make("ml")
    world.make("other")
    world.run(lambda: len(world.api.pods_made) == 2)
    world.delete("ml")
    world.run(lambda: world.is_gone("ml") and world.phase("other") == "Available")


def test_a_secret_that_the_server_cannot_read_is_told_and_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(max_builders=1)
    get = world.memory.get

    def failing(kind: str, name: str, namespace: str | None = None) -> Object | None:
        if kind == "Secret":
            raise Unavailable("the API server answered 500: no matching key was found for the AES transformer")
        return get(kind, name, namespace)

    monkeypatch.setattr(world.memory, "get", failing)
    world.make("ml", **PRIVATE)
    world.make("other")
    world.run(lambda: world.phase("ml") == world.phase("other") == "Available")
    (told,) = [c for c in world.status("ml")["conditions"] if c["type"] == "PullSecretsUsable"]
    assert told["reason"] == "SecretUnavailable"
    assert "AES transformer" in told["message"]


def test_a_secret_touched_by_a_machine_brings_no_crowd_of_attempts() -> None:
    world = World(lambda *_: UNAUTHORIZED)
    world.make_pull_secret()
    world.make("ml", **PRIVATE)
    for turn in range(200):
        world.memory.edit(
            "Secret", "regcred", lambda o, turn=turn: o["metadata"].update(annotations={"at": str(turn)}), "team-a",  # type: ignore[misc]
        )
        world.one_pass("ml")
        world.kubelet.step()
        world.now += timedelta(seconds=6)
    assert len(world.api.pods_made) <= 5, "one in five minutes at most"


def test_credentials_go_when_the_spec_becomes_invalid() -> None:
    world = World()
    world.make_pull_secret()
    world.make("ml", **PRIVATE)
    world.run(lambda: bool(world.api.pods_made))
    world.memory.edit(names.KIND, "ml", lambda o: o["spec"].update(retentionDays=-1))
    world.run(lambda: world.reason("ml") == "InvalidSpec" and world.handed_over() == [])


def test_credentials_of_a_pod_that_is_refused_go_with_the_wish() -> None:
    world = World()
    world.make_pull_secret()
    world.make("ml", **PRIVATE)
    world.memory.refuse = lambda verb, m: "exceeded quota" if m["kind"] == "Pod" and verb == "create" else None
    world.run(lambda: world.phase("ml") == "Failed")
    assert world.handed_over()
    world.memory.edit(names.KIND, "ml", lambda o: o["spec"].update(buildingConfig={}))
    world.run(lambda: world.handed_over() == [])
    world.memory.refuse = lambda verb, m: None
    world.run(lambda: world.phase("ml") == "Available")


def test_a_deletion_takes_the_credentials_of_a_pod_that_was_never_made() -> None:
    world = World()
    world.make_pull_secret()
    world.make("ml", **PRIVATE)
    world.memory.refuse = lambda verb, m: "exceeded quota" if m["kind"] == "Pod" and verb == "create" else None
    world.run(lambda: bool(world.handed_over()))
    world.delete("ml")
    world.run(lambda: world.is_gone("ml"))
    assert world.children() == []
