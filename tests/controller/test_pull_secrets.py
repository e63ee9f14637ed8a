# SPDX-License-Identifier: Apache-2.0
"""Pull Secrets from the user's namespace to a builder's, through whole passes: what is copied, for how long, and that
nothing of it is in any status or event."""

from __future__ import annotations

import json

import pytest
from imagecache_operator import names
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageOutcome, Outcome
from imagecache_operator.cluster.api import Object, Rejected

from .kubelet import DIGEST, Script, always_good, pulled
from .world import PASSWORD, PULL_SECRET, World

UNAUTHORIZED = Outcome(images=(ImageOutcome(digest=DIGEST, size=1), ImageOutcome(reason=Reason.UNAUTHORIZED)))


def world_with(script: Script = always_good) -> World:
    world = World(script)
    world.make("ml", buildingConfig={"imagePullSecrets": [PULL_SECRET]})
    return world


def usable(world: World) -> tuple[str, str, str]:
    told = next(c for c in world.status("ml")["conditions"] if c["type"] == "PullSecretsUsable")
    return told["status"], told["reason"], told["message"]


def test_credentials_are_there_while_the_attempt_lives_and_gone_after_it() -> None:
    world = world_with()
    world.make_pull_secret()
    world.run(lambda: bool(world.api.pods_made))
    (entry,) = world.handed_over()
    assert (entry["match"], entry["password"], entry["source"]) == ("registry.example", PASSWORD, PULL_SECRET)
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    assert world.handed_over() == []
    assert usable(world) == ("True", "SecretsRead", "1 Secret read")


def test_what_no_image_needs_is_not_copied() -> None:
    world = world_with()
    world.make_pull_secret(registry="elsewhere.example")
    world.run(lambda: bool(world.api.pods_made))
    assert world.handed_over() == []
    assert usable(world)[2] == f"1 Secret read; nothing for these images in {PULL_SECRET}"


def test_a_missing_secret_is_a_warning_and_the_build_goes_on() -> None:
    world = world_with()
    world.run(lambda: world.phase("ml") == "Available")
    assert usable(world)[:2] == ("False", "SecretNotFound")
    assert PULL_SECRET in usable(world)[2]
    (event,) = [e for e in world.events() if e["reason"] == "SecretNotFound"]
    assert (event["type"], event["message"]) == ("Warning", usable(world)[2])


def test_a_secret_that_may_not_be_read_is_told_in_the_servers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    world = world_with()
    get = world.memory.get

    def forbidding(kind: str, name: str, namespace: str | None = None) -> Object | None:
        if kind == "Secret":
            raise Rejected('secrets "regcred" is forbidden')
        return get(kind, name, namespace)

    monkeypatch.setattr(world.memory, "get", forbidding)
    world.run(lambda: world.phase("ml") == "Available")
    assert usable(world)[1:] == (
        "SecretForbidden",
        f'Secret {PULL_SECRET} may not be read (secrets "regcred" is forbidden). Images are pulled without it',
    )


@pytest.mark.parametrize("there_before", [True, False], ids=["corrected", "made at last"])
def test_a_change_of_the_secret_is_a_new_attempt_with_the_new_credentials(there_before: bool) -> None:
    world = world_with(lambda _, attempt: UNAUTHORIZED if attempt == 1 else pulled())
    if there_before:
        world.make_pull_secret("wrong")
    world.run(lambda: world.phase("ml") == "Failed")
    world.settle()
    assert world.status("ml")["attempt"]["number"] == 1
    world.make_pull_secret()
    world.run(lambda: len(world.api.pods_made) == 2)
    assert [entry["password"] for entry in world.handed_over()] == [PASSWORD]
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    assert world.handed_over() == []


def test_nothing_of_a_secret_is_in_status_or_events() -> None:
    world = world_with(lambda *_: UNAUTHORIZED)
    world.make_pull_secret()
    world.run(lambda: world.phase("ml") == "Failed")
    everything = [world.cache("ml"), *world.events(), *world.memory.list("Pod"),
                  *world.memory.list("PersistentVolumeClaim", names.NAMESPACE)]
    assert PASSWORD not in json.dumps(everything)


def test_that_secrets_were_listed_once_is_not_forgotten() -> None:
    """What they opened may be on the volume still."""
    world = World()
    world.make_pull_secret()
    world.make("ml", buildingConfig={"imagePullSecrets": [PULL_SECRET]})
    world.run(lambda: world.status("ml").get("phase") == "Available")
    assert world.status("ml")["attempt"]["withSecrets"]
    world.memory.edit(names.KIND, "ml", lambda o: o["spec"].pop("buildingConfig"))
    world.memory.delete("PersistentVolumeClaim", world.children("volume")[0], names.NAMESPACE)
    world.settle()
    world.memory.edit(
        names.KIND, "ml", lambda o: o["metadata"].setdefault("annotations", {}).update({names.ANNOTATION_RETRY: "1"}),
    )
    world.run(lambda: world.status("ml")["attempt"]["number"] == 2 and world.status("ml")["phase"] == "Available")
    assert world.status("ml")["attempt"]["withSecrets"]
