# SPDX-License-Identifier: Apache-2.0
"""List and watch, of objects and of their metadata, through the real client, against an API server in all kinds of
trouble."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.cluster import watching
from imagecache_operator.cluster.client import Client

from tests.support.scripted_api import Answer, ScriptedApi, event, in_a_thread, listed, running, watched


def obj(name: str, version: str, **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "resourceVersion": version}, **more}


class Told:
    """A listener that keeps what it is told, and says when that is what a test waits for."""

    def __init__(self) -> None:
        self.state: dict[str, str] = {}
        self.lists = 0
        self._changed = threading.Condition()

    def replace(self, objects: list[dict[str, Any]]) -> None:
        with self._changed:
            self.lists += 1
            self.state = {o["metadata"]["name"]: o["metadata"]["resourceVersion"] for o in objects}
            self._changed.notify_all()

    def changed(self, obj: dict[str, Any]) -> None:
        with self._changed:
            self.state[obj["metadata"]["name"]] = obj["metadata"]["resourceVersion"]
            self._changed.notify_all()

    def deleted(self, obj: dict[str, Any]) -> None:
        with self._changed:
            del self.state[obj["metadata"]["name"]]
            self._changed.notify_all()

    def wait(self, lists: int = 1, **state: str) -> None:
        with self._changed:
            arrived = self._changed.wait_for(lambda: (self.lists, self.state) == (lists, state), timeout=20)
        assert arrived, (self.lists, self.state)


Followed = Callable[[ScriptedApi], AbstractContextManager[Told]]


@pytest.fixture(params=[watching.follow, watching.follow_metadata])
def followed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Followed:
    @contextmanager
    def run(api: ScriptedApi) -> Iterator[Told]:
        told = Told()

        def follow(stop: threading.Event) -> None:
            request.param(Client(api.configuration, 1), names.KIND, told, stop)

        with in_a_thread(api, monkeypatch, follow):
            yield told

    return run


def test_events_follow_the_list(followed: Followed) -> None:
    events = watched(
        event("ADDED", obj("b", "11")), event("MODIFIED", obj("a", "12")), event("DELETED", obj("b", "13")),
        event("ADDED", obj("c", "14")),
    )
    with running([listed("10", obj("a", "1"))], events) as api, followed(api) as told:
        told.wait(a="12", c="14")
        assert api.asked[0] == "10"


def test_a_watch_that_ends_is_taken_up_where_it_ended(followed: Followed) -> None:
    with running(
        [listed("10", obj("a", "1"))],
        watched(event("MODIFIED", obj("a", "12"))), watched(), watched(event("BOOKMARK", {"metadata": {
            "resourceVersion": "20"}})), watched(event("MODIFIED", obj("a", "21"))),
    ) as api, followed(api) as told:
        told.wait(a="21")
        assert api.asked[:4] == ["10", "12", "12", "20"]


def test_lines_come_in_any_pieces(followed: Followed) -> None:
    whole = event("ADDED", obj("ü", "11")) + b"\n" + event("ADDED", obj("b", "12"))
    pieces = watched(*(whole[n:n + 7] for n in range(0, len(whole), 7)))
    with running([listed("10")], pieces) as api, followed(api) as told:
        told.wait(ü="11", b="12")


GONE = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
TROUBLE = {
    "a version too old, in the watch": watched(event("ERROR", GONE)),
    "a version too old, at once": Answer(410, GONE),
    "an error of another kind": watched(event("ERROR", {"code": 500, "message": "etcd is away"})),
    "an error without words": watched(event("ERROR", {})),
    "the server is ill": Answer(503, {"message": "later"}),
    "nobody may watch": Answer(403, {"message": "no"}),
    "a watch that breaks off": watched(event("ADDED", obj("x", "11"))[:20], cut=True),
    "lines that are not JSON": watched(b"<html>\n"),
}


@pytest.mark.parametrize("trouble", TROUBLE.values(), ids=TROUBLE)
def test_after_trouble_everything_is_listed_again(trouble: Answer, followed: Followed) -> None:
    with running(
        [listed("10", obj("a", "1"), obj("gone", "2")), listed("30", obj("a", "25"))], trouble,
        watched(event("MODIFIED", obj("a", "31"))),
    ) as api, followed(api) as told:
        told.wait(lists=2, a="31")
        assert api.asked[:2] == ["10", "30"]


def test_while_nothing_can_be_listed_the_last_state_holds(followed: Followed) -> None:
    ill = Answer(500, {"message": "ill"})
    with running(
        [listed("10", obj("a", "1")), ill, ill, Answer(401, {}), Answer(200, "no list"), listed("40", obj("a", "40"))],
        watched(event("ERROR", GONE)),
    ) as api, followed(api) as told:
        told.wait(lists=2, a="40")
        assert len(api.lists) == 1, "each of the others was asked for"


def test_only_metadata_is_asked_for_where_that_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    first = obj("a", "1")
    first["metadata"]["managedFields"] = [{"manager": "kubectl"}]
    with running([listed("10", first)], watched(event("MODIFIED", obj("a", "12")))) as api:
        assert Client(api.configuration, 1).list_metadata_versioned(names.KIND) == ([obj("a", "1")], "10")
        told = Told()

        def follow(stop: threading.Event) -> None:
            watching.follow_metadata(Client(api.configuration, 1), names.KIND, told, stop)

        with in_a_thread(api, monkeypatch, follow):
            told.wait(a="12")
        assert api.accepted == {
            f"application/json;as={what};v=v1;g=meta.k8s.io"
            for what in ("PartialObjectMetadata", "PartialObjectMetadataList")
        }
        assert not api.selectors - {""}
