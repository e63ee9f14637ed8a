# SPDX-License-Identifier: Apache-2.0
"""Trials on nodes: before Pods are injected, one for each pool, again where it has failed, never more than needed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api import canary
from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.conditions import ConditionType
from imagecache_operator.api.serving import CanaryStatus, ServerStatus
from imagecache_operator.planning.decision import AT_ONCE, SOON, Plan
from imagecache_operator.planning.observed import Canary, Kubelet, Observed, Pool
from imagecache_operator.planning.reporting import not_tried
from imagecache_operator.settings import Injection, Settings

from .facts import (
    HOME,
    NOW,
    SERVER,
    UID,
    after,
    available,
    cache,
    condition,
    deleted,
    planned,
    seen,
    server,
    spec,
    volume,
)

SETTINGS = Settings(builder_image="operator:test")
ADDRESS = "localhost:31234"
OLD, NEW = (
    Pool("v1.37.2, containerd", "linux/amd64", ("a-1", "a-2")), Pool("v1.38.0, containerd", "linux/arm64", ("b-1",)),
)
MINUTE = timedelta(minutes=1)


def result(pool: Pool = OLD, *, passed: bool = True, **fields: Any) -> CanaryStatus:
    failed = {} if passed else {"failures": 1, "message": "ErrImagePull (no route to host)"}
    return CanaryStatus(**{
        "pool": pool.words, "node": pool.ready[0], "passed": passed, "tried_at": NOW - timedelta(seconds=20),
        **failed, **fields,
    })


def trial(pool: Pool = OLD, node: str = "", **fields: Any) -> Canary:
    node = node or pool.ready[0]
    return Canary(**{
        "name": name(node), "address": ADDRESS, "pool": pool.words, "node": node,
        "created": NOW - timedelta(seconds=10), **fields,
    })


def name(node: str, address: str = ADDRESS) -> str:
    return names.canary_name(HOME, UID, address, node)


def facts(*results: CanaryStatus, canaries: tuple[Canary, ...] = (), pools: tuple[Pool, ...] = (OLD,), **more: Any) -> (
    Observed
):
    """The complete cache `ml` with a server that answers, and what earlier passes have put down."""
    told = ServerStatus(name=SERVER, address=ADDRESS, ready=True, canaries=results)
    given = {"volume": volume(), "server": server(), **more}
    return seen(available(server=told), canaries=canaries, pools=pools, **given)


def tried(observed: Observed, settings: Settings = SETTINGS) -> Plan:
    return planned(observed, settings=settings)


def begun(done: Plan) -> list[tuple[str, str]]:
    """Name and node of each Pod that is made."""
    return [(pod["metadata"]["name"], pod["spec"]["nodeName"]) for pod in done.trials]


def told(done: Plan) -> tuple[str, str]:
    found = condition(done, ConditionType.SERVED)
    return found.status, found.reason


def words(done: Plan) -> str:
    return condition(done, ConditionType.SERVED).message


def results(done: Plan) -> list[tuple[str, bool, int]]:
    assert done.status.server
    return [(c.node, c.passed, c.failures) for c in done.status.server.canaries]


PENDING, FAILED, SERVING = (
    ("False", Because.CANARY_PENDING), ("False", Because.CANARY_FAILED), ("True", Because.SERVING),
)


def test_a_node_of_each_pool_tries_a_server_that_answers() -> None:
    done = tried(facts(pools=(OLD, NEW)))
    assert begun(done) == [(name("a-1"), "a-1"), (name("b-1"), "b-1")]
    assert (told(done), words(done), done.again_in) == (PENDING, "Node a-1 begins to try it", SOON)
    asked = [[v["image"]["reference"] for v in pod["spec"]["volumes"]] for pod in done.trials]
    assert asked == [
        [f"{ADDRESS}/{path}" for path in (canary.ABSENT, canary.layers(platform).path, canary.image(platform).path)]
        for platform in ("linux/amd64", "linux/arm64")
    ]
    assert done.create == (), "what a policy refuses must not look like a refused builder"


def test_not_before_it_answers() -> None:
    done = tried(facts(server=server(ready=False)))
    assert (begun(done), told(done)) == ([], ("False", Because.SERVER_PENDING))


@pytest.mark.parametrize(("settings", "kubelet"), [
    ({"injection": Injection.OFF}, "v1.37.2"), ({}, "v1.36.3"), ({"injection": Injection.ON}, "v1.34.0"),
])
def test_not_where_no_pod_is_injected(settings: Any, kubelet: str) -> None:
    done = tried(
        facts(result(), canaries=(trial(),), kubelets=(Kubelet(kubelet, "a-1"),)),
        Settings(builder_image="operator:test", **settings),
    )
    assert (told(done), begun(done), results(done)) == (SERVING, [], [])
    assert deleted(done) == [f"Pod/{name('a-1')}"]


@pytest.mark.parametrize(("pod", "served", "said"), [
    (trial(), PENDING, "Waiting for node a-1 to try it"),
    (trial(waiting_for="ErrImagePull (refused)"), PENDING, "Waiting for node a-1 to try it: ErrImagePull (refused)"),
    (trial(deleting=True), PENDING, f"Waiting until Pod {name('a-1')} is removed"),
    (trial(created=NOW - 2 * MINUTE), PENDING, "Waiting for node a-1 to try it"),
])
def test_one_that_goes_on_is_waited_for(pod: Canary, served: tuple[str, str], said: str) -> None:
    done = tried(facts(canaries=(pod,)))
    assert (told(done), words(done), begun(done), deleted(done), done.again_in) == (served, said, [], [], SOON)


def test_what_it_shows_is_put_down_before_the_pod_goes() -> None:
    over = facts(canaries=(trial(over=True, passed=True),))
    first = tried(over)
    assert (told(first), results(first), deleted(first), first.again_in) == (SERVING, [("a-1", True, 0)], [], AT_ONCE)
    second = tried(after(over, first))
    assert (told(second), deleted(second)) == (SERVING, [f"Pod/{name('a-1')}"])
    third = tried(replace(after(over, first), canaries=()))
    assert (begun(third), deleted(third), third.status) == ([], [], second.status), "and it holds"


@pytest.mark.parametrize(("pod", "said"), [
    (trial(over=True, waiting_for="Evicted (low on disk)"), "Evicted (low on disk)"),
    (trial(created=NOW - 2 * MINUTE - AT_ONCE - timedelta(seconds=1), waiting_for="ErrImagePull (x)"),
     "ErrImagePull (x)"),
    (trial(created=NOW - 3 * MINUTE), f"Pod {name('a-1')} has not ended after 120 s"),
])
def test_one_that_fails_keeps_the_cache_from_being_injected(pod: Canary, said: str) -> None:
    over = facts(canaries=(pod,))
    done = tried(over)
    assert (told(done), results(done)) == (FAILED, [("a-1", False, 1)])
    assert words(done) == f"Node a-1 ({OLD.words}) cannot start Pods from it: {said}"
    assert deleted(tried(after(over, done))) == [f"Pod/{name('a-1')}"]


def test_one_pool_that_fails_is_enough() -> None:
    done = tried(facts(result(OLD), result(NEW, passed=False), pools=(OLD, NEW)))
    assert (told(done), words(done).startswith("Node b-1 (v1.38.0, containerd) cannot")) == (FAILED, True)


def test_a_new_pool_is_tried_while_pods_are_injected_elsewhere() -> None:
    done = tried(facts(result(OLD), pools=(OLD, NEW)))
    assert (told(done), begun(done)) == (SERVING, [(name("b-1"), "b-1")])


def test_a_trial_that_failed_is_made_again_later_and_later_on_the_next_node() -> None:
    for failures, pause in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (60, 10)):
        due = NOW - pause * MINUTE
        early = tried(facts(result(passed=False, failures=failures, tried_at=due + MINUTE / 2)))
        assert (told(early), begun(early), early.again_in) == (FAILED, [], MINUTE / 2)
        done = tried(facts(result(passed=False, failures=failures, tried_at=due)))
        node = ("a-1", "a-2")[failures % 2]
        assert (told(done), begun(done)) == (FAILED, [(name(node), node)]), "false until it is known better"


def test_a_second_failure_counts_and_a_success_makes_up_for_it() -> None:
    before = result(passed=False, tried_at=NOW - MINUTE)
    again = tried(facts(before, canaries=(trial(node="a-2", over=True, waiting_for="x"),)))
    assert results(again) == [("a-2", False, 2)]
    good = tried(facts(before, canaries=(trial(node="a-2", over=True, passed=True),)))
    assert (told(good), results(good)) == (SERVING, [("a-2", True, 0)])


def test_of_a_node_that_is_lost_nothing_is_expected() -> None:
    pools = (Pool(OLD.words, OLD.platform, ("a-2",)),)
    lost = tried(facts(canaries=(trial(),), pools=pools))
    assert (told(lost), deleted(lost), begun(lost)) == (PENDING, [f"Pod/{name('a-1')}"], [])
    assert lost.again_in == SOON, "what waits for its node is not asked to go over and over"
    next_one = tried(facts(canaries=(trial(deleting=True),), pools=pools))
    assert begun(next_one) == [(name("a-2"), "a-2")]


def test_what_passed_on_nodes_that_are_away_for_a_while_holds() -> None:
    done = tried(facts(result(), pools=(Pool(OLD.words, OLD.platform, ()),)))
    assert (told(done), results(done), begun(done)) == (SERVING, [("a-1", True, 0)], [])
    none = tried(facts(pools=(Pool(OLD.words, OLD.platform, ()),)))
    assert (told(none), words(none)) == (PENDING, "Waiting for a node that is ready, to try it")


def test_pools_that_are_gone_are_forgotten() -> None:
    done = tried(facts(result(OLD), result(NEW, passed=False), pools=(OLD,), canaries=(trial(NEW),)))
    assert (told(done), results(done), deleted(done)) == (SERVING, [("a-1", True, 0)], [f"Pod/{name('b-1')}"])


def test_another_address_is_tried_anew() -> None:
    moved = facts(result(), server=server(node_port=31999), canaries=(trial(),))
    done = tried(moved)
    assert (told(done), begun(done)) == (PENDING, [(name("a-1", "localhost:31999"), "a-1")])
    assert deleted(done) == [f"Pod/{name('a-1')}"]


def test_a_server_that_is_silent_for_a_while_need_not_be_tried_again() -> None:
    silent = facts(result(), server=server(ready=False))
    done = tried(silent)
    assert results(done) == [("a-1", True, 0)]
    back = replace(after(silent, done), server=server())
    assert told(tried(back)) == SERVING


@pytest.mark.parametrize("change", [{"spec": spec(serve=False)}, {"deleting": True}])
def test_they_go_with_the_server(change: dict[str, Any]) -> None:
    facing = facts(result(), canaries=(trial(), trial(node="a-2", deleting=True)))
    done = tried(replace(facing, cache=replace(facing.cache, **change)))
    assert f"Pod/{name('a-1')}" in deleted(done)
    assert f"Pod/{name('a-2')}" not in deleted(done), "on its way out"
    assert begun(done) == []


def test_a_private_server_is_asked_with_a_password() -> None:
    for allowed, secrets in ((None, []), ({"names": ("team-a",)}, [{"name": names.ACCESS_SECRET}])):
        wanted = spec(allowed_namespaces=allowed)
        facing = facts(server=server(password=allowed is not None))
        done = tried(replace(facing, cache=cache(facing.cache.status, spec=wanted)))
        assert [pod["spec"]["imagePullSecrets"] for pod in done.trials] == [secrets]


def test_a_refused_pod_is_told_and_tried_again() -> None:
    facing = facts()
    done = not_tried(facing, tried(facing), "no image volumes here", MINUTE, NOW)
    assert (told(done), done.again_in) == (PENDING, MINUTE)
    assert "refused the Pod that tries it on a node: no image volumes here" in words(done)
    assert done.status.phase == "Available"


def test_it_is_told_once_that_pods_cannot_start_from_it_any_more() -> None:
    passed = facts(result(OLD), pools=(OLD, NEW), canaries=(trial(NEW, over=True, waiting_for="x"),))
    served = replace(passed, cache=replace(passed.cache, status=tried(facts(result(OLD))).status))
    done = tried(served)
    assert [(e.type, e.reason) for e in done.events] == [("Warning", Because.CANARY_FAILED)]
    assert tried(after(served, done)).events == ()
