# SPDX-License-Identifier: Apache-2.0
"""How the fuzz tests make their examples, and how many of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

ASKED = os.environ.get("IMAGECACHE_FUZZ_EXAMPLES")

ODD_TEXTS = (
    "\0", "a\nb", "\x1b[2J", "\u202e", "\u2028", "\ufeff", "\ud800", "\U0001f4a3", "\u0130", "\u017f", "../../x", "/x",
    "%s", "x" * 5_000,
)


def many(usual: int = 500) -> settings:
    """The same examples each time, or as many new ones as were asked for."""
    return settings(
        max_examples=int(ASKED or usual), derandomize=not ASKED, database=None, deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def mutated(documents: Sequence[Any], values: Sequence[Any], names: Sequence[str]) -> st.SearchStrategy[bytes]:
    """A right document in which up to three things are changed, each at any depth, and then perhaps some bytes."""

    @st.composite
    def document(draw: st.DrawFn) -> bytes:
        whole = _copy(draw(st.sampled_from(documents)))
        for _ in range(draw(st.integers(0, 3))):
            whole = _changed(draw, whole, values, names)
        text = json.dumps(whole, ensure_ascii=draw(st.booleans()))
        if draw(st.integers(0, 9)) == 0:
            text = _said_twice(draw, text, names)
        data = text.encode(errors="surrogatepass")
        return changed_bytes(draw, data) if draw(st.integers(0, 4)) == 0 else data

    return document()


def changed_bytes(draw: st.DrawFn, data: bytes) -> bytes:
    """Some bytes flipped, cut out, put in or repeated."""
    changed = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(changed)))
        what = draw(st.integers(0, 3))
        if what == 0 and at < len(changed):
            changed[at] ^= 1 << draw(st.integers(0, 7))
        elif what == 1:
            del changed[at : at + draw(st.integers(1, 50))]
        elif what == 2:
            changed[at:at] = draw(st.binary(min_size=1, max_size=5))
        else:
            changed[at:at] = changed[: draw(st.integers(0, 50))]
    return bytes(changed)


def _changed(draw: st.DrawFn, whole: Any, values: Sequence[Any], names: Sequence[str]) -> Any:
    value = _copy(draw(st.sampled_from(values)))
    places = list(_places(whole))
    if not places:
        return value
    holder, key = draw(st.sampled_from(places))
    what = draw(st.integers(0, 4))
    if what <= 1:
        holder[key] = value
    elif what == 2:
        del holder[key]
    elif isinstance(holder, dict):
        name = draw(st.sampled_from(names))
        holder[name] = value if what == 3 else holder.pop(key)
    else:
        holder.insert(key, value)
    return whole


def _copy(value: Any) -> Any:
    """Not `deepcopy`, which leaves one object in many places: a change would be made in all of them."""
    return json.loads(json.dumps(value))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every member of every object and list, as its holder and its key there."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield value, key
        yield from _places(member)


def _said_twice(draw: st.DrawFn, text: str, names: Sequence[str]) -> str:
    """A name once more in some object, which no JSON library writes."""
    name = json.dumps(draw(st.sampled_from(names)))
    at = draw(st.sampled_from([place for place, character in enumerate(text) if character == "{"] or [0]))
    return f"{text[: at + 1]}{name}: 1, {name}: 2, {text[at + 1 :]}"
