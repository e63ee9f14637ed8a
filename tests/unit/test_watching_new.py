# SPDX-License-Identifier: Apache-2.0
"""What is new of a kind, through the real client, against an API server in all kinds of trouble."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from imagecache_operator.cluster import watching
from imagecache_operator.cluster.client import Client

from tests.support.scripted_api import Answer, ScriptedApi, event, in_a_thread, running, watched
from tests.unit.test_watching import GONE, obj


class Told:
    def __init__(self) -> None:
        self.names: list[str] = []
        self._changed = threading.Condition()

    def __call__(self, found: dict[str, Any]) -> None:
        with self._changed:
            self.names.append(found["metadata"]["name"])
            self._changed.notify_all()

    def wait(self, *expected: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.names == [*expected], timeout=20), self.names


@contextmanager
def followed(api: ScriptedApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    told = Told()

    def follow(stop: threading.Event) -> None:
        watching.follow_new(Client(api.configuration, 1), "Pod", "a-label", told, stop)

    with in_a_thread(api, monkeypatch, follow):
        yield told


def bookmark(version: str) -> bytes:
    return event("BOOKMARK", {"metadata": {"resourceVersion": version}})


def test_all_that_is_there_and_all_that_comes_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    first = watched(
        event("ADDED", obj("a", "9")), event("ADDED", obj("b", "3")), event("MODIFIED", obj("a", "10")),
        event("DELETED", obj("b", "11")), bookmark("20"), event("ADDED", obj("c", "21")),
    )
    with running([], first, watched(event("ADDED", obj("c", "21")))) as api, followed(api, monkeypatch) as told:
        told.wait("a", "b", "c", "c")
        assert api.asked[:2] == ["0", "20"], "from where all before was told, whatever was told since"
        assert api.selectors == {"a-label"}
        assert api.accepted == {"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"}


TROUBLE = {
    "a version too old": (watched(event("ERROR", GONE)), "0"),
    "a version too old, at once": (Answer(410, GONE), "0"),
    "nobody may watch": (Answer(403, {"message": "no"}), "0"),
    "an error of another kind": (watched(event("ERROR", {"code": 500, "message": "etcd is away"})), "0"),
    "the server is ill": (Answer(503, {"message": "later"}), "20"),
    "a watch that breaks off": (watched(event("ADDED", obj("x", "21"))[:20], cut=True), "20"),
    "no bookmark": (watched(), "20"),
}


@pytest.mark.parametrize(("trouble", "version"), TROUBLE.values(), ids=TROUBLE)
def test_after_trouble_nobody_is_left_out(trouble: Answer, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, last = watched(event("ADDED", obj("a", "9")), bookmark("20")), watched(event("ADDED", obj("b", "30")))
    with running([], first, trouble, last) as api, followed(api, monkeypatch) as told:
        told.wait("a", "b")
        assert api.asked[:3] == ["0", "20", version]


def test_one_that_breaks_off_before_the_first_bookmark_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there at the beginning comes in the order of names; the version of one says nothing about the next."""
    cut = watched(event("ADDED", obj("a", "9")), cut=True)
    whole = watched(event("ADDED", obj("a", "9")), event("ADDED", obj("b", "3")), bookmark("20"))
    with running([], cut, whole) as api, followed(api, monkeypatch) as told:
        told.wait("a", "a", "b")
        assert api.asked[:2] == ["0", "0"]
