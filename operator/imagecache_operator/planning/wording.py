# SPDX-License-Identifier: Apache-2.0
"""How numbers and lists read in messages, the same everywhere. Used by the rest of `planning/`."""

from __future__ import annotations

from datetime import timedelta

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: int) -> str:
    """Bytes as people say them: 1288490189 is "1.2 GiB"."""
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{int(value)} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def counted(count: int, noun: str) -> str:
    """1 image, 2 images."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def duration(delta: timedelta) -> str:
    """Whole seconds up to two minutes, then whole minutes, hours or days."""
    seconds = int(delta.total_seconds())
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return counted(seconds // length, unit)
    return counted(seconds, "second")


def percent(done: int, total: int) -> str:
    """Progress in whole per cent, rounded down, so that 100 % means all of it."""
    return f"{done * 100 // total} %" if total else "0 %"
