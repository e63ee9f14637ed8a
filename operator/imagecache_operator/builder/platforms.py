# SPDX-License-Identifier: Apache-2.0
"""Which entry of an index suits a wanted platform, by containerd's rules. Pure; `manifest.py` and `plan.py` ask."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.text import printable
from imagecache_operator.builder.errors import ImageError

_WORD = re.compile(r"[a-zA-Z0-9._-]{1,64}")
_OTHER_NAMES = {
    "x86_64": ("amd64", ""), "x86-64": ("amd64", ""), "aarch64": ("arm64", ""), "i386": ("386", ""),
    "armhf": ("arm", "v7"), "armel": ("arm", "v6"),
}
# What a registry may leave out: the variant that every machine of the architecture can run, or Docker's habit.
_USUAL_VARIANT = {"amd64": "v1", "arm64": "v8", "arm": "v7"}

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Platform:
    """Operating system, architecture, variant, normalised: `linux/aarch64` and `linux/arm64/v8` are equal."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def of(cls, os: str, architecture: str, variant: str = "") -> Platform:
        """Normalised from names in any spelling."""
        name, implied = _OTHER_NAMES.get(architecture.lower(), (architecture.lower(), ""))
        chosen = (variant or implied or _USUAL_VARIANT.get(name, "")).lower()
        return cls(os.lower(), name, chosen if chosen.startswith("v") or not chosen else f"v{chosen}")

    @classmethod
    def parse(cls, text: str) -> Platform:
        """From `os/architecture[/variant]`. Raises ImageError for anything else."""
        words = text.split("/")
        if len(words) not in (2, 3) or not all(_WORD.fullmatch(word) for word in words):
            raise ImageError(
                Reason.UNSUPPORTED, f"'{printable(text)}' is no platform: write it like linux/amd64 or linux/arm/v7.",
            )
        return cls.of(*words)

    @property
    def words(self) -> dict[str, str]:
        """As documents name it, by JSON's names. Without a variant that goes without saying: containerd 1.6 takes
        amd64 v1 for another machine than amd64."""
        usual = _USUAL_VARIANT.get(self.architecture, "") == self.variant and self.architecture != "arm"
        variant = {} if usual or not self.variant else {"variant": self.variant}
        return {"os": self.os, "architecture": self.architecture, **variant}

    def __str__(self) -> str:
        return printable("/".join(self.words.values()))

    def suitability(self, other: Platform) -> int | None:
        """How well an image for `other` runs here: 0 is exact, larger is older, None is not at all."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return None
        if self.variant == other.variant:
            return 0
        mine, theirs = _number(self.variant), _number(other.variant)
        return mine - theirs if mine is not None and theirs is not None and mine > theirs else None


def is_for_all(wanted: Sequence[Platform], offered: Sequence[tuple[Platform, Entry]]) -> bool:
    """Whether there is something for each wanted platform."""
    return all(any(platform.suitability(other) is not None for other, _ in offered) for platform in wanted)


def choose(
    wanted: Sequence[Platform], offered: Sequence[tuple[Platform, Entry]], whose: str,
) -> tuple[Entry, ...]:
    """The best entry for each wanted platform that is there, none twice, in the order of `offered`.

    Raises ImageError (PlatformMissing, naming what there is) when no wanted platform is there at all.
    """
    chosen = set()
    for platform in wanted:
        suiting = [
            (fit, place) for place, (other, _) in enumerate(offered)
            if (fit := platform.suitability(other)) is not None
        ]
        if suiting:
            chosen.add(min(suiting)[1])
    if not chosen:
        there = ", ".join(sorted({str(platform) for platform, _ in offered})) or "platforms without a name"
        raise ImageError(
            Reason.PLATFORM_MISSING,
            f"{whose} has no image for {', '.join(map(str, wanted))}, only for {printable(there, 200)}: "
            "push one that the nodes can run, or take it off the list.",
        )
    return tuple(offered[place][1] for place in sorted(chosen))


def _number(variant: str) -> int | None:
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdecimal() and digits.isascii() and len(digits) < 4 else None
