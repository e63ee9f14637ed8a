# SPDX-License-Identifier: Apache-2.0
"""The Secrets by which a cache is for some namespaces only, and the passwords in them."""

from __future__ import annotations

import base64
import json

import bcrypt
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator import names
from imagecache_operator.planning.children import access
from imagecache_operator.planning.children.access import Login, login
from imagecache_operator.planning.observed import Namespace

from .facts import HOME, UID, cache

ADDRESS = "localhost:31234"
KEY, OTHER = b"k" * 32, b"o" * 32
A, B = Namespace("team-a", "uid-a"), Namespace("team-b", "uid-b")


def lines(*logins: Login) -> list[list[str]]:
    made = access.htpasswd(cache(), HOME, names.NAMESPACE, ADDRESS, logins)
    text = base64.b64decode(made["data"][access.HTPASSWD_KEY]).decode()
    return [line.split(":") for line in text.splitlines()]


def test_a_login_is_of_one_cache_and_one_namespace_and_one_key() -> None:
    one = login(KEY, UID, ADDRESS, A)
    others = (
        login(KEY, UID, "localhost:31235", A),
        login(KEY, UID, ADDRESS, B), login(KEY, "another cache", ADDRESS, A), login(OTHER, UID, ADDRESS, A),
        login(KEY, UID, ADDRESS, Namespace("team-a", "of a namespace that took the name")),
    )
    assert login(KEY, UID, ADDRESS, A) == one
    assert one.password not in {other.password for other in others}
    assert len(base64.urlsafe_b64decode(one.password + "=")) == 32
    assert login(OTHER, UID, ADDRESS, A).user != one.user, "a server knows users of two keys at once"


def test_words_do_not_run_into_each_other() -> None:
    assert login(KEY, "ab", "c", A) != login(KEY, "a", "bc", A)


def test_neither_password_nor_manifest_is_in_a_repr() -> None:
    one = login(KEY, UID, ADDRESS, A)
    assert one.password not in repr(one)


@given(st.binary(min_size=32, max_size=64), st.text("abc-09", min_size=1, max_size=40))
def test_the_file_lets_in_whoever_has_the_login_and_nobody_else(key: bytes, uid: str) -> None:
    one, other = login(key, uid, ADDRESS, A), login(key, uid, ADDRESS, B)
    (user, hashed), = lines(one)
    assert user == one.user
    assert bcrypt.checkpw(one.password.encode(), hashed.encode())
    assert not bcrypt.checkpw(other.password.encode(), hashed.encode())
    assert lines(one) == [[user, hashed]], "the same file each time: nothing is written anew for nothing"


def test_the_servers_secret() -> None:
    both = [login(KEY, UID, ADDRESS, A), login(KEY, UID, ADDRESS, B)]
    made = access.htpasswd(cache(), HOME, names.NAMESPACE, ADDRESS, both)
    assert (made["kind"], made["type"], list(made["data"])) == ("Secret", "Opaque", ["htpasswd"])
    assert made["metadata"]["name"] == names.server_name(HOME, UID)
    assert made["metadata"]["namespace"] == names.NAMESPACE
    assert made["metadata"]["ownerReferences"][0]["uid"] == UID
    assert len(lines(login(KEY, UID, ADDRESS, A), login(KEY, UID, ADDRESS, B))) == 2
    assert lines() == [], "a file without anybody in it lets nobody in"


def test_the_secret_of_a_namespace_is_what_kubelet_reads() -> None:
    one, other = login(KEY, UID, ADDRESS, A), login(KEY, "another", "localhost:31235", A)
    made = access.pull_secret("team-a", {"localhost:31235": other, "localhost:31234": one})
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == ("imagecache-access", "team-a")
    assert "ownerReferences" not in made["metadata"], "an owner in another namespace would be none"
    assert made["type"] == "kubernetes.io/dockerconfigjson"
    auths = json.loads(base64.b64decode(made["data"][".dockerconfigjson"]))["auths"]
    assert list(auths) == ["localhost:31234", "localhost:31235"]
    assert auths["localhost:31234"] == {
        "username": one.user, "password": one.password,
        "auth": base64.b64encode(f"{one.user}:{one.password}".encode()).decode(),
    }


def test_what_it_was_made_for_is_told_and_gives_nothing_away() -> None:
    one, other = login(KEY, UID, ADDRESS, A), login(KEY, UID, ADDRESS, B)
    versions = {access.version(logins) for logins in (
        [], [(ADDRESS, one)], [(ADDRESS, other)], [("localhost:31235", one)], [(ADDRESS, one), (ADDRESS, other)],
    )}
    assert len(versions) == 5
    made = access.pull_secret("team-a", {ADDRESS: one})
    assert made["metadata"]["annotations"] == {names.ANNOTATION_LOGINS: access.version([(ADDRESS, one)])}
    assert one.password not in json.dumps(made["metadata"])
