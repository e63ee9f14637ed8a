# SPDX-License-Identifier: Apache-2.0
"""Pods that the webhook has marked: events of misses, and what caches know of their use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from imagecache_operator import names
from imagecache_operator.cluster import watching
from imagecache_operator.cluster.api import Object, Unavailable
from imagecache_operator.controller import pods
from imagecache_operator.controller.pods import NotInjected, PodWatch, Uses

from tests.support.memory_api import MemoryApi

from .world import World

HOUR = timedelta(hours=1)


def miss(api: MemoryApi, name: str, reason: str = "there is no ImageCache ml") -> Object:
    return made(api, name, {names.LABEL_NOT_INJECTED: "true"}, {names.ANNOTATION_NOT_INJECTED: reason})


def hit(api: MemoryApi, name: str, cache_uid: str) -> Object:
    return made(api, name, {names.LABEL_INJECTED_FROM: cache_uid}, {names.ANNOTATION_INJECTED: "ml"})


def made(api: MemoryApi, name: str, labels: dict[str, str], annotations: dict[str, str]) -> Object:
    """A Pod as a watch of metadata tells of it."""
    api.create({
        "apiVersion": "v1", "kind": "Pod", "spec": {},
        "metadata": {"name": name, "namespace": "default", "labels": labels, "annotations": annotations},
    })
    found = api.get("Pod", name, "default")
    assert found is not None
    return {"metadata": found["metadata"]}


def test_a_miss_is_one_event_of_the_pod_however_often_it_is_told() -> None:
    world = World()
    pod = miss(world.memory, "train", "x" * 290 + "\n")
    for _ in range(2):  # a watch that begins anew
        NotInjected(world.memory, lambda: world.now).told(pod)
    event, = world.memory.list("Event", "default")
    assert event["metadata"]["name"] == f"not-injected.{pod['metadata']['uid']}"
    assert event["involvedObject"] == {
        "apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "train", "uid": pod["metadata"]["uid"],
    }
    assert (event["type"], event["reason"]) == ("Warning", "NotInjected")
    assert event["message"] == "Starts without an image cache: " + "x" * 290 + "?"
    assert event["reportingComponent"] == "imagecache-operator"


def test_pods_of_yesterday_lead_to_nothing() -> None:
    world = World()
    old = [miss(world.memory, f"old-{n}") for n in range(3)]
    world.now += 2 * HOUR
    listener = NotInjected(world.api, lambda: world.now)
    for pod in old:
        listener.told(pod)
    assert world.api.writes == 0
    listener.told(miss(world.memory, "new"))
    assert world.api.writes == 1


def test_a_flood_is_told_of_a_hundred_times_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    listener = NotInjected(world.api, lambda: world.now)
    for number in range(150):
        listener.told(miss(world.memory, f"train-{number}"))
    assert world.api.writes == 100
    assert caplog.text.count("too many Pods") == 1
    world.now += timedelta(seconds=2)
    listener.told(miss(world.memory, "later"))
    assert world.api.writes == 101


@pytest.mark.parametrize("trouble", ["a refusal", "an outage"])
def test_an_event_that_cannot_be_posted_holds_up_nobody(trouble: str) -> None:
    world = World()
    listener = NotInjected(world.memory, lambda: world.now)

    def refuse(verb: str, manifest: Object) -> str | None:
        if manifest["kind"] != "Event" or manifest["involvedObject"]["name"] != "going":
            return None
        if trouble == "an outage":
            raise Unavailable("later")
        return "the namespace is being terminated"

    first, second = miss(world.memory, "going"), miss(world.memory, "other")
    world.memory.refuse = refuse
    listener.told(first)
    listener.told(second)
    assert [e["involvedObject"]["name"] for e in world.memory.list("Event", "default")] == ["other"]


def available() -> tuple[World, str]:
    world = World()
    uid = world.make("ml")
    world.run(lambda: world.phase("ml") == "Available")
    world.settle()
    return world, uid


def used(world: World, name: str, uid: str) -> list[str]:
    """A Pod starts from the cache. Who was woken for it."""
    woken: list[str] = []
    world.uses.told(hit(world.memory, name, uid), woken.append)
    return woken


def stamp(world: World) -> str:
    return world.now.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_uses_are_written_at_most_once_an_hour() -> None:
    world, uid = available()
    assert "lastUsedTime" not in world.status("ml")
    writes, first = world.api.writes, stamp(world)
    assert used(world, "pod-0", uid) == [uid], "the first one is worth a pass at once"
    for number in range(1, 12):  # every five minutes for an hour
        world.one_pass("ml")
        world.now += timedelta(minutes=5)
        used(world, f"pod-{number}", uid)
    world.one_pass("ml")
    assert (world.api.writes - writes, world.status("ml")["lastUsedTime"]) == (1, first)
    world.now += timedelta(minutes=5)
    used(world, "pod-12", uid)
    world.one_pass("ml")
    assert (world.api.writes - writes, world.status("ml")["lastUsedTime"]) == (2, stamp(world))


def test_it_survives_a_restart_and_an_idle_pass_writes_nothing() -> None:
    world, uid = available()
    pod = hit(world.memory, "pod", uid)
    world.uses.told(pod, lambda uid: None)
    world.one_pass("ml")
    last, writes = world.status("ml")["lastUsedTime"], world.api.writes
    world.uses = Uses()
    world.now += 3 * HOUR
    world.one_pass("ml")  # before it has been told of any Pod
    world.uses.told(pod, lambda uid: None)
    world.one_pass("ml")
    assert (world.status("ml")["lastUsedTime"], world.api.writes) == (last, writes)


def test_pods_of_other_caches_do_not_count() -> None:
    world, _ = available()
    assert used(world, "pod", "another-uid") == ["another-uid"]
    world.one_pass("ml")
    assert "lastUsedTime" not in world.status("ml")


class Watched(MemoryApi):
    """The API server in memory, with a watch that tells of all Pods and ends."""

    def __init__(self) -> None:
        super().__init__()
        self.posted = threading.Event()

    def watch_metadata(self, kind: str, version: str, seconds: int, selector: str) -> Iterator[tuple[str, Object]]:
        for found in self.list(kind):
            if selector in found["metadata"].get("labels", {}):
                yield "ADDED", {"metadata": found["metadata"]}

    def create(self, manifest: Object) -> bool:
        created = super().create(manifest)
        if manifest["kind"] == "Event":
            self.posted.set()
        return created


def test_both_watches_go_on_whatever_happens_in_one_of_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(watching, "PAUSES", (0.01,))
    monkeypatch.setattr(pods, "PAUSE", 0.01)
    api, woken = Watched(), threading.Event()
    miss(api, "train")
    hit(api, "served", "uid-1")
    mistakes = iter([True, True])

    def refuse(verb: str, manifest: Object) -> str | None:
        if next(mistakes, False):
            raise ZeroDivisionError("a bug")
        return None

    api.refuse = refuse
    watch = PodWatch(api, uses := Uses())
    watch.start(lambda uid: woken.set())
    try:
        assert woken.wait(20)
        assert api.posted.wait(20)
    finally:
        watch.stop()
    assert caplog.text.count("ZeroDivisionError: a bug") == 2
    assert uses.newest("uid-1") is not None
