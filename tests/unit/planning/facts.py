# SPDX-License-Identifier: Apache-2.0
"""Facts for the plan's tables: one ImageCache `ml` that says what a test is about and nothing else.

`seen()` builds what a pass sees, `after()` is the same world once a plan's status has been written, and `passes()`
lets a plan go on until it asks for time to pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from imagecache_operator import names
from imagecache_operator.api.conditions import ConditionReason, ConditionType
from imagecache_operator.api.credentials import Credential
from imagecache_operator.api.imagecache import Attempt, AttemptState, Condition, Phase, Spec, Status, VolumeStatus
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageOutcome, ImageProgress, ImageState, Outcome, Progress
from imagecache_operator.planning.children import server as server_manifests
from imagecache_operator.planning.children.applied import version
from imagecache_operator.planning.decision import Plan
from imagecache_operator.planning.observed import (
    Builder,
    Cache,
    Kubelet,
    Neighbour,
    Observed,
    PullSecret,
    Server,
    ServerPart,
    Volume,
    Warmer,
)
from imagecache_operator.planning.plan import plan
from imagecache_operator.settings import Injection, Settings

HOME = "11111111-2222-4333-8444-555555555555"
UID = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CREATED = NOW - timedelta(minutes=5)
IMAGES = ("busybox:1.36", "registry.example/ml/train:1.4")
DIGEST = "sha256:" + "d" * 64
CARRIER = "sha256:" + "c" * 64
PASSWORD = "pass-word-of-ann"
GIB = 1024**3
# Without injection there are no canaries, which have tables of their own (test_canaries.py).
SETTINGS = Settings(builder_image="operator:test", injection=Injection.OFF)
WITH_DOMAIN = SETTINGS.model_copy(update={"server_domain": "caches.example.com"})
VOLUME = names.volume_name(HOME, UID)
SERVER = names.server_name(HOME, UID)
HOST = f"{SERVER}.caches.example.com"
WARMER = names.warmer_name(HOME, UID)
SERVER_POD = f"{SERVER}-5d4f8-x7k2p"


def spec(**fields: Any) -> Spec:
    return Spec(**{"images": IMAGES, **fields})


def cache(status: Status | None = None, **fields: Any) -> Cache:
    given: dict[str, Any] = {
        "name": "ml", "uid": UID, "generation": 1, "created": CREATED, "deleting": False, "spec": spec(),
        "spec_error": "", "status": status or Status(), **fields,
    }
    return Cache(**given)


def attempt(state: AttemptState, number: int = 1, **fields: Any) -> Attempt:
    if state not in (AttemptState.STARTING, AttemptState.RUNNING):
        fields.setdefault("finished_at", NOW)
    return Attempt(number=number, state=state, **fields)


def status(state: AttemptState | None = None, number: int = 1, phase: Phase = Phase.CREATING, **fields: Any) -> Status:
    """A status with an attempt in that state (its other fields are `Status`'s own)."""
    given = {"phase": phase, "observed_generation": 1, "image_count": 2, **fields}
    if state is not None:
        given.setdefault("attempt", attempt(state, number))
    return Status(**given)


def volume(**fields: Any) -> Volume:
    return Volume(**{
        "name": VOLUME, "uid": "volume-1", "phase": "Bound", "requested": "20Gi", "storage_class": "standard", **fields,
    })


def pull_secret(reference: str = "team-a:regcred", match: str = "registry.example", **fields: Any) -> PullSecret:
    """A readable Secret with one entry for the registry of the second image."""
    entry = Credential(match=match, source=reference, username="ann", password=PASSWORD)
    return PullSecret(**{"reference": reference, "version": "uid/1", "credentials": (entry,), **fields})


def missing_secret(reference: str = "team-a:regcred") -> PullSecret:
    return PullSecret(reference, problem=ConditionReason.SECRET_NOT_FOUND, words="does not exist")


def builder(number: int = 1, **fields: Any) -> Builder:
    return Builder(**{
        "name": names.builder_name(HOME, UID, 1, number), "attempt": number, "created": NOW, **fields,
    })


def server(*, password: bool = False, settings: Settings = SETTINGS, **fields: Any) -> Server:
    """A server of the cache `ml` as it is wanted, and that answers."""
    parts = tuple(
        ServerPart(m["kind"], m["metadata"]["name"], version(m))
        for m in reversed(server_manifests.manifests(cache(), HOME, settings, password=password))
    )
    return Server(**{"parts": (*parts, ServerPart("Pod", SERVER_POD)), "node_port": 31234, "ready": True, **fields})


def warmer(**fields: Any) -> Warmer:
    """A warmer of the complete, served cache `ml` as it is wanted for all nodes, and of three nodes none is warm."""
    wanted, = planned(seen(
        cache(available(), spec=spec(warm_nodes={})), volume=volume(), server=server(),
    )).warm
    return Warmer(**{"name": WARMER, "version": version(wanted), "wanted": 3, **fields})


def ended(outcome: Outcome | None, number: int = 1, **fields: Any) -> Builder:
    return builder(number, terminated=True, outcome=outcome, **fields)


def good(used: int = 2 * GIB) -> Outcome:
    return Outcome(images=tuple(ImageOutcome(digest=DIGEST, carrier=CARRIER, size=GIB) for _ in IMAGES), used=used)


def bad(*reasons: Reason | None, message: str = "") -> Outcome:
    """One reason for each image, None for an image that was pulled."""
    return Outcome(images=tuple(
        ImageOutcome(digest=DIGEST, carrier=CARRIER, size=GIB) if r is None
        else ImageOutcome(reason=r, message=message)
        for r in reasons
    ))


def progress(done: int, total: int = 100) -> Progress:
    one = ImageProgress(state=ImageState.PULLING, bytes_done=done, bytes_total=total)
    return Progress(images=tuple(one for _ in IMAGES), bytes_done=done, bytes_total=total)


def neighbour(name: str, age: int = 60, **fields: Any) -> Neighbour:
    """Another cache, that many minutes old (the cache `ml` is five)."""
    given: dict[str, Any] = {
        "name": name, "created": NOW - timedelta(minutes=age), "deleting": False, "phase": Phase.CREATING,
        "attempt": None, "has_builder": False, **fields,
    }
    return Neighbour(**given)


def itself(cache: Cache, builders: Sequence[Builder]) -> Neighbour:
    return Neighbour(
        name=cache.name, created=cache.created, deleting=cache.deleting, phase=cache.status.phase,
        attempt=cache.status.attempt, has_builder=any(not b.terminated for b in builders),
    )


def seen(cache_or_status: Cache | Status | None = None, *others: Neighbour, **facts: Any) -> Observed:
    """What one pass sees. `others` are neighbours; the cache itself is always among them."""
    mine = cache_or_status if isinstance(cache_or_status, Cache) else cache(cache_or_status)
    builders = facts.get("builders", ())
    facts.setdefault("storage_classes", ("standard",))
    facts.setdefault("kubelets", (Kubelet("v1.37.2", "node-1"),))
    return Observed(cache=mine, home_uid=HOME, neighbours=(itself(mine, builders), *others), **facts)


def after(observed: Observed, done: Plan) -> Observed:
    """The same world when the plan's status has been written and read back, as JSON."""
    written = Status.model_validate(done.status.to_json_dict())
    mine = replace(observed.cache, status=written)
    others = tuple(n for n in observed.neighbours if n.name != mine.name)
    return replace(observed, cache=mine, neighbours=(itself(mine, observed.builders), *others))


def planned(observed: Observed, now: datetime = NOW, settings: Settings = SETTINGS) -> Plan:
    return plan(observed, settings, now)


def available(**fields: Any) -> Status:
    """The status of a complete cache."""
    return planned(seen(
        status(AttemptState.RUNNING), volume=volume(), builders=(ended(good()),),
    )).status.model_copy(update=fields)


def condition(done: Plan, kind: ConditionType = ConditionType.READY) -> Condition:
    return next(c for c in done.status.conditions if c.type == kind)


def reason(done: Plan) -> str:
    return condition(done).reason


def attempt_of(done: Plan) -> Attempt:
    found = done.status.attempt
    if found is None:
        raise AssertionError("the plan has no attempt")
    return found


def deleted(done: Plan) -> list[str]:
    return [f"{ref.kind}/{ref.name}" for ref in done.delete]


def created(done: Plan) -> list[str]:
    return [f"{m['kind']}/{m['metadata']['name']}" for m in done.create]


def applied(done: Plan) -> list[str]:
    return [f"{m['kind']}/{m['metadata']['name']}" for m in done.apply]


def served(done: Plan) -> list[str]:
    return [f"{m['kind']}/{m['metadata']['name']}" for m in done.serve]


def warmed(done: Plan) -> list[str]:
    return [f"{m['kind']}/{m['metadata']['name']}" for m in done.warm]


def pod(number: int = 1) -> str:
    return f"Pod/{names.builder_name(HOME, UID, 1, number)}"


def secret(number: int = 1) -> str:
    return f"Secret/{names.builder_name(HOME, UID, 1, number)}"


CLAIM = f"PersistentVolumeClaim/{VOLUME}"
RECORDED = VolumeStatus(name=VOLUME, uid="volume-1")
