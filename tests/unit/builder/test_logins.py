# SPDX-License-Identifier: Apache-2.0
"""Who the builder says it is: which credentials go where, in which order, and what is said when none is taken."""

from __future__ import annotations

import base64
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from imagecache_operator.api.credentials import Credential, Credentials
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.check import check

from . import faulty as faults
from .conftest import Run
from .discretion import discreet, secret
from .faulty import FaultyRegistry, Handler, SmallImage

Private = Callable[..., Outcome]

ANN, BOB, TOKEN, IDENTITY = (secret(whose) for whose in ("ann", "bob", "service", "identity"))


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([random.Random(7).randbytes(50_000)])


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def login(
    match: str, user: str = "ann", password: str = ANN, source: str = "a:ann", **more: str,
) -> Credential:
    return Credential(match=match, source=source, username=user, password=password, **more)


@pytest.fixture
def private(run: Run, faulty: FaultyRegistry, image: SmallImage) -> Private:
    """Pulls team/app with these credentials."""
    return lambda *entries, **more: run(
        faulty.add("team/app", image), credentials=Credentials(entries=entries), **more,
    )


def wants_basic(*accepted: str, refusal: int = 401) -> Callable[[Handler], int]:
    """As nginx or a registry with htpasswd: nobody, or only who shows one of these headers."""
    def judge(handler: Handler) -> int:
        sent = handler.headers.get("Authorization")
        return 200 if sent in accepted else refusal if sent else 401

    return judge


BASIC = {"WWW-Authenticate": 'Basic realm="here"'}


def sent_to(registry: FaultyRegistry) -> list[str | None]:
    return [headers.get("authorization") for _, headers in registry.requests]


def test_basic_credentials_open_the_registry(faulty: FaultyRegistry, private: Private, volume: Path) -> None:
    faulty.guard(wants_basic(basic("ann", ANN)), BASIC)
    assert private(login(faulty.address)).succeeded
    assert check(volume) == []
    assert sent_to(faulty) == [None, *[basic("ann", ANN)] * 3], "after the first time without being asked"


def test_passwords_may_hold_any_letter(faulty: FaultyRegistry, private: Private) -> None:
    faulty.guard(wants_basic(basic("änn", f"pä:ss {ANN} wörd €")), BASIC)
    assert private(login(faulty.address, "änn", f"pä:ss {ANN} wörd €")).succeeded


def test_every_candidate_is_tried_the_most_specific_first(faulty: FaultyRegistry, private: Private) -> None:
    faulty.guard(wants_basic(basic("ann", ANN)), BASIC)
    entries = (
        login(faulty.address, "ann", ANN), login(f"{faulty.address}/team/app", "bob", BOB),
        login(f"{faulty.address}/team", "eve", BOB), login("elsewhere.example", "kim", BOB),
    )
    assert private(*entries).succeeded
    tried = list(dict.fromkeys(header for header in sent_to(faulty) if header))
    assert tried == [basic("bob", BOB), basic("eve", BOB), basic("ann", ANN)]


@pytest.mark.parametrize("refusal", [401, 403, 404])
def test_a_registry_that_hides_what_one_may_not_see_is_asked_as_the_next(
    refusal: int, faulty: FaultyRegistry, private: Private,
) -> None:
    faulty.guard(wants_basic(basic("ann", ANN), refusal=refusal), BASIC)
    assert private(login(f"{faulty.address}/team", "bob", BOB), login(faulty.address, "ann", ANN)).succeeded


def test_anonymous_comes_last_and_may_open_a_public_image(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, private: Private,
) -> None:
    """A token service that refuses a wrong password and gives a token to anybody who shows none: as Docker Hub."""
    elsewhere.documents["/token"] = ("application/json", json.dumps({"token": TOKEN}).encode())
    elsewhere.guard(lambda handler: 401 if handler.headers.get("Authorization") else 200, {})
    faulty.guard(lambda h: 200 if h.headers.get("Authorization") == f"Bearer {TOKEN}" else 401, {
        "WWW-Authenticate": f'Bearer realm="https://{elsewhere.address}/token",service="s"',
    })
    assert private(login(faulty.address, password=BOB)).succeeded
    assert sent_to(elsewhere) == [basic("ann", BOB), None]


def test_a_password_buys_a_token_and_only_the_token_service_sees_it(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, private: Private,
) -> None:
    elsewhere.documents["/token"] = ("application/json", json.dumps({"token": TOKEN, "expires_in": 300}).encode())
    elsewhere.guard(wants_basic(basic("ann", ANN)), BASIC)
    faulty.guard(lambda h: 200 if h.headers.get("Authorization") == f"Bearer {TOKEN}" else 401, {
        "WWW-Authenticate": f'Bearer realm="https://{elsewhere.address}/token",service="s"',
    })
    assert private(login(faulty.address)).succeeded
    assert set(sent_to(faulty)) == {None, f"Bearer {TOKEN}"}
    assert sent_to(elsewhere) == [basic("ann", ANN)], "one token for all requests"
    asked = parse_qs(elsewhere.requests[0][0].partition("?")[2])
    assert asked == {"service": ["s"], "scope": ["repository:team/app:pull"]}


