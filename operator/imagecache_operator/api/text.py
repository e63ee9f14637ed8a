# SPDX-License-Identifier: Apache-2.0
"""Text that came from elsewhere (registries, users, other programs), made fit to be shown: in a log line, a status, an
event, an error. Pure; called by whoever shows some."""

from __future__ import annotations


def printable(text: object, longest: int = 120) -> str:
    """`text` on one line without control characters, shortened: safe to show wherever it came from."""
    shown = "".join(c if c.isprintable() else "?" for c in str(text)[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def without_its_middle(text: str, longest: int) -> str:
    """Shortened: a message begins with what, or whose fault, it is about, and ends with what to do."""
    if len(text) <= longest:
        return text
    half = max(longest - 1, 0) // 2
    return text[: max(longest - 1, 0) - half] + "…" * bool(longest) + text[len(text) - half :]
