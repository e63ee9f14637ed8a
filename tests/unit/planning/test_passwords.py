# SPDX-License-Identifier: Apache-2.0
"""Which Secrets there are to be so that the right namespaces can log in to caches, and the life of the key."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import bcrypt
import pytest
from imagecache_operator import names
from imagecache_operator.cluster import reading
from imagecache_operator.planning import passwords
from imagecache_operator.planning.decision import Manifest
from imagecache_operator.planning.observed import Cache, Namespace
from imagecache_operator.planning.passwords import Key, KeyTask, Observed, Plan, Stored

from .offers import ADDRESS, TRAIN, served
from .offers import cache as image_cache

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
A, B, OURS = Namespace("team-a", "a"), Namespace("team-b", "b", {"tier": "gold"}), Namespace("system", "s")
KEY = Key("k", current=b"k" * 32, since=NOW - DAY)


def cache(name: str = "ml", address: str = ADDRESS, **spec: Any) -> Cache:
    """A served cache, for team-a unless `spec` says otherwise."""
    status = {"server": {"name": "s", "address": address, "ready": True}}
    wanted = {"allowedNamespaces": {"names": ["team-a"]}, **spec}
    return reading.cache(image_cache(name, TRAIN, spec=wanted, status=status))


def planned(*caches: Cache, now: datetime = NOW, **seen: Any) -> Plan:
    given = {"namespaces": (A, B, OURS), "key": KEY, **seen}
    return passwords.plan(Observed("system", "home", caches, **given), now)


def stored(manifest: Manifest, **changed: Any) -> Stored:
    meta = manifest["metadata"]
    return replace(
        Stored(meta["name"], meta["namespace"], "uid", manifest["type"], data=manifest["data"]), **changed,
    )


def files(done: Plan) -> dict[str, list[str]]:
    """By cache: the users that its server lets in."""
    return {
        m["metadata"]["annotations"][names.ANNOTATION_CACHE_NAME]: [line.partition(":")[0] for line in lines(m)]
        for m in done.apply if "htpasswd" in m["data"]
    }


def lines(manifest: Manifest) -> list[str]:
    return base64.b64decode(manifest["data"]["htpasswd"]).decode().splitlines()


def logins(done: Plan) -> dict[str, dict[str, dict[str, str]]]:
    """By namespace and address: the login."""
    return {
        m["metadata"]["namespace"]: json.loads(base64.b64decode(m["data"][".dockerconfigjson"]))["auths"]
        for m in done.apply if m["metadata"]["name"] == names.ACCESS_SECRET
    }


def lets_in(done: Plan, name: str, login: dict[str, str]) -> bool:
    manifest = next(
        m for m in done.apply if m["metadata"].get("annotations", {}).get(names.ANNOTATION_CACHE_NAME) == name
    )
    known = dict(line.split(":") for line in lines(manifest))
    hashed = known.get(login["username"])
    return hashed is not None and bcrypt.checkpw(login["password"].encode(), hashed.encode())


def namespaces(users: list[str]) -> list[str]:
    return [user.rpartition(".")[0] for user in users]


def test_a_cache_for_everybody_needs_nothing() -> None:
    done = planned(cache(allowedNamespaces=None), key=None)
    assert done == Plan(passwords.LOOK_AGAIN)


def test_whoever_is_admitted_gets_a_login_that_the_server_knows() -> None:
    done = planned(cache())
    assert namespaces(files(done)["ml"]) == ["team-a"]
    assert set(logins(done)) == {"team-a"}
    assert set(logins(done)["team-a"]) == {ADDRESS}
    assert lets_in(done, "ml", logins(done)["team-a"][ADDRESS])
    assert [m["metadata"]["name"] == names.ACCESS_SECRET for m in done.apply] == [False, True], "first the file"


def test_a_namespace_has_one_secret_for_all_caches_and_a_password_for_each() -> None:
    other = "localhost:31299"
    done = planned(cache(), cache("other", other, allowedNamespaces={"names": ["team-a", "team-b"]}))
    assert {where: set(found) for where, found in logins(done).items()} == {
        "team-a": {ADDRESS, other}, "team-b": {other},
    }
    ml, elsewhere = logins(done)["team-a"][ADDRESS], logins(done)["team-a"][other]
    assert lets_in(done, "other", elsewhere)
    assert not lets_in(done, "other", ml), "another cache's password"
    assert not lets_in(done, "ml", logins(done)["team-b"][other]), "another namespace's"


@pytest.mark.parametrize(("allowed", "expected"), [
    ({"names": ["team-a", "not-there-yet"]}, ["team-a"]),
    ({"selector": {"matchLabels": {"tier": "gold"}}}, ["team-b"]),
    ({"selector": {}}, ["team-a", "team-b", "system"]),
    ({"names": ["not-there-yet"]}, []),
])
def test_it_is_for_namespaces_that_are_there(allowed: Any, expected: list[str]) -> None:
    done = planned(cache(allowedNamespaces=allowed))
    assert namespaces(files(done)["ml"]) == expected, "also where it is nobody: the server waits for its file"
    assert sorted(logins(done)) == sorted(expected)


def test_where_nodes_are_kept_warm_the_warmer_gets_a_login_too() -> None:
    done = planned(cache(warmNodes={}))
    assert namespaces(files(done)["ml"]) == ["team-a", "system"]
    assert lets_in(done, "ml", logins(done)["system"][ADDRESS])


def test_before_its_address_is_known_the_server_gets_its_file() -> None:
    starting = image_cache("ml", TRAIN, spec={"allowedNamespaces": {"names": ["team-a"]}}, status={
        "server": None, "conditions": [served("False", "ServerPending")],
    })
    done = planned(reading.cache(starting))
    assert namespaces(files(done)["ml"]) == ["team-a"]
    assert logins(done) == {}


def test_what_is_there_is_not_written_again() -> None:
    first = planned(cache())
    file, login = (stored(m) for m in first.apply)
    there: dict[str, Any] = {"htpasswds": (file,), "pull_secrets": (login,)}
    assert planned(cache(), **there) == Plan(passwords.LOOK_AGAIN)
    torn = {**there, "pull_secrets": (stored(first.apply[1], data={".dockerconfigjson": "e30="}),)}
    assert logins(planned(cache(), **torn)) == logins(first), "what somebody has changed is put right"


@pytest.mark.parametrize("change", [{"allowedNamespaces": {"names": ["team-b"]}}, {"allowedNamespaces": None}])
def test_what_is_no_longer_meant_is_taken_back(change: dict[str, Any]) -> None:
    first = planned(cache())
    file, login = (stored(m) for m in first.apply)
    done = planned(cache(**change), htpasswds=(file,), pull_secrets=(login,))
    assert login in done.delete
    assert (file in done.delete) == ("team-b" not in str(change))


@pytest.mark.parametrize("reason", ["NotAvailable", "NotWanted", "NobodyAdmitted", "KubeletTooOld"])
def test_nor_is_anything_left_of_one_that_has_no_server(reason: str) -> None:
    file, login = (stored(m) for m in planned(cache()).apply)
    state = {"conditions": [served("False", reason)]}
    obj = image_cache("ml", TRAIN, spec={"allowedNamespaces": {"names": ["team-a"]}}, status=state)
    done = planned(reading.cache(obj), htpasswds=(file,), pull_secrets=(login,))
    assert (done.delete, done.apply) == ((login, file), ())


def test_what_somebody_else_has_under_our_name_is_not_deleted() -> None:
    theirs = Stored(names.ACCESS_SECRET, "team-b", "x", "Opaque", ours=False)
    assert planned(cache(), pull_secrets=(theirs,)).delete == ()
    assert planned(cache(allowedNamespaces=None), pull_secrets=(theirs,)).delete == ()


@pytest.mark.parametrize("changed", [{"type": "Opaque"}, {"immutable": True, "data": {}}])
def test_what_cannot_be_changed_goes_first(changed: dict[str, Any]) -> None:
    login = stored(planned(cache()).apply[1], **changed)
    done = planned(cache(), pull_secrets=(login,))
    assert done.delete == (login,)
    assert set(logins(done)) == {"team-a"}


@pytest.mark.parametrize(("key", "task"), [
    (None, KeyTask.MAKE),
    (replace(KEY, changeable=False), KeyTask.DISCARD),
    (replace(KEY, current=None), KeyTask.DISCARD),
    (replace(KEY, since=None), KeyTask.DISCARD),
    (replace(KEY, since=NOW - 30 * DAY), KeyTask.RENEW),
    (replace(KEY, since=NOW - 30 * DAY + MINUTE), None),
    (replace(KEY, previous=b"p" * 32, since=NOW - HOUR), KeyTask.FORGET),
    (replace(KEY, previous=b"p" * 32, since=NOW - HOUR + MINUTE), None),
    (replace(KEY, since=NOW + HOUR), None),
])
def test_the_key(key: Key | None, task: KeyTask | None) -> None:
    done = planned(cache(), key=key)
    assert done.key == task
    if task is not None:
        assert (done.apply, done.delete, done.again_in) == ((), (), passwords.GO_ON), "one write, then another look"


def test_a_new_key_locks_nobody_out() -> None:
    """Servers know it before anybody uses it, and the old one for as long as a node may still use that."""
    old, new = KEY, replace(KEY, current=b"n" * 32, previous=KEY.current, since=NOW)
    before = logins(planned(cache(), key=old))["team-a"][ADDRESS]
    at_once = planned(cache(), key=new)
    assert logins(at_once)["team-a"][ADDRESS] == before
    assert at_once.again_in == passwords.SPREAD
    later = planned(cache(), key=new, now=NOW + passwords.SPREAD)
    after = logins(later)["team-a"][ADDRESS]
    assert after != before
    for done in (at_once, later):
        assert lets_in(done, "ml", before)
        assert lets_in(done, "ml", after)
    forgotten = planned(cache(), key=replace(new, previous=None), now=NOW + HOUR)
    assert lets_in(forgotten, "ml", after)
    assert not lets_in(forgotten, "ml", before)


def test_no_password_is_in_a_repr() -> None:
    done = planned(cache())
    text = repr((KEY, done, [stored(m) for m in done.apply]))
    assert logins(done)["team-a"][ADDRESS]["password"] not in text
    assert "kkkk" not in text
    assert lines(done.apply[0])[0].partition(":")[2] not in text
