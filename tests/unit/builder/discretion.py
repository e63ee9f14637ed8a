# SPDX-License-Identifier: Apache-2.0
"""Listens to the builder while it is given secrets, and finds those that it tells.

The test modules about registries replace the fixture `run` by `discreet`, so that each of their runs is listened to:
what it prints and logs, the texts of exceptions, the outcome as the operator reads it. Passwords and tokens
that a test makes up have MARK in them, and so have the signatures of its URLs.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import logging
import re
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from imagecache_operator.api.credentials import Credential
from imagecache_operator.api.report import Outcome

from .conftest import Run

MARK = "s3cret"

_JSON_WEB_TOKEN = re.compile(r"eyJ[\w-]{10,}\.[\w-]+")
_ENCODED = re.compile(r"[A-Za-z0-9+/]{8,}")


def secret(whose: str) -> str:
    """A password, token or signature that nothing else contains."""
    return f"{MARK}-of-{whose}"


def discreet(run: Run, output: io.StringIO) -> Iterator[Run]:
    """`run`, whose builders are listened to; at the test's end nothing secret may have been heard."""
    heard = _Heard()
    logging.getLogger().addHandler(heard)

    def listening(*references: str, **how: Any) -> Outcome:
        if logins := how.get("credentials"):
            heard.logins += logins.entries
        outcome = run(*references, **how)
        heard.texts += [outcome.model_dump_json(), outcome.to_termination_message(), repr(outcome)]
        return outcome

    try:
        yield listening
    finally:
        logging.getLogger().removeHandler(heard)
    found = told([*heard.texts, output.getvalue()], heard.logins)
    assert not found, f"the builder has told {found}"


def told(texts: Iterable[str], logins: Iterable[Credential] = ()) -> list[str]:
    """The secrets in the texts: as they are, quoted for a URL, or in Base64."""
    exactly = [s for login in logins for s in (login.password, login.identity_token, login.registry_token) if s.strip()]
    found = []
    for text in texts:
        for form in (text, unquote(text), *_decoded(text)):
            found += [word for word in (MARK, *exactly) if word in form]
            found += _JSON_WEB_TOKEN.findall(form)
    return found


def _decoded(text: str) -> Iterator[str]:
    for word in _ENCODED.findall(text.replace("-", "+").replace("_", "/")):
        with contextlib.suppress(binascii.Error):
            yield base64.b64decode(word[: len(word) // 4 * 4]).decode(errors="replace")


class _Heard(logging.Handler):
    """Every record as text, with the whole text of its exception."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.logins: list[Credential] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(self.format(record))
