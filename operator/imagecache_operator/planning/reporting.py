# SPDX-License-Identifier: Apache-2.0
"""From a decision to what is written: status with its conditions, and events on transitions. Pure.

A status that says the same twice is equal to the last one, field by field, and is then not written: nothing in it
moves by itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import datetime, timedelta

from imagecache_operator.api.conditions import ConditionReason, ConditionType
from imagecache_operator.api.imagecache import AttemptState, Condition, Phase, Status
from imagecache_operator.planning import pull_secrets
from imagecache_operator.planning.decision import Decision, Event, Plan
from imagecache_operator.planning.observed import Cache, Observed
from imagecache_operator.planning.usage import last_used

_IN_MOTION = (Phase.CREATING, Phase.DELETING)
_BROKEN = (Phase.FAILED, Phase.UNAVAILABLE)
# Of a server that is to be there.
_TROUBLE = (ConditionReason.SERVER_PENDING, ConditionReason.CANARY_FAILED)
_WAITS_FOR_OTHERS = (ConditionReason.WAITING_FOR_SLOT, ConditionReason.QUOTA_EXCEEDED)


def reported(observed: Observed, decision: Decision, resync: timedelta, now: datetime) -> Plan:
    """The plan that carries a decision out and tells about it."""
    cache = observed.cache
    status = _status(observed, decision, now)
    # What an attempt's change of state allows (its Pod made, or removed) waits for that state to be in status;
    # it is there when this pass ends, so the next pass follows at once.
    moved_on = decision.attempt is not None and decision.attempt != cache.status.attempt
    again_in = timedelta(0) if moved_on else decision.again_in if decision.again_in is not None else resync
    return Plan(
        apply=decision.apply, create=decision.create, delete=decision.delete, serve=decision.serve,
        trials=decision.trials, warm=decision.warm,
        status=status, events=_events(cache, status), again_in=min(again_in, resync), gone=decision.gone,
        waits_for_others=decision.reason in _WAITS_FOR_OTHERS,
    )


def refused(observed: Observed, plan: Plan, words: str, retry_in: timedelta, now: datetime) -> Plan:
    """The plan's report where the API server refused one of its writes (403, 422): its own words, for a person.

    A complete cache stays complete: there only the message changes.
    """
    cache = observed.cache
    if plan.status.phase is Phase.AVAILABLE:
        status = plan.status.model_copy(update={"message": f"{plan.status.message}. Refused by the cluster: {words}"})
    else:
        decision = Decision(
            Phase.DELETING if cache.deleting else Phase.FAILED, ConditionReason.REJECTED,
            f"The cluster refused what this cache needs: {words}. It is tried again.",
            attempt=cache.status.attempt, images=plan.status.images, volume=cache.status.volume,
        )
        status = _status(observed, decision, now)
        warm = tuple(c for c in plan.status.conditions if c.type == ConditionType.WARM)
        status = status.model_copy(update={"conditions": (*status.conditions, *warm)})
    return replace(plan, status=status, events=_events(cache, status), again_in=retry_in, gone=False)


def not_served(observed: Observed, plan: Plan, words: str, retry_in: timedelta, now: datetime) -> Plan:
    """The plan's report where the server of a complete cache could not be applied (no quota for node ports, none
    left, a policy): the cache is what it was, and the condition Served has the API server's words."""
    server = plan.status.server and plan.status.server.model_copy(update={"ready": False})
    plan = replace(plan, status=plan.status.model_copy(update={"server": server}))
    refusal = f"The cluster refused the server: {words}. It is tried again."
    return _with_refusal(observed, plan, ConditionType.SERVED, ConditionReason.SERVER_PENDING, refusal, retry_in, now)


def not_tried(observed: Observed, plan: Plan, words: str, retry_in: timedelta, now: datetime) -> Plan:
    """The plan's report where a canary could not be made (a policy, an API server that knows no image volumes)."""
    refusal = f"The cluster refused the Pod that tries it on a node: {words}. It is tried again."
    return _with_refusal(observed, plan, ConditionType.SERVED, ConditionReason.CANARY_PENDING, refusal, retry_in, now)


def not_warmed(observed: Observed, plan: Plan, words: str, retry_in: timedelta, now: datetime) -> Plan:
    """The plan's report where the warmer could not be applied (an API server that knows no image volumes, a label that
    cannot be one): the cache is what it was, and the condition Warm has the API server's words."""
    refusal = (
        f"The cluster refused the warmer: {words}. It is tried again. Warm nodes take image volumes: Kubernetes 1.35, "
        "and containerd 2.1 on the nodes."
    )
    return _with_refusal(observed, plan, ConditionType.WARM, ConditionReason.WARMING, refusal, retry_in, now)


