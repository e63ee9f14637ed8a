# SPDX-License-Identifier: Apache-2.0
"""What a registry demands before it answers (`WWW-Authenticate`), parsed. Pure; `access.py` acts on it."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SCHEME = re.compile(r"[\s,]*([A-Za-z]+)(?=[\s,]|$)(?!\s*=)")
_PARAMETER = re.compile(r'[\s,]*([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))')

_LONGEST = 4096  # characters that are looked at


@dataclass(frozen=True)
class Challenge:
    """One way in. `scheme` is in lower case; the others are empty where the registry did not name them."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse(header: str) -> tuple[Challenge, ...]:
    """The challenges of one or several joined headers, in their order; what cannot be read is left out."""
    found = []
    header = header[:_LONGEST]
    place = 0
    while match := _SCHEME.match(header, place):
        scheme, place = match[1].lower(), match.end()
        values: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, place):
            value = parameter[2] if parameter[2] is not None else parameter[3]
            values.setdefault(parameter[1].lower(), re.sub(r"\\(.)", r"\1", value))
            place = parameter.end()
        found.append(Challenge(
            scheme, values.get("realm", ""), values.get("service", ""), values.get("scope", ""),
        ))
    return tuple(found)
