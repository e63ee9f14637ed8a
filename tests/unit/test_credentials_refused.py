# SPDX-License-Identifier: Apache-2.0
"""Pull Secrets that cannot be read: refused with a reason, and nothing that a log could show holds a part of them.

What can be read is in `test_credentials_entries.py`.
"""

from __future__ import annotations

import base64
import json
import traceback

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecache_operator.api.credentials import Credential, Credentials, InvalidCredentials, parse
from pydantic import ValidationError

SOURCE = "team:regcred"
WORD = "hunter2"  # the secret part of every Secret below
AUTH = base64.b64encode(f"me:{WORD}".encode()).decode()
SECRETS = (WORD, AUTH, AUTH.rstrip("="))


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


def holding(entry: object, key: str = "reg.example") -> str:
    return json.dumps({"auths": {key: entry}})


def short(value: object) -> str:
    """For the names of tests, whose parameters are long."""
    return ascii(value)[:30]


@pytest.mark.parametrize("text", ["{}", '{"x": null}', '{"x": {}}', '{"x": {"auth": ""}}', '{"x": {"email": "me"}}',
                                  '{"x": {"auth": "Og=="}}', '{"x": {"username": "", "password": null}}'])
def test_a_secret_without_credentials_says_so(text: str) -> None:
    for content, legacy in ((text, True), (f'{{"auths": {text}, "credsStore": "pass"}}', False)):
        with pytest.raises(InvalidCredentials, match="holds no credentials"):
            parse(content, SOURCE, legacy=legacy)


def told(error: BaseException | None) -> str:
    """All that a log could make of an error and of those behind it; only the frames' variables are left out."""
    texts = []
    while error is not None:
        texts += [str(error), repr(error), repr(error.args), repr(getattr(error, "__dict__", {}))]
        texts += traceback.format_exception(error)
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def refusal(text: str, *, legacy: bool = False) -> str:
    """The message, once it is seen that it fits a status and that nothing of the Secret is in the error."""
    with pytest.raises(InvalidCredentials) as refused:
        parse(text, SOURCE, legacy=legacy)
    message = str(refused.value)
    assert message.isprintable()
    assert message.isascii()
    assert len(message) < 1500
    assert not any(part in told(refused.value) for part in SECRETS)
    return message


@pytest.mark.parametrize("text", [
    "", " ", WORD, AUTH, f'"{WORD}', f'{{"auths": {{"reg.example": {{"password": "{WORD}"', f"{{'auths': '{WORD}'}}",
    f'\ufeff{{"auths": {{"x": {{"auth": "{AUTH}"}}}}}}', f'{{"auths": {{"x": {{"auth": "{AUTH}"}}}}}} x',
    f'{{"auths": {{"x": {{"password": "{WORD}\x00"}}}}}}', f'{{"auths": {{"x": {{"password": "{WORD}\n"}}}}}}',
    f'{{"auths": {{"x": {{"password": "{WORD}\\x"}}}}}}', f'["{WORD}", {"9" * 5000}]', f"auths:\n  x:\n    a: {AUTH}",
    f'{{"a": {"[" * 100_000}"{WORD}"{"]" * 100_000}}}', '{"a":' * 100_000 + f'"{WORD}"' + "}" * 100_000,
], ids=short)
def test_what_is_no_json(text: str) -> None:
    assert refusal(text) == refusal(text, legacy=True) == "is not JSON"


@pytest.mark.parametrize("text", ["null", "true", "0", "NaN", f'"{WORD}"', f'["{WORD}"]', '{"auths": null}', "[]",
                                  f'{{"auths": "{WORD}"}}', f'{{"auths": ["{WORD}"]}}', f'{{"auth": "{AUTH}"}}', "{}",
                                  f'{{"reg.example": {{"auth": "{AUTH}"}}}}'])
def test_what_has_no_map_of_registries(text: str) -> None:
    assert refusal(text) == 'has no map of registries under the key "auths"'


@pytest.mark.parametrize("text", ["null", "true", "0", "-1e999", f'"{WORD}"', f'["{WORD}"]', "[]"])
def test_what_is_no_map_of_registries(text: str) -> None:
    assert refusal(text, legacy=True) == "has no map of registries"


@pytest.mark.parametrize("entry", [
    WORD, [WORD], 0, 1.5, True, False, "", [], [{"auth": AUTH}],
    *({field: value} for field in ("username", "password", "auth", "identitytoken", "registrytoken", "Auth")
      for value in (0, False, True, 1.5, [], {}, [WORD], {"x": WORD}, f"{WORD}\ud800", f"\udfff{AUTH}")),
    {"auth": AUTH, "password": [WORD]},
], ids=short)
def test_an_entry_that_is_no_set_of_texts(entry: object) -> None:
    assert refusal(holding(entry)) == 'has an entry "reg.example" that is no set of texts'


@pytest.mark.parametrize("auth", [
    " ", "\n", "=", "====", "a", ":", WORD, f"me:{WORD}", f"{AUTH} ", f" {AUTH}", f"{AUTH}=", AUTH[:-1], AUTH + AUTH,
    f"{AUTH[:4]} {AUTH[4:]}", f"\t{AUTH}", f"{AUTH}é", f"{AUTH}\x00", f"-_{AUTH}", f"Basic {AUTH}",
    encoded(WORD.encode()), encoded(b"\xff\xfe" + WORD.encode() + b":"), encoded(b"me:" + WORD.encode() + b"\xe9"),
    encoded(b"me:" + WORD.encode() + b"\xed\xa0\x80"), encoded(f"me:{WORD}".encode("utf-16")),
], ids=short)
def test_an_auth_that_is_not_base64_of_user_and_password(auth: str) -> None:
    said = 'has an entry "reg.example" whose "auth" is not base64 of username:password'
    assert refusal(holding({"username": "me", "password": WORD, "auth": auth})) == said


