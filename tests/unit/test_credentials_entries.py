# SPDX-License-Identifier: Apache-2.0
"""What an entry of a pull Secret may hold, and how it travels to the builder.

Which images an entry is for is in `test_credentials.py`, what is refused in `test_credentials_refused.py`.
"""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecache_operator.api import reference
from imagecache_operator.api.credentials import Credential, Credentials, parse

SOURCE = "team:regcred"
WORD = "hunter2"
AUTH = base64.b64encode(f"me:{WORD}".encode()).decode()  # with two characters of padding


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def holding(entry: object, key: str = "reg.example") -> str:
    return json.dumps({"auths": {key: entry}})


def login(**expected: str) -> tuple[Credential, ...]:
    return (Credential(match="reg.example", source=SOURCE, **expected),)


@pytest.mark.parametrize(("entry", "username", "password"), [
    ({"username": "me", "password": WORD}, "me", WORD),
    ({"auth": AUTH}, "me", WORD),
    ({"auth": AUTH.rstrip("=")}, "me", WORD),
    ({"auth": f"{AUTH[:4]}\n{AUTH[4:9]}\r\n{AUTH[9:]}\n"}, "me", WORD),  # as `base64` breaks long lines
    ({"auth": "\n" + AUTH.rstrip("=") + "\r\n"}, "me", WORD),
    ({"auth": encoded(b"me:hunter23")}, "me", "hunter23"),  # one character of padding
    ({"auth": encoded(b"me:hunter234")}, "me", "hunter234"),  # none
    ({"username": "you", "password": "old", "auth": AUTH}, "me", WORD),  # `auth` decides, whatever stands beside it
    ({"username": "you", "password": "old", "auth": ""}, "you", "old"),
    ({"username": "you", "password": "old", "auth": None}, "you", "old"),
    ({"auth": encoded(b"me:a:b:")}, "me", "a:b:"),
    ({"auth": encoded(b":" + WORD.encode())}, "", WORD),
    ({"auth": encoded(b"me:")}, "me", ""),
    ({"auth": encoded("mé:pä§\x00\n😀".encode())}, "mé", "pä§\x00\n😀"),
    ({"username": "me"}, "me", ""),
    ({"password": WORD, "username": None}, "", WORD),
    ({"Username": "me", "PASSWORD": WORD}, "me", WORD),  # Go's decoder does not look at the case of names
    ({"Auth": AUTH}, "me", WORD),
    ({"auth": AUTH, "email": "me@corp.example", "serveraddress": "x", "registry": [1]}, "me", WORD),
    ({"auth": AUTH, "email": False, "identitytoken": None}, "me", WORD),
])
def test_how_an_entry_says_who_logs_in(entry: dict[str, object], username: str, password: str) -> None:
    assert parse(holding(entry), SOURCE) == login(username=username, password=password)


@pytest.mark.parametrize(("entry", "expected"), [
    ({"identitytoken": WORD}, {"identity_token": WORD}),
    ({"registrytoken": WORD}, {"registry_token": WORD}),
    # What `docker login` leaves for registries with refresh tokens: a user of no meaning and an empty password.
    ({"auth": encoded(b"00000000:"), "identitytoken": WORD}, {"username": "00000000", "identity_token": WORD}),
    ({"username": "me", "password": "p", "identitytoken": WORD, "registrytoken": "t"},
     {"username": "me", "password": "p", "identity_token": WORD, "registry_token": "t"}),
])
def test_tokens_count_though_kubelet_leaves_them_out(entry: dict[str, object], expected: dict[str, str]) -> None:
    assert parse(holding(entry), SOURCE) == login(**expected)


@pytest.mark.parametrize(("text", "legacy"), [
    ('{"auths": {"reg.example": {"username": "me"}}}', False),
    ('{"Auths": {"reg.example": {"username": "me"}}}', False),
    ('\n\t {"auths": {"https://reg.example/v1/": {"username": "me"}}, "HttpHeaders": {"X": "y"}} \n', False),
    ('{"auths": {"reg.example": {"username": "me"}}, "credsStore": "desktop", "credHelpers": {"a": "b"}}', False),
    ('{"auths": {"reg.example": {"username": "me"}, "empty.example": {}, "null.example": null}}', False),
    ('{"auths": {"reg.example": {"username": "me"}, "empty.example": {"auth": "", "email": "x"}}}', False),
    ('{"auths": {"empty.example": {"auth": "Og=="}, "reg.example": {"username": "me"}}}', False),  # ":"
    ('{"reg.example": {"username": "me"}}', True),
    ('{"https://reg.example/v2/": {"username": "me"}, "auths": {}}', True),
])
def test_both_forms_are_read_and_what_says_nothing_is_left_out(text: str, legacy: bool) -> None:
    assert parse(text, SOURCE, legacy=legacy) == login(username="me")


def test_an_empty_entry_does_not_stand_before_a_good_one() -> None:
    text = json.dumps({"auths": {"docker.io": {}, "docker.io/library": None, "index.docker.io": {"auth": AUTH}}})
    found = Credentials(entries=parse(text, SOURCE)).candidates(reference.parse("busybox"))
    assert [c.match for c in found] == ["index.docker.io"]


IMAGE = reference.parse("reg.example/app")


@pytest.mark.parametrize(
    "key", ["k" * 1_000_000, "*" * 1_000_000, "*a" * 500_000, "*." * 500_000, "\x00", "", "/" * 9],
    ids=lambda key: ascii(key)[:9],
)
def test_keys_that_no_image_has_are_borne(key: str) -> None:
    found = Credentials(entries=parse(holding({"auth": AUTH}, key), SOURCE))
    assert len(found.entries) == 1
    assert found.needed_by([IMAGE]) == Credentials()


_texts = st.text(max_size=20)
_credentials = st.builds(
    Credential, match=st.sampled_from(["reg.example", "reg.example/app", "*.example", "other.example"]), source=_texts,
    username=_texts, password=_texts, identity_token=_texts, registry_token=_texts,
)
_all = st.builds(Credentials, entries=st.lists(_credentials, max_size=4).map(tuple))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(_all, st.booleans())
def test_a_builder_reads_what_the_operator_wrote(written: Credentials, brief: bool) -> None:
    read = Credentials.model_validate_json(written.model_dump_json(by_alias=True, exclude_defaults=brief))
    assert read == written
    assert read.candidates(IMAGE) == written.candidates(IMAGE)


def test_what_travels_is_spelled_as_everything_else() -> None:
    text = Credentials(entries=login(username="me", identity_token="t", registry_token="r")).model_dump_json(
        by_alias=True, exclude_defaults=True)
    assert json.loads(text) == {"entries": [{
        "match": "reg.example", "source": SOURCE, "username": "me", "identityToken": "t", "registryToken": "r",
    }]}


def test_a_newer_operator_may_say_more() -> None:
    text = '{"entries": [{"match": "reg.example", "source": "team:regcred", "username": "me", "new": 1}], "newer": []}'
    assert Credentials.model_validate_json(text).entries == login(username="me")
