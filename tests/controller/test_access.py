# SPDX-License-Identifier: Apache-2.0
"""The looks at who can log in to which cache, against an API server in memory: what one look writes, that the next one
writes nothing, and that one may be killed at any write."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api.credentials import parse
from imagecache_operator.cluster.api import Rejected, Unavailable
from imagecache_operator.controller.access import Access
from imagecache_operator.planning.passwords import LIFETIME, LOOK_AGAIN, LOOK_AGAIN_AT_PASSWORDS, OVERLAP, SPREAD
from imagecache_operator.settings import Settings

from tests.support.memory_api import MemoryApi
from tests.unit.planning.offers import ADDRESS, TRAIN
from tests.unit.planning.offers import cache as image_cache

from .world import Killed, Mortal

BEGIN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
SETTINGS = Settings(builder_image="operator:test")
HOME = "home"


class Place:
    """A cluster with three namespaces of teams, and the operator's looks at it, by a clock of its own."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.memory = MemoryApi(lambda: self.now)
        self.api = Mortal(self.memory)
        for team in ("team-a", "team-b", "team-c"):
            self.memory.create({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team, "labels": {"team": team}},
            })

    def add(self, name: str = "ml", **spec: Any) -> str:
        """A cache, served, for team-a unless `spec` says otherwise. Its UID."""
        obj = image_cache(name, TRAIN, spec={"allowedNamespaces": {"names": ["team-a"]}, **spec})
        self.memory.create({key: obj[key] for key in ("apiVersion", "kind", "metadata", "spec")})
        self.memory.apply_status({**obj, "metadata": {"name": name}})
        found = self.memory.get(names.KIND, name)
        assert found
        return str(found["metadata"]["uid"])

    def look(self) -> int:
        """One look. The number of its writes."""
        before = self.api.writes
        self.again_in = Access(self.api, SETTINGS, HOME, lambda: self.now).run_once().again_in
        return self.api.writes - before

    def settle(self) -> None:
        for _ in range(5):
            if not self.look():
                return
        raise AssertionError("it does not come to rest")

    def login(self, namespace: str) -> dict[str, Any]:
        """The logins of that namespace by address."""
        secret = self.memory.get("Secret", names.ACCESS_SECRET, namespace)
        if secret is None:
            return {}
        return dict(json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"])

    def file(self, uid: str) -> str | None:
        secret = self.memory.get("Secret", names.server_name(HOME, uid), names.NAMESPACE)
        return base64.b64decode(secret["data"]["htpasswd"]).decode() if secret else None


def lines(place: Place, uid: str) -> list[str]:
    """Of the server's password file: one for each namespace, ours among them, and each key."""
    return (place.file(uid) or "").splitlines()


def test_without_a_cache_that_needs_one_there_is_no_password() -> None:
    place = Place()
    place.add(allowedNamespaces=None)
    assert place.look() == 0
    assert place.again_in == LOOK_AGAIN
    assert place.memory.list("Secret") == []


def test_who_is_admitted_has_a_login_after_two_looks_and_the_next_one_writes_nothing() -> None:
    place = Place()
    uid = place.add()
    assert place.look() == 1, "the key"
    assert place.look() == 3, "the server's file, their login and ours"
    assert place.look() == 0
    assert "team-a." in (place.file(uid) or "")
    assert set(place.login("team-a")) == {ADDRESS}
    assert place.login("team-b") == {}
    text = base64.b64decode(place.memory.list("Secret", "team-a")[0]["data"][".dockerconfigjson"]).decode()
    assert [c.match for c in parse(text, "team-a:imagecache-access")] == [ADDRESS], "as kubelet reads it"


def test_a_namespace_that_comes_or_changes_is_seen() -> None:
    place = Place()
    place.add(allowedNamespaces={"names": ["team-d"], "selector": {"matchLabels": {"team": "team-b"}}})
    place.settle()
    assert set(place.login("team-b")) == {ADDRESS}
    place.memory.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team-d"}})
    place.memory.edit("Namespace", "team-b", lambda o: o["metadata"].update(labels={}))
    place.settle()
    assert set(place.login("team-d")) == {ADDRESS}
    assert place.login("team-b") == {}


def test_one_on_its_way_out_gets_nothing_more() -> None:
    place = Place()
    place.memory.edit("Namespace", "team-a", lambda o: o["metadata"].update(deletionTimestamp=BEGIN.isoformat()))
    place.add()
    place.settle()
    assert place.login("team-a") == {}


def test_a_cache_that_goes_takes_its_passwords_along() -> None:
    place = Place()
    uid = place.add()
    place.settle()
    place.memory.delete(names.KIND, "ml")
    place.settle()
    assert (place.file(uid), place.login("team-a")) == (None, {})


def test_what_is_lost_is_made_again_as_it_was() -> None:
    place = Place()
    uid = place.add()
    place.settle()
    before = (place.file(uid), place.login("team-a"))
    place.memory.delete("Secret", names.ACCESS_SECRET, "team-a")
    place.memory.delete("Secret", names.server_name(HOME, uid), names.NAMESPACE)
    place.settle()
    assert (place.file(uid), place.login("team-a")) == before


def test_a_key_that_is_deleted_ends_all_passwords() -> None:
    place = Place()
    place.add()
    place.settle()
    before = place.login("team-a")
    place.memory.delete("Secret", names.ACCESS_KEY_SECRET, names.NAMESPACE)
    place.settle()
    assert place.login("team-a") != before


@pytest.mark.parametrize("broken", [
    {"current": "AAAA"}, {"current": "!!"}, {"since": "bm90IGEgdGltZQ=="}, {"since": "MjAyNi0wMy0wMQ=="},
], ids=["short", "no base64", "no time", "no zone"])
def test_a_key_that_cannot_be_used_is_made_anew(broken: dict[str, str]) -> None:
    place = Place()
    place.add()
    place.settle()
    place.memory.edit("Secret", names.ACCESS_KEY_SECRET, lambda o: o["data"].update(broken), names.NAMESPACE)
    place.settle()
    assert set(place.login("team-a")) == {ADDRESS}


def test_the_key_is_renewed_and_both_work_for_a_while() -> None:
    place = Place()
    uid = place.add()
    place.settle()
    before, file = place.login("team-a"), lines(place, uid)
    place.now += LIFETIME
    place.settle()
    assert place.login("team-a") == before, "until servers have read the new file"
    assert len(set(lines(place, uid))) == 4
    assert set(file) < set(lines(place, uid))
    assert place.again_in == LOOK_AGAIN_AT_PASSWORDS
    place.now += SPREAD
    place.settle()
    assert place.login("team-a") != before
    place.now += OVERLAP
    place.settle()
    assert len(lines(place, uid)) == 2
    assert not set(file) & set(lines(place, uid))


def test_a_namespace_that_refuses_is_in_nobodys_way(caplog: pytest.LogCaptureFixture) -> None:
    place = Place()
    place.add(allowedNamespaces={"names": ["team-a", "team-b", "team-c"]})
    place.memory.refuse = lambda verb, obj: "exceeded quota" if obj["metadata"].get("namespace") == "team-b" else None
    place.look()
    place.look()
    assert [bool(place.login(team)) for team in ("team-a", "team-b", "team-c")] == [True, False, True]
    assert place.again_in == timedelta(minutes=1)
    assert "in namespace team-b cannot be written: exceeded quota" in caplog.text


def test_a_servers_pod_is_told_of_its_new_file() -> None:
    place = Place()
    uid = place.add()
    pod = {
        "apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "node"}, "metadata": {
            "name": "server-1", "namespace": names.NAMESPACE,
            "labels": names.child_labels(names.COMPONENT_SERVER, HOME, uid),
        },
    }
    place.memory.create(pod)

    def told() -> str:
        found = place.memory.get("Pod", "server-1", names.NAMESPACE) or {}
        return str((found["metadata"].get("annotations") or {}).get(names.ANNOTATION_LOGINS))

    place.settle()
    first = told()
    assert first != "None"
    place.memory.edit(names.KIND, "ml", lambda o: o["spec"].update(allowedNamespaces={"names": ["team-b"]}))
    place.settle()
    assert told() not in ("None", first)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, 7))