def test_one_bad_entry_spoils_all_as_for_kubelet() -> None:
    good = {"good.example": {"auth": AUTH}}
    for bad in ({"auth": WORD}, WORD, {"auth": 1}):
        assert '"bad.example"' in refusal(json.dumps({"auths": {**good, "bad.example": bad}}))
        assert '"bad.example"' in refusal(json.dumps({"bad.example": bad, **good}), legacy=True)


@pytest.mark.parametrize(("key", "shown"), [
    ("k" * 1_000_000, "k" * 100), ("*" * 1_000_000, "*" * 100), ("a." * 500_000, "a." * 50),
    ("😀" * 1_000_000, r"\ud83d\ude00" * 100), ("\x00\x1b[2J\r\n\x7f\u2028\"", r'\u0000\u001b[2J\r\n\u007f\u2028\"'),
    ("reg.example\ud800", r"reg.example\ud800"), ("", ""),
    (f"https://me:{WORD}@reg.example/team", "reg.example/team"), (f"me:{WORD}@{WORD}@reg.example", "reg.example"),
    (f"reg.example/team?token={WORD}", "reg.example/team"), (f"reg.example#{AUTH}", "reg.example"),
], ids=short)
def test_a_key_is_shown_short_escaped_and_without_what_may_be_secret(key: str, shown: str) -> None:
    assert refusal(holding({"auth": WORD}, key)).startswith(f'has an entry "{shown}" ')


def test_what_is_read_does_not_show_its_secrets() -> None:
    entry = {"username": WORD, "password": WORD, "identitytoken": WORD, "registrytoken": AUTH}
    everything = Credentials(entries=parse(holding(entry, f"https://me:{WORD}@reg.example/x?y={WORD}"), SOURCE))
    for shown in (*everything.entries, everything):
        text = f"{shown} {shown!r} {[shown]}"
        assert "reg.example/x" in text
        assert SOURCE in text
        assert not any(part in text for part in SECRETS)


WHOLE = Credentials(entries=(Credential(match="reg.example", password=WORD),)).model_dump_json(by_alias=True)
PASSWORD = f'"password":"{WORD}"'


@pytest.mark.parametrize("text", [
    WORD, f'"{WORD}"', f'["{WORD}"]', f'{{"entries":"{WORD}"}}', f'{{"entries":["{WORD}"]}}', WHOLE[:-1], WHOLE + WORD,
    *(WHOLE.replace(PASSWORD, f'"password":{damage}') for damage in (
        f'["{WORD}"]', f'{{"{WORD}":"{WORD}"}}', f'"{WORD}\\ud800"', f'"{WORD}\n"', f'"{WORD}', f'{WORD}', "0",
    )),
    WHOLE.replace('"reg.example"', f'["{WORD}"]'), WHOLE.replace('"match"', '"matches"'),
], ids=short)
def test_a_damaged_file_is_refused_without_telling_what_it_held(text: str) -> None:
    for content in (text, text.encode(), text.encode() + b"\xff", text.replace(WORD, f"{WORD}\xff").encode("latin-1")):
        for model in (Credentials, Credential):
            with pytest.raises(ValidationError) as refused:
                model.model_validate_json(content)
            assert WORD not in told(refused.value)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(SECRETS),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["auth", "auths", "x"]), inner),
    max_leaves=5,
)
_fields = st.sampled_from(["username", "password", "auth", "Auth", "identitytoken", "registrytoken", "email"])
_content = st.sampled_from([
    *SECRETS, *SECRETS, f"{AUTH}\n", f"{WORD}\x00", f"{WORD}\ud800", f"\udc00{AUTH}", f"{AUTH} ", f"{AUTH}é", "", "me",
])
_keys = st.sampled_from(["reg.example", "https://me@reg.example/v1/", "", "docker.io", "a?b", "*/*", "\ud800"])
_entries = st.dictionaries(_fields, _content, min_size=1, max_size=3)
_odd = st.dictionaries(_fields, _content | _json, max_size=2) | _json
_maps = st.dictionaries(_keys, st.integers(0, 9).flatmap(lambda n: _entries if n else _odd), min_size=1, max_size=2)
_documents = st.integers(0, 9).flatmap(lambda n: _maps if n else _json)
_damages = st.integers(0, 4).flatmap(lambda n: st.none() if n else st.tuples(
    st.integers(0, 100), st.sampled_from(["", '"', "{", "]", ",", "\\", "\x00", "\ud800"])))


@settings(max_examples=600, deadline=None, derandomize=True)
@given(_documents, _damages, st.booleans())
def test_any_text_is_read_or_refused_and_never_told(
    document: object, damage: tuple[int, str] | None, legacy: bool,
) -> None:
    text = json.dumps(document if legacy else {"auths": document})
    if damage:
        place, put = damage
        text = text[:place] + put + text[place + 1 :]
    shown, found = "", Credentials()
    try:
        found = Credentials(entries=parse(text, SOURCE, legacy=legacy))
    except InvalidCredentials as error:
        shown = told(error)
    assert bool(shown) != bool(found.entries)
    assert not any(part in shown + repr(found) for part in SECRETS)
    assert Credentials.model_validate_json(found.model_dump_json(by_alias=True)) == found
