# SPDX-License-Identifier: Apache-2.0
"""RFC 6902 for tests: `add` and `remove`, with the errors that the RFC wants where a place does not exist."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any


def apply(document: Any, patch: Iterable[dict[str, Any]]) -> Any:
    """Another document."""
    result = copy.deepcopy(document)
    for operation in patch:
        *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place = result
        for key in way:
            place = place[int(key)] if isinstance(place, list) else place[key]
        if operation["op"] == "remove":
            assert isinstance(place, dict)
            del place[last]
        elif isinstance(place, list):
            assert operation["op"] == "add"
            index = len(place) if last == "-" else int(last)
            assert 0 <= index <= len(place)
            place.insert(index, copy.deepcopy(operation["value"]))
        else:
            assert operation["op"] == "add"
            assert isinstance(place, dict)
            place[last] = copy.deepcopy(operation["value"])
    return result
