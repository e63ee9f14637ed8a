# SPDX-License-Identifier: Apache-2.0
"""References: normalised as containerd does, stored under names that never meet."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from imagecache_operator.api import reference
from imagecache_operator.api.reference import InvalidReference, Reference, parse
from pydantic import BaseModel, Field, ValidationError

D = "sha256:" + "a" * 64
HEX = "b" * 64


@pytest.mark.parametrize(("text", "canonical"), [
    ("busybox", "docker.io/library/busybox:latest"),
    ("busybox:1.36", "docker.io/library/busybox:1.36"),
    ("foo:5000", "docker.io/library/foo:5000"),
    ("a.b", "docker.io/library/a.b:latest"),
    ("localhost", "docker.io/library/localhost:latest"),
    ("team/app", "docker.io/team/app:latest"),
    ("docker.io/busybox", "docker.io/library/busybox:latest"),
    ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
    ("Docker.IO/team/app", "docker.io/team/app:latest"),
    ("localhost/app", "localhost/app:latest"),
    ("localhost:5000/app:1", "localhost:5000/app:1"),
    ("registry:80/app", "registry:80/app:latest"),
    ("Registry.Example/team/app:V1", "registry.example/team/app:V1"),
    ("10.0.0.1/app", "10.0.0.1/app:latest"),
    ("[::1]:5000/app", "[::1]:5000/app:latest"),
    (f"busybox@{D}", f"docker.io/library/busybox@{D}"),
    (f"reg.example/app:1@{D}", f"reg.example/app@{D}"),
    ("reg.example/a__b/c-d/e.f/g---h", "reg.example/a__b/c-d/e.f/g---h:latest"),
])
def test_it_means_what_containerd_means(text: str, canonical: str) -> None:
    assert parse(text).canonical == canonical
    assert parse(canonical).canonical == canonical


@pytest.mark.parametrize(("text", "word"), [
    ("", "empty"), (" busybox", "space"), ("busybox\n", "line break"), ("https://reg.example/app", "https://"),
    ("Busybox", "lower case"), ("Team/app", "lower case"), ("reg.example/App", "lower case"),
    ("app:", "tag"), ("app:-1", "tag"), (f"app:{'t' * 129}", "tag"), ("app@", "digest"), ("app@sha256:abc", "digest"),
    (f"app@{D.upper()}", "digest"), (f"app@sha512:{'a' * 128}", "sha512"), (HEX, "image ID"),
    ("reg.example:0/app", "port"), ("reg.example:70000/app", "port"), ("/app", "reference"), ("app/", "reference"),
    ("a//b", "reference"), ("a..b", "reference"), ("a___b", "reference"), ("-a", "reference"), ("foo_bar.baz/x", ""),
    ("reg.example/" + "a" * 256, "255"), ("a" * 513, "512"), ("bücher/app", "reference"), ("../../etc", "reference"),
])
def test_it_refuses_with_a_sentence(text: str, word: str) -> None:
    with pytest.raises(InvalidReference) as refusal:
        parse(text)
    message = str(refusal.value)
    assert word in message
    assert message.endswith(".")
    assert message.isprintable()


@pytest.mark.parametrize(("text", "repository", "tag"), [
    ("busybox", "docker.io/library/busybox", "latest"),
    ("Reg.Example:5000/app:V1", "reg.example_5000/app", "V1"),
    (f"busybox:1@{D}", "docker.io/library/busybox", "sha256-" + "a" * 64),
])
def test_where_it_is_stored(text: str, repository: str, tag: str) -> None:
    assert (parse(text).stored_repository, parse(text).stored_tag) == (repository, tag)


@pytest.mark.parametrize("text", [
    "[::1]/app", "reg.example/" + "a" * 250, f"app:sha256-{HEX}", "a." * 125 + "example/app",
])
def test_what_cannot_be_spelled_goes_by_its_hash(text: str) -> None:
    assert re.fullmatch("by__hash/[0-9a-f]{64}", parse(text).stored_repository)


_component = st.from_regex(r"[a-z0-9]{1,3}((\.|_|__|-{1,3})[a-z0-9]{1,3}){0,2}", fullmatch=True)
_long = st.integers(1, 254).map(lambda n: "a" * n)
_path = st.lists(_component | _long, min_size=1, max_size=4).map("/".join)
_host = st.sampled_from([
    "", "docker.io", "index.docker.io", "localhost", "localhost:5000", "reg.example", "REG.example", "reg.example:80",
    "a:5000", "a.b-c.d:1", "[::1]", "[::1]:80", "[fe80::1]", "by--hash.x", "10.0.0.1:5000",
])
_tag = st.sampled_from(["", ":latest", ":1.0", f":sha256-{HEX}", f":_sha256-{HEX}", ":A", ":a"]) | st.from_regex(
    r":[a-zA-Z0-9_][-a-zA-Z0-9_.]{0,20}", fullmatch=True)
_digest = st.sampled_from(["", "", f"@{D}", f"@sha256:{HEX}"])
_likely = st.builds(lambda h, p, t, d: (f"{h}/" if h else "") + p + t + d, _host, _path, _tag, _digest)
_alphabet = st.text(st.sampled_from("abAB01.:/@_-[] \n\x00é"), max_size=30)


def _parsed(text: str) -> Reference | None:
    try:
        return parse(text)
    except InvalidReference:
        return None


@given(st.text() | _alphabet | _likely)
def test_it_raises_nothing_but_its_own_error(text: str) -> None:
    if found := _parsed(text):
        assert parse(found.canonical).canonical == found.canonical


_STORED_NAME = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")


@given(_likely)
def test_every_stored_name_is_legal(text: str) -> None:
    found = _parsed(text)
    assume(found is not None)
    assert found is not None
    assert _STORED_NAME.fullmatch(found.stored_repository)
    assert len(found.stored_repository) <= 255
    assert re.fullmatch(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}", found.stored_tag)


@given(_likely, _likely)
def test_no_two_images_meet(one: str, other: str) -> None:
    first, second = _parsed(one), _parsed(other)
    assume(first is not None and second is not None)
    assert first is not None
    assert second is not None
    same_place = (first.stored_repository, first.stored_tag) == (second.stored_repository, second.stored_tag)
    assert same_place == (first.canonical == second.canonical)


@pytest.mark.parametrize(("one", "other"), [
    (f"app:sha256-{HEX}", f"app@sha256:{HEX}"), ("a:5000/x", "a.5000/x"), ("app:a", "app:A"),
    (f"a.b/{'a' * 255}:sha256-{HEX}", f"a.b/{'a' * 255}@sha256:{HEX}"), ("[::1]/a", "[::1]:80/a"),
])
def test_near_misses_do_not_meet(one: str, other: str) -> None:
    first, second = parse(one), parse(other)
    assert (first.stored_repository, first.stored_tag) != (second.stored_repository, second.stored_tag)


class _Rust(BaseModel):
    """pydantic's patterns are those of Rust's regex crate, whose syntax is RE2's."""

    text: str = Field(pattern=reference.PATTERN, max_length=reference.MAX_LENGTH)


@given(_likely | _alphabet | st.text())
def test_the_pattern_of_the_crd_accepts_what_parse_accepts(text: str) -> None:
    try:
        accepted = bool(_Rust(text=text))
    except ValidationError:
        accepted = False
    refusal = ""
    try:
        parse(text)
    except InvalidReference as error:
        refusal = str(error)
    # Left to parse, because no pattern of sane size says it.
    left = any(words in refusal for words in ("at most 255", "is no port", "is no IPv6", "image ID"))
    assert accepted == (not refusal or left)
