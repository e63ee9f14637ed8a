# SPDX-License-Identifier: Apache-2.0
"""What follows from Pods that the webhook has marked: the event of one that asked and was not served, and when a cache
was last used. Pure.

At admission a Pod has no UID, so that no event can name it, and the webhook may write nothing. So the operator watches
for the marks (`controller/pods.py`), and asks here what to make of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from imagecache_operator.api.text import printable
from imagecache_operator.planning.decision import Event
from imagecache_operator.planning.injection import LONGEST_REASON

REASON = "NotInjected"
# Events live for an hour by default: of an older Pod, whoever wanted to know has been told or does not look any more.
TOLD_WITHIN = timedelta(hours=1)
# Between two writes of the same cache for nothing but its last use.
COARSE = timedelta(hours=1)
# Events: so many at once, and one a second in the long run, for the whole cluster.
BURST = 100.0
# Anybody may put the label on a Pod, with whatever value. More caches than this are not remembered.
MOST_CACHES = 1000


@dataclass(frozen=True)
class MarkedPod:
    """A Pod with a mark of the webhook. `cache_uid` is empty where it was not injected; `reason` then says why."""

    namespace: str
    name: str
    uid: str
    created: datetime
    cache_uid: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Allowance:
    """How many events may be posted now.

    What is above that is not told by an event: label and annotation say the same on each Pod, and the metrics count it.
    """

    left: float = BURST
    since: datetime | None = None

    def spent(self, now: datetime) -> Allowance | None:
        """What is left after one more; None where there is none for it."""
        passed = max((now - self.since).total_seconds(), 0.0) if self.since else 0.0
        left = min(self.left + passed, BURST)
        return Allowance(left - 1, now) if left >= 1 else None


def not_injected(pod: MarkedPod, now: datetime) -> Event | None:
    """The event of a Pod that asked and was not served; None where it is too late for one.

    Its key is the Pod's UID: while the event is kept, telling twice is telling once.
    """
    if now - pod.created > TOLD_WITHIN:
        return None
    # The annotation may be anybody's: whoever makes a Pod can write what he likes there.
    reason = printable(pod.reason, LONGEST_REASON) or "the reason is not on the Pod"
    return Event("Warning", REASON, f"Starts without an image cache: {reason}", f"not-injected.{pod.uid}")


def remembered(uses: Mapping[str, datetime], pod: MarkedPod) -> dict[str, datetime]:
    """The newest use of each cache, by its UID, with that Pod taken into account."""
    newest = max(pod.created, uses.get(pod.cache_uid, pod.created))
    found = {**uses, pod.cache_uid: newest}
    if len(found) > MOST_CACHES:
        del found[min(found, key=lambda uid: found[uid])]
    return found


def last_used(told: datetime | None, seen: datetime | None) -> datetime | None:
    """What status is to say: what it says, unless a use was seen that is an hour later at least."""
    if seen is None or (told is not None and seen - told < COARSE):
        return told
    return seen
