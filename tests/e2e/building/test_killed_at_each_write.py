# SPDX-License-Identifier: Apache-2.0
"""The operator's process, killed before and after each of its writes, against a real API server with real Pods.

tests/controller/test_killed_anywhere.py asks the same of passes in memory, and asks it far more often. Here kopf's own
writes (the finalizer) count too, and a new process begins with nothing but what the API server has.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from imagecache_operator import names

from tests.support.audit import AuditLog
from tests.support.cutting_proxy import ApiServer, Choose, Cut, CuttingProxy, Moment, Request
from tests.support.kube import Cache, Kube, until
from tests.support.operator_process import ACCOUNT, Installed, OperatorProcess, nobody_in_the_cluster
from tests.support.upstream import PORT, Upstream

MOST_LIVES = 60
LIFE_SECONDS = 60.0
# Each pass lists the nodes once, after all that it reads of the cache and before its first write.
PASS = Request("GET", "nodes")
EVENT = Request("POST", "events")
# With this much between two looks at a cache that rests, a life soon shows that it has nothing more to write.
SETTINGS = {"IMAGECACHE_RESYNC": "0.5"}
PULL_SECRET = "e2e-killed"  # of a user, in the namespace `default`: for its sake each attempt has a Secret too


@dataclass(frozen=True)
class Story:
    """An ImageCache, and what must be true when its build is over, however often the operator was killed."""

    name: str
    images: tuple[str, ...]  # of the upstream registry
    phase: str
    reason: str
    states: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


GOOD = Story("e2e-killed-good", ("base/tools:1.0",), "Available", "Available", ("Pulled",))
MISSING = Story(
    "e2e-killed-missing", ("base/tools:no-such-tag", "base/tools:1.0"), "Failed", "ImageFailed", ("NotFound", "Pulled"),
)
STORIES = (GOOD, MISSING)

Undisturbed = dict[Story, set[Request]]
Schedule = Callable[[int], Choose]  # from the number of a life to what it dies of


def nobody(life: int) -> Choose:
    return lambda moment: False


def after_each_change(life: int) -> Choose:
    """Each life makes one change, and dies before it hears of it. What is refused (it is there already) is none."""
    return lambda moment: moment.changed


def before_each_second_change(life: int) -> Choose:
    """Each life makes one change, and dies when it wants to write again."""
    changes: list[Moment] = []

    def choose(moment: Moment) -> bool:
        if moment.changed:
            changes.append(moment)
        return moment.cut is Cut.BEFORE and bool(changes)

    return choose


def each_kind(cut: Cut) -> Schedule:
    """A life ends at the first write of a kind at which none has ended yet."""
    seen: set[Request] = set()

    def choose(moment: Moment) -> bool:
        if moment.cut is not cut or moment.write in seen:
            return False
        seen.add(moment.write)
        return True

    return lambda life: choose


def by_chance(seed: int) -> Schedule:
    """A life ends after its first write, or before or after one of the four that follow it."""
    chance = random.Random(seed)

    def schedule(life: int) -> Choose:
        left = iter(range(chance.randint(1, 9), -1, -1))
        return lambda moment: next(left) == 0

    return schedule


@dataclass
class Life:
    """One process of the operator, from its start to its end."""

    proxy: CuttingProxy
    operator: OperatorProcess

    def until(self, holds: Callable[[], bool], what: str) -> bool:
        """Wait until that holds; False where this life is cut off before."""
        deadline = time.monotonic() + LIFE_SECONDS
        while not self.proxy.is_cut.wait(0.2):
            if holds():
                return True
            self.operator.check()
            assert time.monotonic() < deadline, f"not within {LIFE_SECONDS:.0f} s of one life: {what}"
        return False

    def rests(self) -> bool:
        """A whole pass has written nothing: another one has begun since."""
        requests = self.proxy.requests[::-1]
        last_write = next((n for n, request in enumerate(requests) if request.is_write), len(requests))
        return requests[:last_write].count(PASS) >= 2

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.proxy.writes)) or 'no write'}; cut off: {self.proxy.cut or 'no'}"


@dataclass(frozen=True)
class Stage:
    """A cluster whose own operator rests."""

    kube: Kube
    upstream: Upstream
    server: ApiServer
    installed: Installed
    folder: Path

    @property
    def log(self) -> Path:
        return self.folder / "operator.log"

    def reference(self, name: str) -> str:
        return f"{self.upstream.host}:{PORT}/{name}"

    @contextmanager
    def life(self, choose: Choose) -> Iterator[Life]:
        with (
            CuttingProxy(self.server, choose) as proxy,
            self.installed.running(proxy.url, self.folder, self.log, **SETTINGS) as operator,
        ):
            yield Life(proxy, operator)

    def made(self, since: datetime) -> Counter[tuple[str, str]]:
        """What the operator has made since then, by resource and name, and how often: the API server's own record."""
        account = f"system:serviceaccount:{names.NAMESPACE}:{ACCOUNT}"
        requests = AuditLog(self.kube.cluster.audit_log).requests(account, since)
        return Counter((request.resource, request.name) for request in requests if request.code == 201)


