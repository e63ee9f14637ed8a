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
A, B, OURS = (
    Namespace("team-a", "a", {}), Namespace("team-b", "b", {"tier": "gold"}), Namespace("system", "s", {}),
)
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
    found = Stored(meta["name"], meta["namespace"], "uid", meta["annotations"][names.ANNOTATION_LOGINS])
    return replace(found, **changed)


def settled(done: Plan) -> dict[str, Any]:
    """What is seen when that plan was carried out."""
    return {
        "htpasswds": tuple(stored(m) for m in done.files), "pull_secrets": tuple(stored(m) for m in done.logins),
    }


def files(done: Plan) -> dict[str, list[str]]:
    """By cache: the users that its server lets in."""
    return {
        m["metadata"]["annotations"][names.ANNOTATION_CACHE_NAME]: [line.partition(":")[0] for line in lines(m)]
        for m in done.files
    }


def lines(manifest: Manifest) -> list[str]:
    return base64.b64decode(manifest["data"]["htpasswd"]).decode().splitlines()


def logins(done: Plan) -> dict[str, dict[str, dict[str, str]]]:
    """By namespace and address: the login."""
    return {
        m["metadata"]["namespace"]: json.loads(base64.b64decode(m["data"][".dockerconfigjson"]))["auths"]
        for m in done.logins
    }


def lets_in(done: Plan, name: str, login: dict[str, str]) -> bool:
    manifest = next(m for m in done.files if m["metadata"]["annotations"][names.ANNOTATION_CACHE_NAME] == name)
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
    assert namespaces(files(done)["ml"]) == ["team-a", "system"]
    assert set(logins(done)) == {"team-a", "system"}
    assert set(logins(done)["team-a"]) == {ADDRESS}
    assert lets_in(done, "ml", logins(done)["team-a"][ADDRESS])
    assert done.again_in == passwords.LOOK_AGAIN_AT_PASSWORDS


def test_a_namespace_has_one_secret_for_all_caches_and_a_password_for_each() -> None:
    other = "localhost:31299"
    done = planned(cache(), cache("other", other, allowedNamespaces={"names": ["team-a", "team-b"]}))
    assert {where: set(found) for where, found in logins(done).items()} == {
        "team-a": {ADDRESS, other}, "team-b": {other}, "system": {ADDRESS, other},
    }
    ml, elsewhere = logins(done)["team-a"][ADDRESS], logins(done)["team-a"][other]
    assert lets_in(done, "other", elsewhere)
    assert not lets_in(done, "other", ml), "another cache's password"
    assert not lets_in(done, "ml", logins(done)["team-b"][other]), "another namespace's"


@pytest.mark.parametrize(("allowed", "expected"), [
    ({"names": ["team-a", "not-there-yet"]}, ["team-a", "system"]),
    ({"selector": {"matchLabels": {"tier": "gold"}}}, ["team-b", "system"]),
    ({"selector": {}}, ["team-a", "team-b", "system"]),
    ({"names": ["not-there-yet"]}, ["system"]),
])
def test_it_is_for_namespaces_that_are_there(allowed: Any, expected: list[str]) -> None:
    done = planned(cache(allowedNamespaces=allowed))
    assert namespaces(files(done)["ml"]) == expected
    assert sorted(logins(done)) == sorted(expected)


def test_what_tries_a_server_and_keeps_nodes_warm_gets_a_login_too() -> None:
    done = planned(cache())
    assert lets_in(done, "ml", logins(done)["system"][ADDRESS])


def test_before_its_address_is_known_the_server_gets_its_file() -> None:
    starting = image_cache("ml", TRAIN, spec={"allowedNamespaces": {"names": ["team-a"]}}, status={
        "server": None, "conditions": [served("False", "ServerPending")],
    })
    done = planned(reading.cache(starting))
    assert files(done) == {"ml": []}, "the server waits for a file; nobody can log in before that"
    assert logins(done) == {}


def test_what_is_there_is_not_written_again() -> None:
    there = settled(planned(cache()))
    assert planned(cache(), **there) == Plan(passwords.LOOK_AGAIN_AT_PASSWORDS)
    for changed in ({"version": "another"}, {"ours": False}):
        torn = {**there, "pull_secrets": tuple(replace(one, **changed) for one in there["pull_secrets"])}
        done = planned(cache(), **torn)
        assert (set(logins(done)), done.delete) == ({"team-a", "system"}, ()), "what somebody has changed is put right"


def test_another_address_is_another_password() -> None:
    """Whoever gets a port that a server had is sent a password by Pods that do not know yet: a dead one."""
    before, after = planned(cache()), planned(cache(address="localhost:31999"))
    (old,), (new,) = (logins(done)["team-a"].values() for done in (before, after))
    assert not lets_in(after, "ml", old)
    assert lets_in(after, "ml", new)
    assert planned(cache(address="localhost:31999"), **settled(before)).files