def test_killed_at_any_write_it_comes_to_the_same_end(write: int, after: bool) -> None:
    place = Place()
    uid = place.add(allowedNamespaces={"names": ["team-a", "team-b"]})
    place.api.die_at, place.api.after = (lambda n: n == write), after
    for _ in range(6):
        try:
            place.look()
        except Killed:
            place.api.die_at = lambda n: False
    assert place.look() == 0
    assert len(lines(place, uid)) == 3
    assert set(place.login("team-a")) == set(place.login("team-b")) == {ADDRESS}


def test_the_former_key_is_forgotten_even_where_somebody_else_has_written_it() -> None:
    """A restored backup, an edit: what another manager owns is not taken away by leaving it out."""
    place = Place()
    uid = place.add()
    place.settle()
    place.memory.edit(
        "Secret", names.ACCESS_KEY_SECRET, lambda o: o["data"].update(previous=o["data"]["current"]), names.NAMESPACE,
    )
    place.now += OVERLAP
    place.settle()
    assert len(lines(place, uid)) == 2


def test_a_look_that_gets_no_answer_ends_there() -> None:
    place = Place()
    place.add(allowedNamespaces={"selector": {}})
    place.look()
    place.memory.refuse = lambda verb, obj: unavailable()

    def unavailable() -> str | None:
        raise Unavailable("down")

    with pytest.raises(Unavailable):
        place.look()


def test_no_secret_is_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    place = Place()
    place.add()
    place.settle()
    place.memory.delete(names.KIND, "ml")
    place.settle()
    key = (place.memory.get("Secret", names.ACCESS_KEY_SECRET, names.NAMESPACE) or {})["data"]["current"]
    assert key not in caplog.text
    assert "the key is made" in caplog.text


def test_trouble_with_the_look_itself_is_for_whoever_asked() -> None:
    place = Place()
    place.add()

    def down(kind: str, name: str) -> Any:
        raise Unavailable("down")

    place.api.list_named_metadata = down  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        place.look()
    place = Place()
    place.add()
    place.memory.refuse = lambda verb, obj: "not allowed"
    with pytest.raises(Rejected):
        place.look()