@pytest.fixture(scope="module")
def stage(kube: Kube, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("operator")
    login = {"username": "somebody", "password": "secret"}
    kube.apply({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": PULL_SECRET, "namespace": "default"},
        "stringData": {".dockerconfigjson": json.dumps({"auths": {f"{upstream.host}:{PORT}": login}})},
    })
    until(
        lambda: not kube.list("imagecaches"), "no other ImageCache is there, whose passes and writes would count too",
        instead=lambda: str([found["metadata"]["name"] for found in kube.list("imagecaches")]),
    )
    with nobody_in_the_cluster(kube):
        yield Stage(kube, upstream, ApiServer.of(kube.cluster.kubeconfig), Installed.of(kube), folder)
    kube.delete("secret", PULL_SECRET, "default")


def tell(stage: Stage, story: Story, schedule: Schedule) -> list[Life]:
    """An ImageCache from its creation until nothing is left of it, in as many lives as it takes."""
    cache = Cache(stage.kube, story.name)
    cache.apply(
        map(stage.reference, story.images), {"buildingConfig": {"imagePullSecrets": [f"default:{PULL_SECRET}"]}},
    )
    since, uid = datetime.fromisoformat((cache.object or {})["metadata"]["creationTimestamp"]), cache.uid
    lives: list[Life] = []
    deleting = False
    stage.log.write_text("")

    def is_built() -> bool:
        over = lives[-1].rests() and cache.status.get("phase") == story.phase and not cache.builders()
        return over and lives[-1].rests()  # still: to look takes time

    try:
        while len(lives) < MOST_LIVES:
            with stage.life(schedule(len(lives))) as life:
                lives.append(life)
                if not deleting and life.until(is_built, "the build"):
                    built(stage, cache, story)
                    cache.delete("--wait=false")
                    deleting = True
                if deleting and life.until(lambda: cache.object is None, "the deletion"):
                    assert cache.children(uid) == [], "nothing is left"
                    made_once(stage, uid, since)
                    return lives
        raise AssertionError(f"not over after {MOST_LIVES} lives: {json.dumps(cache.object, indent=1)}")
    finally:  # pytest shows it where the test fails
        print(*(f"life {number}: {life}" for number, life in enumerate(lives, 1)), sep="\n")
        print(stage.log.read_text(errors="replace"))
        if cache.object is not None:  # and the next test begins with nothing
            with stage.life(nobody(0)):
                cache.delete()


def built(stage: Stage, cache: Cache, story: Story) -> None:
    """The end of a build is told as if nobody had ever been killed."""
    status, ready = cache.status, cache.condition("Ready")
    assert (status["phase"], ready["reason"]) == (story.phase, story.reason)
    assert status["attempt"]["number"] == 1
    assert [image["reference"] for image in status["images"]] == [*map(stage.reference, story.images)]
    for name, image, state in zip(story.images, status["images"], story.states, strict=True):
        told = (image["state"], image.get("reason"), image.get("digest"))
        pulled = ("Pulled", None, stage.upstream.images[name].digest if state == "Pulled" else None)
        assert told == (pulled if state == "Pulled" else ("Failed", state, None))
    assert [child["kind"] for child in cache.children()] == ["PersistentVolumeClaim"], "no builder is left"


def made_once(stage: Stage, uid: str, since: datetime) -> None:
    home = str((stage.kube.get("namespace", "kube-system") or {})["metadata"]["uid"])
    made = stage.made(since)
    assert [name for kind, name in made if kind == "pods"] == [names.builder_name(home, uid, 1, 1)]
    assert [name for kind, name in made if kind == "persistentvolumeclaims"] == [names.volume_name(home, uid)]
    assert set(made.values()) == {1}, made


@pytest.fixture(scope="module")
def undisturbed(stage: Stage) -> Undisturbed:
    """The kinds of writes that a build and a deletion make where nobody is killed."""
    told = {story: tell(stage, story, nobody) for story in STORIES}
    assert [len(lives) for lives in told.values()] == [1, 1]
    return {story: set(lives[0].proxy.writes) for story, lives in told.items()}


@pytest.mark.parametrize("story", STORIES, ids=str)
@pytest.mark.parametrize("schedule", [before_each_second_change, after_each_change])
def test_one_change_each_life(stage: Stage, undisturbed: Undisturbed, story: Story, schedule: Schedule) -> None:
    """So the operator is killed wherever it can be between two changes."""
    lives = tell(stage, story, schedule)
    # An event follows the status that it tells of, and once that is written no later life posts it: a courtesy.
    assert {write for life in lives for write in life.proxy.writes} >= undisturbed[story] - {EVENT}


@pytest.mark.parametrize(("story", "cut"), [(GOOD, Cut.AFTER), (MISSING, Cut.BEFORE)], ids=str)
def test_each_kind_of_write(stage: Stage, undisturbed: Undisturbed, story: Story, cut: Cut) -> None:
    lives = tell(stage, story, each_kind(cut))
    assert {life.proxy.cut.write for life in lives if life.proxy.cut} >= undisturbed[story]


def test_by_chance(stage: Stage) -> None:
    assert len(tell(stage, MISSING, by_chance(seed=1))) > 2, "somebody was killed"
