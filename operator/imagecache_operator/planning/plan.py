# SPDX-License-Identifier: Apache-2.0
"""The plan: what to do about one ImageCache, from what is seen of it. Pure. `controller/reconciler.py` calls it.

A decision is the first answer in a list of small questions, in the order of `_QUESTIONS`: is it being deleted? can
its spec be used? is it for another cluster? has it expired? is it complete? has it failed for good? are there too many
caches? may an attempt begin? how is the one that runs? The life of a cache, in one screen; each answer says the phase,
the reason, a sentence for a person, and what to do.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.imagecache import Attempt, AttemptState, OnExpiry, Phase, VolumeStatus
from imagecache_operator.api.reasons import Reason
from imagecache_operator.planning import attempts, images, wording
from imagecache_operator.planning.children import builder_pod, credentials
from imagecache_operator.planning.decision import AT_ONCE, SOON, Decision, Manifest, ObjectRef, Plan
from imagecache_operator.planning.observed import Observed
from imagecache_operator.planning.reporting import reported
from imagecache_operator.planning.serving import with_server
from imagecache_operator.planning.view import View
from imagecache_operator.planning.warming import with_warmer
from imagecache_operator.settings import Settings

SLOT_POLL = timedelta(seconds=10)


def plan(observed: Observed, settings: Settings, now: datetime) -> Plan:
    """The plan for what was seen at `now` (UTC, whole seconds)."""
    view = View(observed, settings, now)
    for question in _QUESTIONS:
        decision = question(view)
        if decision is not None:
            decision = with_warmer(view, with_server(view, decision))
            return reported(observed, decision, settings.resync, now)
    raise AssertionError("the last question always has an answer")


def _being_deleted(view: View) -> Decision | None:
    seen = view.observed
    if not seen.cache.deleting:
        return None
    left = [f"{part.kind} {part.name}" for part in seen.server.parts] + [f"Pod {b.name}" for b in seen.builders]
    left += [f"Secret {s.name}" for s in seen.attempt_secrets]
    left += [f"volume {seen.volume.name}"] if seen.volume else []
    left += [f"{part.kind} {part.name}" for part in (*view.canary_pods, *view.warmer)]
    return Decision(
        Phase.DELETING, Because.DELETING,
        f"Removing {' and '.join(left)}" if left else "Everything of this cache is removed",
        delete=view.all_children, again_in=SOON, gone=not left,
        attempt=seen.cache.status.attempt, images=seen.cache.status.images,
    )


def _invalid(view: View) -> Decision | None:
    cache = view.observed.cache
    if cache.spec is not None:
        return None
    return Decision(
        Phase.FAILED, Because.INVALID_SPEC, f"The spec cannot be used: {cache.spec_error}. Correct it and apply again.",
        attempt=view.attempt, images=view.images, volume=cache.status.volume, size=cache.status.size,
        delete=view.ended_attempts,
    )


def _elsewhere(view: View) -> Decision | None:
    wanted = view.spec.building_config.cluster if view.spec.building_config else None
    if wanted is None or wanted == view.observed.home_uid:
        return None
    # The field cannot change, so nothing was ever made here that would have to be carried on or removed.
    return Decision(
        Phase.FAILED, Because.CLUSTER_NOT_FOUND,
        f"buildingConfig.cluster is {wanted}, but this cluster is {view.observed.home_uid}, and caches are built only "
        "in the cluster they live in. Leave the field out, or apply the ImageCache there.",
    )


def _expired(view: View) -> Decision | None:
    seen = view.observed
    if view.spec.retention_days == 0:
        return None
    expires = seen.cache.created + timedelta(days=view.spec.retention_days)
    if view.now < expires:
        return None
    # All is kept as it was: until the grace is over, an edit of retentionDays brings the cache back.
    before = seen.cache.status
    decision = Decision(
        Phase.UNAVAILABLE, Because.EXPIRED, "", attempt=before.attempt, images=before.images, volume=before.volume,
        size=before.size,
    )
    age = f"Expired after {wording.counted(view.spec.retention_days, 'day')}"
    left = expires + view.settings.expiry_grace - view.now
    if left > timedelta(0):
        what = "deleted" if view.spec.on_expiry is OnExpiry.DELETE else "released"
        return replace(decision, message=f"{age}; it will be {what} soon", again_in=left)
    if view.spec.on_expiry is OnExpiry.DELETE:
        doomed = (ObjectRef("ImageCache", seen.cache.name, seen.cache.uid),)
        return replace(decision, message=f"{age}; it is being deleted", delete=doomed, again_in=SOON)
    return replace(
        decision, message=f"{age}; its volume is released. Raise retentionDays to build it again, or delete it.",
        delete=view.all_children, attempt=None, images=images.waiting(view.spec.images), volume=None, size=None,
    )


def _complete(view: View) -> Decision | None:
    seen, attempt = view.observed, view.attempt
    if attempt is None or attempt.state is not AttemptState.SUCCEEDED:
        return None
    recorded = seen.cache.status.volume
    expected = recorded.uid if recorded and recorded.uid else None
    # The UID tells a volume that somebody deleted and made again, and which is therefore empty.
    lost = seen.volume is None or seen.volume.deleting or seen.volume.phase == "Lost" or (
        expected is not None and seen.volume.uid != expected
    )
    if lost or seen.volume is None:
        if view.retry_asked:
            return None
        return Decision(
            Phase.UNAVAILABLE, Because.VOLUME_LOST,
            f"The volume {view.claim_name} with the images is gone. To build the cache again: {view.how_to_retry}",
            attempt=attempt, images=view.images, volume=recorded, delete=view.ended_attempts,
        )
    size = view.size
    return Decision(
        Phase.AVAILABLE, Because.AVAILABLE, f"{view.counted_images}, {size}" if size else view.counted_images,
        attempt=attempt, images=view.images, size=size, progress="100 %",
        volume=VolumeStatus(name=seen.volume.name, uid=seen.volume.uid),
        apply=view.claim_if_different, delete=view.ended_attempts, handled_retry=seen.cache.retry,
    )


def _failed(view: View) -> Decision | None:
    seen, attempt = view.observed, view.attempt
    if attempt is None or view.asked_again:
        return None
    rested = attempt.finished_at is None or view.now >= attempt.finished_at + attempts.LONGEST_DELAY
    if view.secrets_changed and rested:
        return None
    if attempt.state is AttemptState.FAILED:
        of_images = attempt.reason == attempts.REASON_IMAGES
        because = images.failure_reason(view.images) if of_images else images.volume_reason(attempt.reason)
        message = images.failure(view.images) if of_images else attempt.message or "The builder gave no reason"
        if any(image.reason == Reason.UNAUTHORIZED for image in view.images) and view.secrets_hint:
            message = f"{message}. {view.secrets_hint}"
    elif attempt.state is AttemptState.LOST and attempt.failures >= view.settings.max_attempts:
        because = Because.ATTEMPTS_EXHAUSTED
        message = (
            f"{wording.counted(attempt.failures, 'attempt')} failed, the last one because: {view.why_lost(attempt)}. "
            f"To try again: {view.how_to_retry}"
        )
    else:
        return None
    decision = Decision(
        Phase.FAILED, because, message, attempt=attempt, images=view.images, delete=view.ended_attempts,
        volume=view.named_volume,
    )
    if seen.volume is None or attempt.finished_at is None:
        return replace(decision, volume=None)
    left = attempt.finished_at + view.settings.failed_volume_ttl - view.now
    if left > timedelta(0):
        return replace(decision, again_in=left)
    return replace(decision, volume=None, delete=(*view.ended_attempts, *view.deletable_volume))


def _over_quota(view: View) -> Decision | None:
    limit = view.settings.max_caches
    if _is_building(view.attempt) or attempts.within_quota(view.observed.cache.name, view.observed.neighbours, limit):
        return None
    return Decision(
        Phase.CREATING, Because.QUOTA_EXCEEDED,
        f"There are {limit} older ImageCaches, as many as are served; this one starts when one of them is deleted",
        attempt=view.attempt, images=images.waiting(view.spec.images), delete=view.ended_attempts,
    )


def _between_attempts(view: View) -> Decision | None:
    """No attempt yet, or the last one is over and another one is to be made."""
    seen, attempt = view.observed, view.attempt
    if _is_building(attempt):
        return None
    waiting = Decision(
        Phase.CREATING, Because.RETRY_SCHEDULED, "", attempt=attempt, images=view.images, volume=view.named_volume,
        delete=view.ended_attempts,
    )
    if attempt and attempt.state is AttemptState.LOST and not view.asked_again:
        due = attempts.due_at(attempt)
        if due and view.now < due:
            return replace(
                waiting, again_in=due - view.now,
                message=f"Attempt {attempt.number} failed: {view.why_lost(attempt)}. The next one starts "
                f"{wording.duration(attempts.back_off(attempt.failures))} after it "
                f"({attempt.failures} of {view.settings.max_attempts})",
            )
    if view.left_behind:
        return replace(
            waiting, reason=Because.BUILDER_PENDING, again_in=SOON,
            message=f"Waiting until {view.named_leftovers} of the last attempt is removed",
        )
    if view.volume_unfit:
        # Nothing complete is on it, and not every class lets a volume grow.
        return replace(
            waiting, reason=Because.VOLUME_PENDING, again_in=SOON, delete=view.deletable_volume, volume=None,
            message="Replacing the volume, which is lost or not of the size that is asked for",
        )
    if not attempts.may_announce(seen.cache.name, seen.neighbours, view.settings.max_builders):
        return replace(
            waiting, reason=Because.WAITING_FOR_SLOT, again_in=SLOT_POLL,
            message=f"{wording.counted(view.settings.max_builders, 'builder')} may run at once; older caches go first",
        )
    fresh = view.next_attempt
    # Only announced: the Pod is made by the next pass, when the number is safely in status.
    return replace(
        waiting, reason=Because.BUILDER_PENDING, message=f"Attempt {fresh.number} is starting", attempt=fresh,
        images=images.waiting(view.spec.images), handled_retry=seen.cache.retry, again_in=AT_ONCE,
    )


def _building(view: View) -> Decision:
    seen, attempt, builder = view.observed, view.attempt, view.builder
    if attempt is None:
        raise AssertionError("asked only after an attempt was announced")
    decision = Decision(
        Phase.CREATING, Because.BUILDER_PENDING, f"Attempt {attempt.number} is starting",
        attempt=attempt, images=images.waiting(view.spec.images), volume=view.named_volume, again_in=SOON,
        handled_retry=seen.cache.retry, delete=view.ended_attempts,
    )
    if builder is None:
        if view.left_behind:
            return replace(decision, message=f"Waiting until {view.named_leftovers} of an earlier attempt is removed")
        if not attempts.may_build(seen.cache.name, seen.neighbours, view.settings.max_builders):
            return replace(
                decision, reason=Because.WAITING_FOR_SLOT, again_in=SLOT_POLL,
                message=f"{wording.counted(view.settings.max_builders, 'builder')} may run at once; "
                "older caches go first",
            )
        current = view.renewed(attempt)
        if current != attempt:
            # What it is to be made with has changed while it could not begin; a Secret of it would be the old one.
            stale = tuple(ObjectRef("Secret", s.name) for s in seen.attempt_secrets)
            return replace(decision, attempt=current, delete=stale, again_in=AT_ONCE)
        return replace(decision, apply=view.claim_if_different, create=_of_attempt(view, attempt.number))
    if not builder.running:
        # A claim of a WaitForFirstConsumer class is pending too, until the Pod is scheduled; what holds that up, if
        # anything, is said by the Pod.
        pending = not builder.waiting_for and seen.volume is not None and seen.volume.phase == "Pending"
        if view.missing_class:
            return replace(decision, reason=Because.VOLUME_PENDING, message=view.missing_class)
        # A Secret that somebody has deleted is made again: the Pod would wait for it without a word.
        secret = tuple(m for m in _of_attempt(view, attempt.number) if m["kind"] == "Secret")
        message = f"Waiting for builder Pod {builder.name}" + (
            f": {builder.waiting_for}" if builder.waiting_for else " to start"
        )
        return replace(
            decision, reason=Because.VOLUME_PENDING if pending else Because.BUILDER_PENDING, message=message,
            # Without its claim the Pod would wait for ever: the deadline of a Pod counts from its start.
            apply=() if seen.volume else (view.claim(),), create=secret,
        )
    progress = seen.progress
    if progress is None or not images.progressed(seen.cache.status.progress, progress):
        # Nothing moved by a whole per cent: what was written stands, so that this pass writes nothing.
        before = seen.cache.status
        return replace(
            decision, reason=Because.PULLING, progress=before.progress, images=before.images or decision.images,
            message=before.message if before.progress and before.message else f"Pulling {view.counted_images}",
        )
    return replace(
        decision, reason=Because.PULLING, images=images.moving(view.spec.images, progress),
        progress=wording.percent(progress.bytes_done, progress.bytes_total),
        message=f"Pulling {view.counted_images}: {wording.size(progress.bytes_done)} of "
        f"{wording.size(progress.bytes_total)}",
    )


def _of_attempt(view: View, number: int) -> tuple[Manifest, ...]:
    """The Secret, where the images need one and it is not there yet, before the Pod that waits for it."""
    seen, settings, needed = view.observed, view.settings, view.credentials
    pod = builder_pod.manifest(
        seen.cache, number, seen.platforms, seen.home_uid, settings, with_credentials=bool(needed.entries),
    )
    if not needed.entries or any(secret.attempt == number for secret in seen.attempt_secrets):
        return (pod,)
    secret = credentials.manifest(
        seen.cache, number, builder_pod.GENERATION, needed, seen.home_uid, settings.namespace,
    )
    return secret, pod


_QUESTIONS = (
    _being_deleted, _invalid, _elsewhere, _expired, _complete, _failed, _over_quota, _between_attempts, _building,
)


def _is_building(attempt: Attempt | None) -> bool:
    return attempt is not None and attempt.state in (AttemptState.STARTING, AttemptState.RUNNING)
