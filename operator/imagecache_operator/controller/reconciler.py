# SPDX-License-Identifier: Apache-2.0
"""One pass over one ImageCache: observe → plan → carry out → report. Called by `controller/handlers.py` in a thread.

It may be killed between any two of its calls; the next pass, by whatever process, sees what is there and goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from threading import Lock

from imagecache_operator import names
from imagecache_operator.api.imagecache import AttemptState, Phase, Status
from imagecache_operator.cluster.api import Api, ClusterError, Conflict, Object, Rejected
from imagecache_operator.cluster.observe import observe
from imagecache_operator.controller import events
from imagecache_operator.planning.decision import Event, Manifest, Plan
from imagecache_operator.planning.observed import Cache
from imagecache_operator.planning.plan import plan
from imagecache_operator.planning.reporting import not_served, not_tried, not_warmed, refused
from imagecache_operator.settings import Settings

log = logging.getLogger(__name__)

RETRY_AFTER_REFUSAL = timedelta(minutes=1)
# Events of cluster-scoped objects belong to this namespace; the API server takes them in no other.
EVENT_NAMESPACE = "default"


def utc_now() -> datetime:
    """The clock of whoever is given no other."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Pass:
    """How a pass ended. `gone`: nothing is left to look after. `ended`: the state in which it has put down that the
    attempt ended."""

    again_in: timedelta
    deleting: bool = False
    gone: bool = False
    phase: Phase | None = None
    waits_for_others: bool = False
    ended: AttemptState | None = None


def _never_used(uid: str) -> None:
    return None


class Reconciler:
    """Makes passes. Safe to use from several threads for different ImageCaches."""

    def __init__(
        self, api: Api, settings: Settings, home_uid: str, clock: Callable[[], datetime] = utc_now,
        turn: AbstractContextManager[object] | None = None,
        last_used: Callable[[str], datetime | None] = _never_used,
    ) -> None:
        """`turn` is held by the one pass that announces an attempt (a lock of its own if none is given). `last_used`
        knows when the newest Pod was made that starts from the cache of a UID."""
        self._api = api
        self._settings = settings
        self._home = home_uid
        self._clock = clock
        self._turn = turn or Lock()
        self._last_used = last_used

    def run_once(self, name: str, uid: str) -> Pass:
        """One pass. Raises `cluster.api.Unavailable` or `Rejected` where it could not even look."""
        done = self._pass(name, uid, may_announce=False)
        if done is not None:
            return done
        # It would take a slot. So that nobody else takes the same one, it looks again in its turn.
        with self._turn:
            again = self._pass(name, uid, may_announce=True)
        if again is None:
            raise AssertionError("a pass that may do everything has always an end")
        return again

    def _pass(self, name: str, uid: str, *, may_announce: bool) -> Pass | None:
        """None, and nothing done, where it would announce an attempt and may not."""
        settings = self._settings
        seen = observe(
            self._api, name, uid, self._home, settings.namespace, ingresses=settings.server_domain is not None,
        )
        if seen is None:
            return Pass(again_in=timedelta(0), deleting=True, gone=True)
        seen = replace(seen, last_used=self._last_used(uid))
        # Whole seconds, because that is what comes back from the API server: a finer time would differ for ever.
        now = self._clock().replace(microsecond=0)
        todo = plan(seen, settings, now)
        if not may_announce and _announces(seen.cache, todo):
            return None
        try:
            self._carry_out(todo)
        except Rejected as refusal:
            log.warning("%s: the cluster refused a write: %s", name, refusal)
            todo = refused(seen, todo, str(refusal), RETRY_AFTER_REFUSAL, now)
        for what, write, manifests, without in (
            ("server", self._apply, todo.serve, not_served), ("canary", self._create, todo.trials, not_tried),
            ("warmer", self._apply, todo.warm, not_warmed),
        ):
            try:
                write(manifests)
            except ClusterError as trouble:
                # All of them: an API server that has no node port left calls that an internal error of its own.
                log.warning("%s: its %s could not be written: %s", name, what, trouble)
                todo = without(seen, todo, str(trouble), RETRY_AFTER_REFUSAL, now)
        if not todo.gone:
            try:
                self._report(seen.cache, todo)
            except Conflict:
                return Pass(again_in=timedelta(0), deleting=seen.cache.deleting, phase=todo.status.phase)
        return Pass(
            again_in=todo.again_in, deleting=seen.cache.deleting, gone=todo.gone, phase=todo.status.phase,
            waits_for_others=todo.waits_for_others, ended=_ended(seen.cache, todo),
        )

    def _carry_out(self, todo: Plan) -> None:
        for manifest in todo.apply:
            self._api.apply(manifest)
        self._create(todo.create)
        for ref in todo.delete:
            namespace = None if ref.kind == names.KIND else self._settings.namespace
            try:
                self._api.delete(ref.kind, ref.name, namespace, ref.uid)
            except Rejected as refusal:
                if not ref.if_allowed:
                    raise
                log.warning("%s %s is left behind: %s", ref.kind, ref.name, refusal)
                continue
            log.info("deleted %s %s", ref.kind, ref.name)

    def _create(self, manifests: Iterable[Manifest]) -> None:
        for manifest in manifests:
            if self._api.create(manifest):
                log.info("created %s %s", manifest["kind"], manifest["metadata"]["name"])

    def _apply(self, manifests: Iterable[Manifest]) -> None:
        for manifest in manifests:
            self._api.apply(manifest)
            log.info("applied %s %s", manifest["kind"], manifest["metadata"]["name"])

    def _report(self, cache: Cache, todo: Plan) -> None:
        if todo.status != cache.status:
            self._api.apply_status(_status_manifest(cache, todo.status))
            log.info("%s: %s: %s", cache.name, todo.status.phase, todo.status.message)
        for event in todo.events:
            self._post(cache, event)

    def _post(self, cache: Cache, event: Event) -> None:
        try:
            self._api.create(_event_manifest(cache, event, self._clock()))
        except (Rejected, Conflict) as refusal:
            # An event is a courtesy: status says the same. A cache is not to fail for it.
            log.warning("%s: an event could not be posted: %s", cache.name, refusal)


def _announces(cache: Cache, todo: Plan) -> bool:
    new = todo.status.attempt
    return new is not None and new != cache.status.attempt and new.state is AttemptState.STARTING


def _ended(cache: Cache, todo: Plan) -> AttemptState | None:
    """The state of an attempt whose end was not in the status that was read; None where it goes on, or was there."""
    before, now = cache.status.attempt, todo.status.attempt
    if now is None or now.finished_at is None or (before is not None and before.finished_at == now.finished_at):
        return None
    return now.state


def _status_manifest(cache: Cache, status: Status) -> Object:
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "metadata": {"name": cache.name, "uid": cache.uid, "resourceVersion": cache.resource_version},
        "status": status.to_json_dict(),
    }


def _event_manifest(cache: Cache, event: Event, now: datetime) -> Object:
    about = {
        "apiVersion": names.API_VERSION, "kind": names.KIND, "name": cache.name, "uid": cache.uid,
        "resourceVersion": cache.resource_version,
    }
    return events.manifest(event, f"{cache.name}.{event.key}", EVENT_NAMESPACE, about, now)
