# SPDX-License-Identifier: Apache-2.0
"""What ends a run early: SIGTERM, Ctrl-C, or the deadline that a person gave. `command.py` makes one for its process.

All three set one event, which every part of the builder looks at. Only afterwards are they told apart: whoever was
too slow should hear so.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageOutcome, Outcome

if TYPE_CHECKING:
    from imagecache_operator.builder.estimate import Estimate, ImageEstimate

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)

Ended = TypeVar("Ended", ImageOutcome, "ImageEstimate")


class Stop:
    """Takes the process's signals over; only the main thread may make one. `deadline` is in seconds from now."""

    def __init__(self, deadline: float | None = None) -> None:
        self.event = threading.Event()
        self._deadline = deadline
        self._late = False
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)
        if deadline:
            signal.setitimer(signal.ITIMER_REAL, deadline)

    def outcome(self, outcome: Outcome) -> Outcome:
        """The outcome, with the deadline as its reason if it was that."""
        if not self._late or outcome.reason is not Reason.CANCELLED:
            return outcome
        return outcome.model_copy(update={
            "images": self._images(outcome.images), "reason": Reason.TIMEOUT, "message": f"{self._why}.",
        })

    def estimate(self, estimate: Estimate) -> Estimate:
        """The estimate, likewise."""
        return estimate.model_copy(update={"images": self._images(estimate.images)}) if self._late else estimate

    def _images(self, images: tuple[Ended, ...]) -> tuple[Ended, ...]:
        late = {"reason": Reason.TIMEOUT, "message": f"{self._why} before this image was complete."}
        return tuple(image.model_copy(update=late) if image.reason is Reason.CANCELLED else image for image in images)

    @property
    def _why(self) -> str:
        return f"The deadline of {self._deadline:g} seconds passed"

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        # One is enough: handlers of a storm of signals would run within each other until the stack is full.
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        self._late = self._late or (number == signal.SIGALRM and not self.event.is_set())
        self.event.set()
