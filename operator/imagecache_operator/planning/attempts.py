# SPDX-License-Identifier: Apache-2.0
"""The life of an attempt: how its end is read, when the next one may start, who may build now.

An attempt is one builder Pod. Its number is written to status before the Pod is made, and its end is written to
status before the Pod is removed, so whoever comes after a crash knows where things stand.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from imagecache_operator.api.imagecache import Attempt, AttemptState, Phase
from imagecache_operator.api.reasons import TRANSIENT, Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.planning import wording
from imagecache_operator.planning.observed import Builder, Neighbour

FIRST_DELAY = timedelta(seconds=10)
LONGEST_DELAY = timedelta(minutes=5)

REASON_DELETED = "BuilderDeleted"
REASON_ENDED = "BuilderEnded"
REASON_NOT_STARTED = "BuilderNotStarted"
REASON_IMAGES = "ImageFailed"


def next_attempt(
    last: Attempt | None, generation: int, pull_secrets: str | None = None, *, fresh: bool = False,
    with_secrets: bool = False,
) -> Attempt:
    """The attempt after `last`. `fresh` forgets earlier failures: a person asked again. `with_secrets`: some are
    listed, whether they can be read now or not."""
    return Attempt(
        number=last.number + 1 if last else 1,
        observed_generation=generation,
        pull_secrets=pull_secrets,
        # What an earlier one has put onto the volume is still there.
        with_secrets=with_secrets or bool(last and last.with_secrets),
        failures=last.failures if last and not fresh else 0,
        state=AttemptState.STARTING,
    )


def renewed(attempt: Attempt, generation: int, pull_secrets: str | None, *, with_secrets: bool = False) -> Attempt:
    """An announced attempt whose Pod has not been made, for the spec and the Secrets as they are now."""
    return attempt.model_copy(update={
        # An attempt of a version before this field has none, and gets none: that is no edit.
        "observed_generation": attempt.observed_generation and generation,
        "pull_secrets": pull_secrets or attempt.pull_secrets,
        "with_secrets": attempt.with_secrets or with_secrets,
    })


def back_off(failures: int) -> timedelta:
    """How long to wait after that many failures in a row: 10 s, doubling, at most 5 min."""
    return min(FIRST_DELAY * 2 ** min(failures - 1, 10), LONGEST_DELAY) if failures else timedelta(0)


def due_at(attempt: Attempt) -> datetime | None:
    """When the attempt after this lost one may start; None where it may at once."""
    return attempt.finished_at + back_off(attempt.failures) if attempt.finished_at else None


def followed(attempt: Attempt, builder: Builder | None, start_within: timedelta, now: datetime) -> Attempt:
    """The attempt after a look at its builder Pod (None: there is no such Pod)."""
    if attempt.state not in (AttemptState.STARTING, AttemptState.RUNNING):
        return attempt
    if builder is None:
        if attempt.state is AttemptState.STARTING:
            return attempt
        return _lost(attempt, REASON_DELETED, "the builder Pod was deleted before it had finished", now)
    if not builder.terminated:
        if not builder.running and now - builder.created >= start_within:
            # Kubernetes would wait for ever, and the slot with it: for room on a node, for an image that is not there.
            return _lost(attempt, REASON_NOT_STARTED, (
                f"the builder Pod had not started after {wording.duration(start_within)}"
                + (f": {builder.waiting_for}" if builder.waiting_for else "")
            ), now)
        return attempt.model_copy(update={"state": AttemptState.RUNNING})
    if builder.outcome is None:
        because = builder.ended_because or "it ended without saying why"
        return _lost(attempt, REASON_ENDED, f"the builder Pod ended before it had finished: {because}", now)
    if builder.outcome.reason is Reason.CANCELLED and builder.ended_because:
        # Asked to stop, it can only say so; who asked is known to Kubernetes: an eviction, a deadline, a drained node.
        why = f"the builder Pod was stopped before it had finished: {builder.ended_because}"
        return _lost(attempt, Reason.CANCELLED, why, now)
    return _judged(attempt, builder.outcome, now)


def _judged(attempt: Attempt, outcome: Outcome, now: datetime) -> Attempt:
    if outcome.succeeded:
        return Attempt(
            number=attempt.number, observed_generation=attempt.observed_generation,
            pull_secrets=attempt.pull_secrets, with_secrets=attempt.with_secrets, state=AttemptState.SUCCEEDED,
            finished_at=now,
        )
    if outcome.reason is not None:
        reason, message = str(outcome.reason), outcome.message
        transient = outcome.reason in TRANSIENT
    else:
        failed = [image.reason for image in outcome.images if image.reason is not None]
        reason, message = REASON_IMAGES, ""
        # One image that needs a person is enough to make a new attempt pointless.
        transient = all(r in TRANSIENT for r in failed)
    if transient:
        return _lost(attempt, reason, message, now)
    return attempt.model_copy(update={
        "state": AttemptState.FAILED, "failures": attempt.failures + 1,
        "reason": reason, "message": message, "finished_at": now,
    })


def _lost(attempt: Attempt, reason: str, message: str, now: datetime) -> Attempt:
    return attempt.model_copy(update={
        "state": AttemptState.LOST, "failures": attempt.failures + 1,
        "reason": reason, "message": message, "finished_at": now,
    })


def within_quota(name: str, neighbours: Iterable[Neighbour], limit: int) -> bool:
    """Whether this cache is among the oldest `limit`; those being deleted do not count."""
    served = sorted((n for n in neighbours if not n.deleting), key=lambda n: n.age_rank)[:limit]
    return any(n.name == name for n in served)


def may_announce(name: str, neighbours: Iterable[Neighbour], slots: int) -> bool:
    """Whether this cache may announce an attempt: a slot is left after those that build and older ones that wait."""
    me = next((n for n in neighbours if n.name == name), None)
    if me is None:
        return False
    ahead = [n for n in neighbours if n.name != name and (
        (n.is_building and not n.is_held_up) or _waits_before(n, me)
    )]
    return len(ahead) < slots


def may_build(name: str, neighbours: Iterable[Neighbour], slots: int) -> bool:
    """Whether an announced attempt may get its Pod.

    Two caches may have announced at the same moment, each blind to the other. Both look again after their
    announcement is written, see the same set, and order it the same way; so at most `slots` go on.
    """
    building = sorted(
        (n for n in neighbours if n.is_building), key=lambda n: (not n.has_builder, n.is_held_up, n.age_rank),
    )
    return any(n.name == name for n in building[:slots])


def _waits_before(other: Neighbour, me: Neighbour) -> bool:
    # One that waits for its back-off (Lost) does not want a slot yet; it must not hold up the others.
    wants = (
        not other.deleting and other.phase in (None, Phase.CREATING)
        and (other.attempt is None or other.attempt.state not in (AttemptState.LOST, AttemptState.FAILED))
    )
    return wants and other.age_rank < me.age_rank
