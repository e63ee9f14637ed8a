# SPDX-License-Identifier: Apache-2.0
"""Which events wake whom. The operator's own writes wake nobody, or it would go round and round."""

from __future__ import annotations

from typing import Any

import kopf
import pytest
from imagecache_operator import names
from imagecache_operator.controller import handlers
from imagecache_operator.controller.handlers import Memo

from .bodies import UID, child, imagecache


class Heard:
    """In place of `Wakeups`: writes down who is woken."""

    def __init__(self) -> None:
        self.woken: list[str] = []

    def wake(self, uid: str) -> None:
        self.woken.append(uid)

    def wake_waiting(self) -> None:
        self.woken.append("waiting")


RETRY = {names.ANNOTATION_RETRY: "a"}


@pytest.mark.parametrize(("type", "body", "woken"), [
    (None, imagecache(status={"observedGeneration": None}), [UID]),
    ("MODIFIED", imagecache(), []),
    ("MODIFIED", imagecache(status={"observedGeneration": 1}), [UID]),
    ("MODIFIED", imagecache(deletionTimestamp="2026-03-01T12:00:00Z"), [UID]),
    ("MODIFIED", imagecache(RETRY), [UID]),
    ("MODIFIED", imagecache(RETRY, {"handledRetry": "a"}), []),
    ("MODIFIED", imagecache(RETRY, {"handledRetry": "b"}), [UID]),
    ("MODIFIED", imagecache({names.ANNOTATION_RETRY: ""}), []),
    ("MODIFIED", imagecache({"other": "a"}), []),
    ("DELETED", imagecache(), ["waiting"]),
], ids=["new", "our own write", "edit", "deletion", "retry", "retry handled", "retry again", "retry empty",
        "another annotation", "gone"])
def test_what_wakes_a_cache(type: str | None, body: kopf.Body, woken: list[str]) -> None:
    heard = Heard()
    handlers.wake_cache(type=type, body=body, memo=Memo(None, None, None, None, heard))  # type: ignore[arg-type]
    assert [uid for uid in heard.woken if uid != handlers.ACCESS] == woken


@pytest.mark.parametrize(("type", "status", "woken"), [
    (None, {}, True), ("ADDED", {"phase": "Creating"}, True), ("DELETED", {"phase": "Creating"}, True),
    ("MODIFIED", {"phase": "Available"}, True), ("MODIFIED", {"phase": "Unavailable"}, True),
    ("MODIFIED", {"phase": "Creating"}, False),
], ids=["begin", "new", "gone", "available", "expired", "progress"])
def test_what_wakes_the_look_at_passwords(type: str | None, status: dict[str, Any], woken: bool) -> None:
    heard = Heard()
    memo = Memo(None, None, None, None, heard)  # type: ignore[arg-type]
    handlers.wake_cache(type=type, body=imagecache(status=status), memo=memo)
    assert (handlers.ACCESS in heard.woken) == woken


def test_a_namespace_wakes_the_look_at_passwords_where_what_matters_of_it_has_changed() -> None:
    heard = Heard()
    memo = Memo(None, None, None, None, heard)  # type: ignore[arg-type]
    seen = []
    changes: list[tuple[str, dict[str, Any]]] = [
        ("ADDED", {}), ("MODIFIED", {"annotations": {"a": "b"}}), ("MODIFIED", {"labels": {"tier": "gold"}}),
        ("MODIFIED", {"labels": {"tier": "gold"}}), ("MODIFIED", {"deletionTimestamp": "2026-03-01T12:00:00Z"}),
        ("DELETED", {}), ("ADDED", {}),
    ]
    for type, meta in changes:
        before = len(heard.woken)
        namespace: Any = {"metadata": {"name": "team-a", "uid": "1", **meta}}
        handlers.wake_access(type=type, body=kopf.Body(namespace), memo=memo)
        seen.append(len(heard.woken) > before)
    assert seen == [True, False, True, False, True, True, True]
    assert set(heard.woken) == {handlers.ACCESS}


@pytest.mark.parametrize(("type", "body", "woken"), [
    ("MODIFIED", child(), [UID]),
    ("ADDED", child("Pending"), [UID]),
    ("MODIFIED", child("Succeeded"), [UID, "waiting"]),
    ("MODIFIED", child("Failed"), [UID, "waiting"]),
    ("DELETED", child(), [UID, "waiting"]),
    ("MODIFIED", kopf.Body({"metadata": {"name": "no labels"}}), [""]),
])
def test_what_wakes_by_a_child(type: str, body: kopf.Body, woken: list[str]) -> None:
    heard = Heard()
    handlers.wake_owner(type=type, body=body, memo=Memo(None, None, None, None, heard))  # type: ignore[arg-type]
    assert heard.woken == woken