@pytest.mark.parametrize("change", [{"allowedNamespaces": {"names": ["team-b"]}}, {"allowedNamespaces": None}])
def test_what_is_no_longer_meant_is_taken_back(change: dict[str, Any]) -> None:
    there = settled(planned(cache()))
    (file,), (_, login) = there["htpasswds"], there["pull_secrets"]
    done = planned(cache(**change), **there)
    assert login in done.delete
    assert (file in done.delete) == ("team-b" not in str(change))


@pytest.mark.parametrize("reason", ["NotAvailable", "NotWanted", "NobodyAdmitted", "KubeletTooOld"])
def test_nor_is_anything_left_of_one_that_has_no_server(reason: str) -> None:
    there = settled(planned(cache()))
    state = {"conditions": [served("False", reason)]}
    obj = image_cache("ml", TRAIN, spec={"allowedNamespaces": {"names": ["team-a"]}}, status=state)
    done = planned(reading.cache(obj), **there)
    assert (done.delete, done.files, done.logins) == ((*there["htpasswds"], *there["pull_secrets"]), (), ())


def test_what_somebody_else_has_under_our_name_is_not_deleted() -> None:
    theirs = Stored(names.ACCESS_SECRET, "team-b", "x", ours=False)
    assert planned(cache(), pull_secrets=(theirs,)).delete == ()
    assert planned(cache(allowedNamespaces=None), pull_secrets=(theirs,)).delete == ()


def test_a_look_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "MOST_WRITES", 2)
    everywhere = cache(allowedNamespaces={"selector": {}})
    done = planned(everywhere)
    assert (sorted(logins(done)), done.again_in) == (["system", "team-a"], passwords.GO_ON)
    rest = planned(everywhere, **settled(done))
    assert (sorted(logins(rest)), rest.again_in) == (["team-b"], passwords.LOOK_AGAIN_AT_PASSWORDS)


@pytest.mark.parametrize(("key", "task"), [
    (None, KeyTask.MAKE),
    (replace(KEY, changeable=False), KeyTask.DISCARD),
    (replace(KEY, current=None), KeyTask.DISCARD),
    (replace(KEY, since=None), KeyTask.DISCARD),
    (replace(KEY, since=NOW - 30 * DAY), KeyTask.RENEW),
    (replace(KEY, since=NOW - 30 * DAY + MINUTE), None),
    (replace(KEY, since=NOW + HOUR), None),
    (replace(KEY, since=NOW + HOUR + MINUTE), KeyTask.RENEW),
])
def test_the_key(key: Key | None, task: KeyTask | None) -> None:
    done = planned(cache(), key=key)
    assert done.key == task
    if task is not None:
        assert done == Plan(passwords.GO_ON, key=task), "one write, then another look"


def test_a_new_key_locks_nobody_out() -> None:
    """Servers know it before anybody uses it, and the old one for as long as a node may still use that."""
    old, new = KEY, replace(KEY, current=b"n" * 32, previous=KEY.current, since=NOW)
    first = planned(cache(), key=old)
    before = logins(first)["team-a"][ADDRESS]
    at_once = planned(cache(), key=new, **settled(first))
    assert (namespaces(files(at_once)["ml"]), at_once.logins) == ([*["team-a"] * 2, *["system"] * 2], ())
    there = {**settled(first), "htpasswds": settled(at_once)["htpasswds"]}
    assert planned(cache(), key=new, **there) == Plan(passwords.LOOK_AGAIN_AT_PASSWORDS)
    later = planned(cache(), key=new, now=NOW + passwords.SPREAD, **there)
    after = logins(later)["team-a"][ADDRESS]
    assert (after != before, later.files) == (True, ())
    assert lets_in(at_once, "ml", before)
    assert lets_in(at_once, "ml", after)
    there["pull_secrets"] = settled(later)["pull_secrets"]
    forgetting = planned(cache(), key=new, now=NOW + HOUR, **there)
    assert forgetting == Plan(passwords.GO_ON, key=KeyTask.FORGET)
    forgotten = planned(cache(), key=replace(new, previous=None), now=NOW + HOUR, **there)
    assert (lets_in(forgotten, "ml", after), lets_in(forgotten, "ml", before)) == (True, False)


@pytest.mark.parametrize("late", [passwords.SPREAD, HOUR, 3 * DAY])
def test_nor_where_the_operator_was_away_when_servers_should_have_heard_of_it(late: timedelta) -> None:
    first = planned(cache())
    new = replace(KEY, current=b"n" * 32, previous=KEY.current, since=NOW)
    done = planned(cache(), key=new, now=NOW + late, **settled(first))
    assert (done.key, done.logins, done.again_in) == (None, (), passwords.GO_ON), "the file first"
    assert lets_in(done, "ml", logins(first)["team-a"][ADDRESS])


def test_no_password_is_in_a_repr() -> None:
    done = planned(cache())
    text = repr((KEY, done, settled(done)))
    assert logins(done)["team-a"][ADDRESS]["password"] not in text
    assert "kkkk" not in text
    assert lines(done.files[0])[0].partition(":")[2] not in text
