# SPDX-License-Identifier: Apache-2.0
"""What holds for any facts whatever: the plan never raises, says the same twice, settles, and keeps to one builder."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from imagecache_operator.api.conditions import ConditionReason, ConditionType
from imagecache_operator.api.imagecache import Attempt, AttemptState, ImageStatus, OnExpiry, Phase, Status, VolumeStatus
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import ImageOutcome, ImageProgress, ImageState, Outcome, Progress
from imagecache_operator.planning.decision import Plan
from imagecache_operator.planning.observed import (
    AttemptSecret,
    Builder,
    Cache,
    Neighbour,
    Observed,
    Server,
    ServerPart,
    Volume,
    Warmer,
)

from .facts import (
    CREATED,
    GIB,
    HOME,
    IMAGES,
    NOW,
    SETTINGS,
    UID,
    VOLUME,
    after,
    builder,
    itself,
    missing_secret,
    planned,
    pull_secret,
    seen,
    server,
    spec,
    warmer,
)

UNFINISHED = (AttemptState.STARTING, AttemptState.RUNNING)
TIMES = st.integers(-10**6, 10**6).map(lambda s: NOW + timedelta(seconds=s))
WORDS = st.sampled_from([None, "", "ImageFailed", "BuilderDeleted", "TlsFailed", "DoesNotFit", "SomethingNewer"])
TEXTS = st.sampled_from([None, "", "2.0 GiB of 20 GiB", "50 %", "evicted"])
NUMBERS = st.integers(1, 4)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.none(), strategy)


ATTEMPTS = st.builds(
    Attempt, number=NUMBERS, state=st.sampled_from(AttemptState), failures=st.integers(0, 8), reason=WORDS,
    message=TEXTS, finished_at=optional(TIMES), observed_generation=optional(st.integers(1, 2)),
    pull_secrets=st.sampled_from([None, "other"]),
)
IMAGE_STATUSES = st.builds(
    ImageStatus, reference=st.sampled_from(IMAGES), state=st.sampled_from(ImageState), reason=WORDS, message=TEXTS,
)
STATUSES = st.builds(
    Status, phase=optional(st.sampled_from(Phase)), message=TEXTS, size=TEXTS, progress=TEXTS,
    handled_retry=st.sampled_from([None, "a", "b"]), attempt=optional(ATTEMPTS),
    volume=optional(st.builds(VolumeStatus, name=st.just(VOLUME), uid=st.sampled_from([None, "volume-1", "other"]))),
    images=st.lists(IMAGE_STATUSES, max_size=2, unique_by=lambda i: i.reference).map(tuple),
    observed_generation=optional(st.integers(1, 2)),
)
SPECS = st.builds(
    spec, image_cache_size=st.sampled_from([20, 40]), retention_days=st.sampled_from([0, 0, 1, 7]),
    on_expiry=st.sampled_from(OnExpiry), serve=st.sampled_from([True, True, False]),
    building_config=st.sampled_from([None, None, {"cluster": HOME}, {"cluster": HOME.replace("1", "9")},
                                     {"image_pull_secrets": ("a:b",)}]),
    warm_nodes=st.sampled_from([None, {}, {"node_selector": {"gpu": "true"}}]),
)
CACHES = st.builds(
    Cache, name=st.just("ml"), uid=st.just(UID), generation=st.integers(1, 2), spec_error=st.just("spec.x: wrong"),
    created=st.sampled_from([CREATED, NOW - timedelta(days=1), NOW - timedelta(days=8)]),
    deleting=st.sampled_from([False, False, False, True]), spec=st.one_of(SPECS, SPECS, SPECS, st.none()),
    status=STATUSES, retry=st.sampled_from([None, "", "a", "b"]),
)
VOLUMES = st.builds(
    Volume, name=st.just(VOLUME), uid=st.sampled_from(["volume-1", "volume-2"]),
    phase=st.sampled_from(["Pending", "Bound", "Lost"]), storage_class=st.sampled_from([None, "standard", "slow"]),
    requested=st.sampled_from(["20Gi", "40Gi"]),
    deleting=st.booleans(),
)
OUTCOMES = st.builds(
    Outcome, used=st.integers(0, GIB), reason=optional(st.sampled_from(Reason)), message=st.sampled_from(["", "why"]),
    images=st.lists(st.builds(ImageOutcome, reason=optional(st.sampled_from(Reason))), max_size=3).map(tuple),
)


@st.composite
def builders(draw: st.DrawFn) -> tuple[Builder, ...]:
    found = []
    for number in sorted(draw(st.sets(NUMBERS, max_size=2))):
        stage = draw(st.sampled_from(["waiting", "running", "terminated"]))
        found.append(builder(
            number, running=stage == "running", terminated=stage == "terminated", deleting=draw(st.booleans()),
            outcome=draw(optional(OUTCOMES)) if stage == "terminated" else None,
            ended_because=draw(st.sampled_from(["", "Evicted"])), waiting_for=draw(st.sampled_from(["", "a node"])),
        ))
    return tuple(found)


REPORTS = st.builds(
    Progress, bytes_done=st.integers(0, 100), bytes_total=st.integers(0, 100),
    images=st.lists(st.builds(ImageProgress, state=st.sampled_from(ImageState)), max_size=3).map(tuple),
)
PARTS = st.builds(
    ServerPart, kind=st.sampled_from(["Deployment", "Ingress", "Service", "Pod"]), name=st.just("server"),
    version=st.sampled_from(["", "another", *(p.version for p in server().parts)]), deleting=st.booleans(),
)
SERVERS = st.builds(
    Server, parts=st.lists(PARTS, max_size=3).map(tuple), node_port=optional(st.just(31234)), ready=st.booleans(),
    waiting_for=st.sampled_from(["", "a node"]), behind_ingress=st.booleans(),
)
WARMERS = st.builds(
    Warmer, name=st.just("warmer"), version=st.sampled_from(["", "another", warmer().version]),
    deleting=st.booleans(), warm=st.integers(0, 3), wanted=optional(st.integers(0, 3)),
)
NEIGHBOURS = st.builds(
    Neighbour, name=st.sampled_from([f"n{i}" for i in range(9)]), deleting=st.booleans(),
    created=st.sampled_from([CREATED - timedelta(hours=1), CREATED, NOW]), phase=optional(st.sampled_from(Phase)),
    attempt=optional(ATTEMPTS), has_builder=st.booleans(),
)


@st.composite
def worlds(draw: st.DrawFn) -> Observed:
    """Any facts, whether or not they could come about."""
    return seen(
        draw(CACHES), *draw(st.lists(NEIGHBOURS, max_size=7, unique_by=lambda n: n.name)),
        volume=draw(optional(VOLUMES)), builders=draw(builders()), progress=draw(optional(REPORTS)),
        server=draw(st.one_of(st.just(server()), SERVERS)), warmer=draw(optional(WARMERS)),
        attempt_secrets=tuple(AttemptSecret(f"secret-{n}", n) for n in sorted(draw(st.sets(NUMBERS, max_size=2)))),
        pull_secrets=draw(st.sampled_from([(), (pull_secret(),), (missing_secret(),), (pull_secret(version="2"),)])),
        storage_classes=draw(st.sampled_from([(), ("standard",), ("fast", "standard")])),
        last_used=draw(optional(st.sampled_from([CREATED, NOW]))),
    )


def may_be_removed(world: Observed) -> bool:
    """Whether a running builder may be deleted: its cache goes, or its time is over."""
    cache = world.cache
    expired = cache.spec is not None and cache.spec.retention_days > 0 and (
        cache.created + timedelta(days=cache.spec.retention_days) <= NOW
    )
    return cache.deleting or expired


@settings(max_examples=500, deadline=None)
@given(worlds())
@example(seen(Status(attempt=Attempt(number=1, state=AttemptState.FAILED, reason="TlsFailed"))))
def test_a_plan_keeps_its_promises(world: Observed) -> None:
    done = planned(world)
    assert planned(world) == done, "the same facts lead to the same plan"
    assert timedelta(0) <= done.again_in <= SETTINGS.resync
    assert done.status.message, "there is always a sentence for a person"
    kinds = [c.type for c in done.status.conditions]
    assert {ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED} <= set(kinds)
    assert len(kinds) == len(set(kinds))
    assert all(c.reason in set(ConditionReason) for c in done.status.conditions)
    assert done.status.observed_generation == world.cache.generation
    _order_of_writes(world, done)
    _server(world, done)
    _warmer(world, done)


def _order_of_writes(world: Observed, done: Plan) -> None:
    before = world.cache.status.attempt
    kinds = [m["kind"] for m in done.create]
    assert kinds in ([], ["Secret"], ["Pod"], ["Secret", "Pod"]), "credentials are there before their Pod"
    pods = [m["metadata"] for m in done.create if m["kind"] == "Pod"]
    for made in pods:
        number = int(made["labels"]["imagecache.dev/attempt"])
        assert before is not None, "an attempt is in status before its Pod is made"
        assert (before.number, before.state) == (number, AttemptState.STARTING)
        assert world.builders == (), "never a second builder"
        assert not (world.volume and world.volume.deleting)
    if before is not None and before.state in UNFINISHED and not may_be_removed(world):
        mine = {b.name for b in world.builders if b.attempt == before.number}
        # A Secret may go before its Pod has been made (the credentials have changed), and not while a Pod needs it.
        mine |= {s.name for s in world.attempt_secrets if s.attempt == before.number and mine}
        assert mine.isdisjoint(ref.name for ref in done.delete), "its end is not in status yet"
    told = done.status.attempt
    if told is not None and before is not None:
        assert told.number in (before.number, before.number + 1), "attempts are counted, not guessed"
        if told.number > before.number:
            assert before.state is not AttemptState.STARTING, "its Pod may be on its way"
            assert world.builders == ()
    if done.gone:
        assert world.server.parts == ()
        assert world.cache.deleting
        assert world.builders == ()
        assert world.attempt_secrets == ()
        assert world.volume is None


def _server(world: Observed, done: Plan) -> None:
    told = next(c for c in done.status.conditions if c.type == ConditionType.SERVED)
    ready = done.status.server is not None and done.status.server.ready
    assert ready == (told.status == "True")
    if done.serve or done.status.server or told.status == "True":
        assert done.status.phase is Phase.AVAILABLE
        assert world.cache.spec is not None
        assert world.cache.spec.serve
        assert not {"Deployment", "Service"} & {ref.kind for ref in done.delete}
    if done.status.phase is not Phase.AVAILABLE:
        left = {(p.kind, p.name) for p in world.server.parts if p.kind != "Pod" and not p.deleting}
        assert left <= {(ref.kind, ref.name) for ref in done.delete}
    if world.server.parts:
        assert not any(m["kind"] == "Pod" for m in done.create), "a builder beside a server"


def _warmer(world: Observed, done: Plan) -> None:
    told = next((c for c in done.status.conditions if c.type == ConditionType.WARM), None)
    removed = "DaemonSet" in {ref.kind for ref in done.delete}
    wanted = world.cache.spec is not None and world.cache.spec.warm_nodes is not None
    assert (told is not None) == wanted
    if done.warm or done.status.warm_nodes:
        assert wanted
        assert done.status.phase is Phase.AVAILABLE
        assert not removed
    if done.warm:
        assert done.status.server is not None
        assert done.status.server.ready
    if done.status.phase is not Phase.AVAILABLE or not wanted:
        assert removed == (world.warmer is not None and not world.warmer.deleting)
    if done.gone:
        assert world.warmer is None or world.warmer.deleting
    if told is not None and told.status == "True":
        assert world.warmer is not None
        assert world.warmer.wanted
        assert world.warmer.warm == world.warmer.wanted


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_a_world_at_rest_is_not_written_to(world: Observed) -> None:
    """Ever the same facts and the same time: after a few passes nothing is written any more."""
    for _ in range(6):
        done = planned(world)
        settled = after(world, done)
        if settled.cache.status == world.cache.status:
            break
        world = settled
    again = planned(world)
    assert again.status == world.cache.status
    assert again.events == ()


@settings(max_examples=200, deadline=None)
@given(worlds(), st.integers(1, 30))
def test_time_alone_writes_nothing_before_the_plan_looks_again(world: Observed, seconds: int) -> None:
    for _ in range(6):
        world = after(world, planned(world))
    done = planned(world)
    soon = timedelta(seconds=seconds)
    if soon < done.again_in:
        assert planned(world, NOW + soon).status == done.status


def up_to_date(attempt: Attempt | None) -> Attempt | None:
    """For the spec as it is now; another one would be renewed first."""
    return attempt and attempt.model_copy(update={"observed_generation": 1, "pull_secrets": None})


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Neighbour, ...]:
    return tuple(draw(st.lists(NEIGHBOURS, max_size=9, unique_by=lambda n: n.name)))


@settings(max_examples=300, deadline=None)
@given(crowds(), st.integers(1, 4))
def test_at_most_as_many_builders_as_there_are_slots(crowd: tuple[Neighbour, ...], slots: int) -> None:
    """All who see the same crowd at the same moment decide at once; builders that are there count too."""
    few = SETTINGS.model_copy(update={"max_builders": slots})
    there = sum(n.has_builder for n in crowd)
    made = 0
    for one in crowd:
        if one.has_builder or one.deleting or one.attempt is None or one.attempt.state is not AttemptState.STARTING:
            continue
        mine = seen(Status(phase=one.phase, attempt=up_to_date(one.attempt))).cache
        mine = replace(mine, name=one.name, created=one.created)
        others = tuple(n for n in crowd if n.name != one.name)
        world = replace(seen(mine), neighbours=(itself(mine, ()), *others))
        made += len(planned(world, settings=few).create)
    assert there + made <= max(slots, there)


@settings(max_examples=500, deadline=None)
@given(crowds())
def test_somebody_may_always_go_on_while_a_slot_is_free(crowd: tuple[Neighbour, ...]) -> None:
    """No two caches wait for each other: with no builder about, one of those who announced may build."""
    idle = tuple(replace(n, has_builder=False, deleting=False) for n in crowd)
    announced = [n for n in idle if n.attempt and n.attempt.state is AttemptState.STARTING]
    # Those whose attempts run have lost their Pods, and will say so in their own next pass.
    idle = tuple(n for n in idle if not (n.attempt and n.attempt.state is AttemptState.RUNNING))
    made = 0
    for one in announced:
        mine = seen(Status(phase=one.phase, attempt=up_to_date(one.attempt))).cache
        mine = replace(mine, name=one.name, created=one.created)
        others = tuple(n for n in idle if n.name != one.name)
        made += len(planned(replace(seen(mine), neighbours=(itself(mine, ()), *others))).create)
    assert made == min(len(announced), SETTINGS.max_builders)