def test_an_identity_token_is_sent_in_a_form_and_never_in_a_url(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, private: Private,
) -> None:
    elsewhere.documents["/token"] = ("application/json", json.dumps({"access_token": TOKEN}).encode())
    faulty.guard(lambda h: 200 if h.headers.get("Authorization") == f"Bearer {TOKEN}" else 401, {
        "WWW-Authenticate": f'Bearer realm="https://{elsewhere.address}/token",service="s"',
    })
    assert private(login(faulty.address, "<token>", "", identity_token=IDENTITY)).succeeded
    (path, headers), = elsewhere.requests
    assert path == "/token"
    assert "authorization" not in headers
    assert parse_qs(headers["body"])["refresh_token"] == [IDENTITY]
    assert parse_qs(headers["body"])["grant_type"] == ["refresh_token"]


def test_a_registry_token_is_shown_as_it_is(faulty: FaultyRegistry, private: Private) -> None:
    faulty.guard(lambda h: 200 if h.headers.get("Authorization") == f"Bearer {TOKEN}" else 401, {
        "WWW-Authenticate": 'Bearer realm="https://127.0.0.1:1/token",service="s"',
    })
    assert private(login(faulty.address, "", "", registry_token=TOKEN)).succeeded


def test_credentials_do_not_follow_a_redirect(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, private: Private, image: SmallImage,
) -> None:
    blob = image.layer_digests[0]
    elsewhere.documents["/storage"] = ("application/octet-stream", image.blobs[blob])
    faulty.guard(wants_basic(basic("ann", ANN)), BASIC)
    faulty.fail(f"/v2/team/app/blobs/{blob}", faults.redirects(f"https://{elsewhere.address}/storage"))
    assert private(login(faulty.address)).succeeded
    assert sent_to(elsewhere) == [None]


def test_credentials_are_not_for_a_token_service_without_tls(faulty: FaultyRegistry, private: Private) -> None:
    faulty.guard(lambda h: 401, {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token",service="s"'})
    assert private(login(faulty.address)).images[0].reason is Reason.TLS_FAILED


@pytest.mark.parametrize(("statuses", "reason", "words"), [
    ({"bob": 401, "ann": 401}, Reason.UNAUTHORIZED, ["does not take the credentials of b:bob, a:ann"]),
    ({"bob": 401, "ann": 403}, Reason.DENIED, ["denies access to team/app", "a:ann"]),
    ({"bob": 403, "ann": 404}, Reason.DENIED, ["b:bob"]),
    ({"bob": 404, "ann": 401}, Reason.NOT_FOUND, ["no image", "a:ann are not taken"]),
    ({"bob": 404, "ann": 404}, Reason.NOT_FOUND, ["no image"]),
])
def test_what_is_said_when_nobody_is_let_in(
    statuses: dict[str, int], reason: Reason, words: list[str], faulty: FaultyRegistry, private: Private,
) -> None:
    answers = {basic(user, secret(user)): status for user, status in statuses.items()}
    faulty.guard(lambda h: answers.get(h.headers.get("Authorization") or "", 401), BASIC)
    outcome = private(
        login(f"{faulty.address}/team", "bob", BOB, "b:bob"), login(faulty.address, "ann", ANN),
    )
    (result,) = outcome.images
    assert result.reason is reason
    assert [word for word in words if word not in result.message] == []


def test_a_token_service_may_deny(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, private: Private,
) -> None:
    elsewhere.guard(lambda h: 403 if h.headers.get("Authorization") else 401, {})
    faulty.guard(lambda h: 401, {"WWW-Authenticate": f'Bearer realm="https://{elsewhere.address}/token",service="s"'})
    (result,) = private(login(faulty.address)).images
    assert result.reason is Reason.DENIED
    assert "a:ann" in result.message


@pytest.mark.parametrize("token", ["s3cret\nX: y", "s3cret\u20ac", " "])
def test_a_registry_token_that_no_header_can_carry_is_not_taken(
    token: str, faulty: FaultyRegistry, elsewhere: FaultyRegistry, private: Private,
) -> None:
    elsewhere.guard(lambda h: 401, {})
    faulty.guard(lambda h: 401, {"WWW-Authenticate": f'Bearer realm="https://{elsewhere.address}/token",service="s"'})
    outcome = private(login(faulty.address, "", "", registry_token=token))
    assert outcome.images[0].reason is Reason.UNAUTHORIZED


def test_wrong_credentials_are_the_affair_of_one_image(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, image: SmallImage,
) -> None:
    faulty.guard(lambda h: 401, BASIC)
    outcome = run(
        faulty.add("team/app", image), elsewhere.add("team/app", image),
        credentials=Credentials(entries=(login(faulty.address),)),
    )
    assert [i.reason for i in outcome.images] == [Reason.UNAUTHORIZED, None]
    assert sent_to(elsewhere) == [None] * 3
