# SPDX-License-Identifier: Apache-2.0
"""Which Secret an image was pulled with, as the builder reports it: real registries with passwords and with tokens, and
one that can be told what to answer."""

from __future__ import annotations

import dataclasses
import io
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from imagecache_operator.api.credentials import Credential, Credentials
from imagecache_operator.api.report import Outcome, mark_of

from tests.support.images import Image
from tests.support.registry_process import RegistryProcess, running_basic_registry, running_token_registry
from tests.support.tls import Authority

from .conftest import Run
from .discretion import discreet, secret
from .faulty import FaultyRegistry, Handler, SmallImage
from .test_logins import BASIC, basic, login, wants_basic

ANN, BOB = secret("ann"), secret("bob")
FOR = {"public": "base/tools:1.0", "team-a": "base/tools:1.0", "team-b": "data/only:5"}


@pytest.fixture
def run(run: Run, output: io.StringIO) -> Iterator[Run]:
    yield from discreet(run, output)


@pytest.fixture
def image() -> SmallImage:
    return SmallImage([random.Random(9).randbytes(20_000)])


@pytest.fixture(scope="module")
def basic_registry(
    authority: Authority, images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RegistryProcess]:
    folder = tmp_path_factory.mktemp("basic")
    with running_basic_registry(folder / "storage", folder, authority) as process:
        yield filled(process, images)


@pytest.fixture(scope="module")
def token_registry(
    authority: Authority, images: dict[str, Image], tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RegistryProcess]:
    folder = tmp_path_factory.mktemp("token")
    with running_token_registry(folder / "storage", folder, authority) as process:
        yield filled(process, images)


def filled(process: RegistryProcess, images: dict[str, Image]) -> RegistryProcess:
    for path, source in FOR.items():
        process.pusher.push(dataclasses.replace(images[source], name=f"{path}/app:1"))
    return process


def entry(process: RegistryProcess, path: str, user: str, source: str, password: str | None = None) -> Credential:
    return Credential(
        match=process.address + path, source=source, username=user,
        password=process.accounts[user].password if password is None else password,
    )


def pulled_with(outcome: Outcome, *secrets: str) -> list[str | None]:
    """The Secrets by name, as far as they are among these: only marks come over."""
    assert outcome.succeeded, outcome
    known = {mark_of((name,)): name for name in secrets}
    known[mark_of(secrets)] = "+".join(sorted(secrets))
    return [image.pulled_with and known[image.pulled_with] for image in outcome.images]


def test_each_image_names_the_secret_that_opened_it_also_in_a_second_run(
    token_registry: RegistryProcess, registry: RegistryProcess, run: Run,
) -> None:
    references = [*(f"{token_registry.address}/{path}/app:1" for path in FOR), f"{registry.address}/base/tools:1.0"]
    logins = Credentials(entries=(
        entry(token_registry, "/team-a", "team-a", "a:regcred"), entry(token_registry, "/team-b", "team-b", "b:old"),
        entry(registry, "", "nobody", "c:idle", password=secret("nobody")),
    ))
    for _ in range(2):  # the second time nothing but manifests is asked for
        found = pulled_with(run(*references, credentials=logins), "a:regcred", "b:old", "c:idle")
        assert found == [None, "a:regcred", "b:old", None]


def test_a_secret_that_was_tried_first_counts_where_nobody_needed_one(
    token_registry: RegistryProcess, run: Run,
) -> None:
    """Its registry asks everybody for a token. Whether it would have given one to anybody, nobody has tried."""
    logins = Credentials(entries=(entry(token_registry, "", "team-a", "a:regcred"),))
    outcome = run(f"{token_registry.address}/public/app:1", credentials=logins)
    assert pulled_with(outcome, "a:regcred") == ["a:regcred"]


def test_a_secret_that_is_not_taken_is_not_named(basic_registry: RegistryProcess, run: Run) -> None:
    logins = Credentials(entries=(
        entry(basic_registry, "/team-a", "team-a", "a:wrong", password=secret("nobody")),
        entry(basic_registry, "", "team-a", "a:right"), entry(basic_registry, "", "team-b", "b:idle"),
    ))
    outcome = run(
        *(f"{basic_registry.address}/{path}/app:1" for path in ("team-a", "team-b")), credentials=logins,
    )
    assert pulled_with(outcome, "a:wrong", "a:right", "b:idle") == ["a:right", "a:right"]


def test_a_password_that_ran_out_leaves_a_public_image_public(token_registry: RegistryProcess, run: Run) -> None:
    """The token service refuses it, and gives a token to whoever shows none."""
    logins = Credentials(entries=(entry(token_registry, "", "team-a", "a:over", password=secret("former")),))
    outcome = run(f"{token_registry.address}/public/app:1", credentials=logins)
    assert pulled_with(outcome, "a:over") == [None]


def test_a_second_image_of_a_repository_names_it_though_nobody_asks_again(
    faulty: FaultyRegistry, run: Run, image: SmallImage,
) -> None:
    faulty.guard(wants_basic(basic("ann", ANN)), BASIC)
    references = [faulty.add("team/app", image), faulty.add("team/app", SmallImage([b"other"]), "2")]
    outcome = run(*references, credentials=Credentials(entries=(login(faulty.address),)))
    assert pulled_with(outcome, "a:ann") == ["a:ann", "a:ann"]


def test_blobs_that_need_a_secret_make_an_image_private(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    faulty.guard(lambda h: 200 if "/manifests/" in h.path else wants_basic(basic("ann", ANN))(h), BASIC)
    outcome = run(faulty.add("team/app", image), credentials=Credentials(entries=(login(faulty.address),)))
    assert pulled_with(outcome, "a:ann") == ["a:ann"]


def test_two_secrets_for_one_image_are_no_single_one(faulty: FaultyRegistry, run: Run, image: SmallImage) -> None:
    def judge(handler: Handler) -> int:
        user = ("ann", ANN) if "/manifests/" in handler.path else ("bob", BOB)
        return wants_basic(basic(*user))(handler)

    faulty.guard(judge, BASIC)
    entries = (login(faulty.address), login(faulty.address, "bob", BOB, "b:bob"))
    outcome = run(faulty.add("team/app", image), credentials=Credentials(entries=entries))
    assert pulled_with(outcome, "a:ann", "b:bob") == ["a:ann+b:bob"]


def test_a_layer_that_another_image_has_brought_makes_nothing_private(
    faulty: FaultyRegistry, elsewhere: FaultyRegistry, run: Run, image: SmallImage,
) -> None:
    faulty.guard(wants_basic(basic("ann", ANN)), BASIC)
    outcome = run(
        faulty.add("team/app", image), elsewhere.add("public/app", image),
        credentials=Credentials(entries=(login(faulty.address),)),
    )
    assert pulled_with(outcome, "a:ann") == ["a:ann", None]


def test_an_image_that_fails_names_none(faulty: FaultyRegistry, run: Run, image: SmallImage, volume: Path) -> None:
    faulty.guard(wants_basic(basic("ann", ANN)), BASIC)
    reference = faulty.add("team/app", image)
    del faulty.documents[f"/v2/team/app/blobs/{image.layer_digests[0]}"]
    (result,) = run(reference, credentials=Credentials(entries=(login(faulty.address),))).images
    assert (result.reason is not None, result.pulled_with) == (True, None)