def _with_refusal(
    observed: Observed, plan: Plan, kind: ConditionType, reason: ConditionReason, words: str, retry_in: timedelta,
    now: datetime,
) -> Plan:
    """The plan's report with that condition False, in other words."""
    cache = observed.cache
    told = _condition(cache.status.condition(kind), kind, "False", reason, words, cache.generation, now)
    conditions = tuple(told if c.type == kind else c for c in plan.status.conditions)
    status = plan.status.model_copy(update={"conditions": conditions})
    return replace(plan, status=status, events=_events(cache, status), again_in=plan.again_in and retry_in)


def _status(observed: Observed, decision: Decision, now: datetime) -> Status:
    cache = observed.cache
    spec = cache.spec
    days = spec.retention_days if spec else 0
    return Status(
        phase=decision.phase,
        message=decision.message,
        observed_generation=cache.generation,
        handled_retry=decision.handled_retry or cache.status.handled_retry,
        image_count=len(spec.images) if spec else None,
        size=decision.size,
        progress=decision.progress,
        expires_at=cache.created + timedelta(days=days) if days else None,
        last_used_time=last_used(cache.status.last_used_time, observed.last_used),
        volume=decision.volume,
        server=decision.server,
        warm_nodes=decision.warm_nodes,
        attempt=decision.attempt,
        images=decision.images or (),
        conditions=_conditions(observed, decision, now),
    )


def _conditions(observed: Observed, decision: Decision, now: datetime) -> tuple[Condition, ...]:
    cache = observed.cache
    ready = decision.phase is Phase.AVAILABLE
    wanted = [
        (ConditionType.READY, ready, decision.reason, decision.message),
        (ConditionType.RECONCILING, decision.phase in _IN_MOTION, decision.reason, ""),
        (ConditionType.STALLED, decision.phase in _BROKEN, decision.reason, ""),
    ]
    if cache.spec and observed.pull_secrets:
        wanted.append((
            ConditionType.PULL_SECRETS, *pull_secrets.usable(cache.spec.images, observed.pull_secrets),
        ))
    wanted.append((
        ConditionType.SERVED, decision.served is ConditionReason.SERVING, decision.served, decision.served_message,
    ))
    if decision.warmed is not None:
        wanted.append((
            ConditionType.WARM, decision.warmed is ConditionReason.NODES_WARM, decision.warmed, decision.warmed_message,
        ))
    before = {c.type: c for c in cache.status.conditions}
    return tuple(
        _condition(before.get(kind), kind, "True" if holds else "False", reason, message, cache.generation, now)
        for kind, holds, reason, message in wanted
    )


def _condition(
    before: Condition | None, kind: str, status: str, reason: str, message: str, generation: int, now: datetime,
) -> Condition:
    unmoved = before is not None and before.status == status
    return Condition(
        type=kind, status=status, reason=reason, message=message, observed_generation=generation,
        last_transition_time=before.last_transition_time if before is not None and unmoved else now,
    )


def _events(cache: Cache, status: Status) -> tuple[Event, ...]:
    events = []
    before, number = cache.status, status.attempt.number if status.attempt else 0
    ready = status.condition(ConditionType.READY)
    if status.phase is not None and ready is not None and status.phase != before.phase:
        kind = "Warning" if status.phase in _BROKEN else "Normal"
        events.append(_event(cache, kind, ready.reason, status.message or "", number))
    lost = status.attempt is not None and status.attempt.state is AttemptState.LOST
    if lost and status.attempt != before.attempt and status.phase is Phase.CREATING:
        events.append(_event(cache, "Warning", ConditionReason.RETRY_SCHEDULED, status.message or "", number))
    secrets, told = status.condition(ConditionType.PULL_SECRETS), before.condition(ConditionType.PULL_SECRETS)
    if secrets is not None and secrets.status == "False" and (told is None or told.message != secrets.message):
        events.append(_event(cache, "Warning", secrets.reason, secrets.message, secrets.message))
    served, was = status.condition(ConditionType.SERVED), before.condition(ConditionType.SERVED)
    was_served = was is not None and was.status == "True"
    if was_served and served is not None and served.reason in _TROUBLE:
        # Named by the attempt, not by the moment: while an event is kept, another of that name is not made.
        events.append(_event(cache, "Warning", served.reason, served.message, number))
    return tuple(events)


def _event(cache: Cache, kind: str, reason: str, message: str, moment: object) -> Event:
    # The key holds what makes this moment of the cache's life unlike any other.
    key = f"{cache.uid}/{cache.generation}/{moment}/{cache.status.phase}/{reason}"
    return Event(kind, reason, message, hashlib.sha256(key.encode()).hexdigest()[:16])
