# SPDX-License-Identifier: Apache-2.0
"""Any text and any JSON, with what programs differ about: what all strategies for specs begin with."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

# Where programs differ on what ends a line, is a digit, has a lower case, counts as one character, or is printed.
ODD_CHARACTERS = (
    "\0\x1b\x7f\x85\t\n\r \"$'%\\{}#?*~,;"
    "\u00e9\u0130\u017f\u2028\u2029\u200b\u202e\u212a\ufeff\uff11\u0663\u05d0\u0301\U0001f433\U0001d7d8"
)
TEXTS = st.text(max_size=20) | st.text(st.sampled_from(ODD_CHARACTERS + "ab1A.:/@_-[]"), max_size=12)

_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 402), TEXTS,
    st.sampled_from([2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([25.0, 25.5, 1e3, 1e22, -0.0, 19.999999999999996, 400.00000000000006, 5e-324]),
    st.sampled_from(["20", "25.0", "1e3", "0x14", "\uff12\uff10", "true", "null", "Delete", "busybox", "a" * 5000]),
)
JSON: st.SearchStrategy[Any] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=5,
) | st.just([[[[[[[[{"images": [[]]}]]]]]]]])


def with_odd_character(texts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """One strange character at the end, where `$` may overlook it, at the start, or within."""
    def inserted(text: str, character: str, place: int) -> str:
        place = {0: len(text), 1: 0}.get(place, place % (len(text) + 1))
        return text[:place] + character + text[place:]

    return st.builds(inserted, texts, st.sampled_from(["\n", *ODD_CHARACTERS]), st.integers(0, 30))
