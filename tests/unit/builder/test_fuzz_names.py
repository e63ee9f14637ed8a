# SPDX-License-Identifier: Apache-2.0
"""References and challenges: whatever they say, they are understood as they are meant, or not at all, and at once."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator.api.reference import InvalidReference, parse
from imagecache_operator.builder import challenge
from imagecache_operator.builder.challenge import Challenge

from .fuzz import ODD_TEXTS, changed_bytes, many

DIGEST = "sha256:" + "a1" * 32
TREE = PurePosixPath("/cache/docker/registry/v2/repositories")

_REFERENCES = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "docker.io/", "reg.example/", "REG.example:5000/", "localhost/", "[::1]:80/", "10.0.0.1/"]),
    st.sampled_from(["busybox", "a/b", "a__b/c-d/e.f", "library/a", "a" * 240, "x/" * 100 + "y"]),
    st.sampled_from(["", ":latest", ":V1.0_x-", ":5000", f":sha256-{'a1' * 32}", ":" + "t" * 128]),
    st.sampled_from(["", f"@{DIGEST}"]),
)


@st.composite
def _changed(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    return changed_bytes(draw, draw(texts).encode(errors="surrogatepass")).decode(errors="replace")


@many(1000)
@given(_REFERENCES | _changed(_REFERENCES) | st.text(max_size=600) | st.sampled_from(ODD_TEXTS)
       | st.text(st.sampled_from("a0A.-_/:@[]~% \n\0"), max_size=60))
def test_a_reference_stays_below_the_layout(text: str) -> None:
    try:
        found = parse(text)
    except InvalidReference as refusal:
        message = str(refusal)
        assert message.isprintable()
        assert message.endswith(".")
        return
    assert parse(found.canonical).canonical == found.canonical
    place = TREE / found.stored_repository / "_manifests/tags" / found.stored_tag
    assert place.is_relative_to(TREE)
    assert not {"", ".", "..", "_layers", "_uploads"} & {*place.parts}
    assert place.parts.count("_manifests") == 1
    assert str(place).isascii()
    assert str(place).isprintable()
    assert max(map(len, place.parts)) <= 255
    assert f"/{found.path}/".isascii()
    assert found.host.isascii()


_VALUES = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=30)
_TOKENS = st.text(st.sampled_from("abcXYZ019-_."), min_size=1, max_size=10)
_SCHEMES = st.sampled_from(["Bearer", "bearer", "BASIC", "Basic", "Negotiate", "Digest"])
_KEYS = st.sampled_from(["realm", "service", "scope", "error", "Realm", "charset", "x-y"])


@st.composite
def _challenges(draw: st.DrawFn) -> tuple[str, list[Challenge]]:
    """A header as RFC 9110 has it, and what it says."""
    texts, meant = [], []
    for _ in range(draw(st.integers(0, 3))):
        scheme, parameters = draw(_SCHEMES), []
        values: dict[str, str] = {}
        for key in draw(st.lists(_KEYS, max_size=4, unique_by=str.lower)):
            quoted = draw(st.booleans())
            value = draw(_VALUES if quoted else _TOKENS)
            written = '"' + value.replace("\\", r"\\").replace('"', r"\"") + '"' if quoted else value
            equals = draw(st.sampled_from(["=", " = "]))
            parameters.append(f"{key}{equals}{written}")
            values[key.lower()] = value
        texts.append(" ".join([scheme, draw(st.sampled_from([",", ", ", " , "])).join(parameters)]).strip())
        meant.append(Challenge(
            scheme.lower(), *(values.get(key, "") for key in ("realm", "service", "scope")),
        ))
    return ", ".join(texts), meant


@many(1000)
@given(_challenges())
def test_challenges_say_what_they_say(header: tuple[str, list[Challenge]]) -> None:
    text, meant = header
    assert list(challenge.parse(text)) == meant


@many(1000)
@given(_changed(_challenges().map(lambda header: header[0])) | st.text(max_size=300)
       | st.text(st.sampled_from('Bearealm="\\, \t\x0b\n=é'), max_size=300))
def test_no_challenge_is_too_odd(text: str) -> None:
    for found in challenge.parse(text):
        assert found.scheme.isascii()
        assert found.scheme.isalpha()
        assert all(part in text.replace("\\", "") or "\\" in text for part in (found.realm, found.service, found.scope))


LONG = [
    "a", "a ", "a=", 'a="', "a,", " ", ",", "=", "\\", '"', '\\"', 'Bearer realm="a" ', 'Bearer realm="\\', "Bearer ",
    "a-", "a.", "a_", "a__", "a/", "a:", "@", "[", "[:", "a@", "sha256:", "a.b/", "..", "../", "\t,", "-",
    "a" * 63 + ".",
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", LONG)
def test_no_length_takes_for_ever(unit: str) -> None:
    """Neither up to the lengths that are looked at, nor far beyond; with an end that spoils what began well."""
    for length in (200, 511, 4_000, 4_096, 1_000_000):
        for end in ("", "!", '"', "/", ":", "@", "\n", "="):
            text = (unit * (length // len(unit) + 1))[: length - len(end)] + end
            challenge.parse(text)
            challenge.parse(f"Bearer realm={text}")
            challenge.parse(f'Bearer realm="{text}')
            for reference in (text, f"reg.example/{text}", f"{text}/a"):
                assert len(_understood(reference)) < 1_500


def _understood(reference: str) -> str:
    """The full name, or what is said instead of one."""
    try:
        return parse(reference).canonical
    except InvalidReference as refusal:
        return str(refusal)
