# SPDX-License-Identifier: Apache-2.0
"""The server of a cache: there where the cache is Available and somebody may use one, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.conditions import ConditionType
from imagecache_operator.api.imagecache import AttemptState, OnExpiry, Phase, Spec
from imagecache_operator.api.serving import ServerStatus
from imagecache_operator.planning.decision import SOON, Plan
from imagecache_operator.planning.observed import Kubelet, Observed, Server, ServerPart
from imagecache_operator.planning.reporting import not_served

from .facts import (
    CLAIM,
    NOW,
    SERVER,
    SERVER_POD,
    SETTINGS,
    VOLUME,
    after,
    attempt_of,
    available,
    builder,
    cache,
    condition,
    created,
    deleted,
    ended,
    good,
    planned,
    pod,
    pull_secret,
    seen,
    served,
    server,
    spec,
    status,
    volume,
)

BOTH = [f"Service/{SERVER}", f"Deployment/{SERVER}"]
GOING = ServerPart("Pod", SERVER_POD, deleting=True)
PRIVATE = spec(building_config={"image_pull_secrets": ("team-a:regcred",)})
MINUTE = timedelta(minutes=1)


def with_secrets(facts: Observed, what: Spec, pulled_with: str | None = None) -> Observed:
    """The same cache, built with pull Secrets."""
    status, attempt = facts.cache.status, facts.cache.status.attempt
    assert attempt
    built = status.model_copy(update={
        "attempt": attempt.model_copy(update={"with_secrets": True}),
        "images": tuple(i.model_copy(update={"pull_secret": pulled_with}) for i in status.images),
    })
    return replace(facts, cache=replace(facts.cache, spec=what, status=built), pull_secrets=(pull_secret(),))


def told(done: Plan) -> tuple[str, str]:
    found = condition(done, ConditionType.SERVED)
    return found.status, found.reason


def words(done: Plan) -> str:
    return condition(done, ConditionType.SERVED).message


def complete(what: Server = Server(), **facts: Any) -> Observed:  # noqa: B008 (frozen)
    return seen(available(), volume=volume(), server=what, **facts)


def test_a_complete_cache_gets_a_server() -> None:
    done = planned(complete())
    assert served(done) == BOTH, "the port first: without one, nobody would reach the Pod"
    assert (told(done), done.status.server) == (("False", Because.SERVER_PENDING), None)
    assert done.status.phase is Phase.AVAILABLE, "complete is complete"
    assert done.again_in == SOON


def test_it_gets_one_beside_its_ended_builder_which_goes_all_the_same() -> None:
    facts = seen(status(AttemptState.RUNNING), volume=volume(), builders=(ended(good()),))
    first = planned(facts)
    assert (served(first), first.again_in) == (BOTH, timedelta(0))
    assert deleted(planned(after(facts, first))) == [pod(1)]


def test_one_that_answers_is_told_and_left_alone() -> None:
    done = planned(complete(server()))
    assert done.status.server == ServerStatus(name=SERVER, address="localhost:31234", ready=True)
    assert told(done) == ("True", Because.SERVING)
    assert (served(done), deleted(done), done.events) == ([], [], ())
    assert done.again_in == SETTINGS.resync


def test_one_that_does_not_answer_is_told_with_what_holds_it_up() -> None:
    done = planned(complete(server(ready=False, waiting_for="0/2 nodes are available")))
    assert done.status.server == ServerStatus(name=SERVER, address="localhost:31234", ready=False)
    assert (told(done), served(done), done.again_in) == (("False", Because.SERVER_PENDING), [], SOON)
    assert "0/2 nodes are available" in words(done)
    assert SERVER in words(planned(complete(server(ready=False))))


@pytest.mark.parametrize(("kind", "wanted"), [("Service", BOTH[:1]), ("Deployment", BOTH[1:])])
@pytest.mark.parametrize("version", ["", "another"], ids=["missing", "of another version"])
def test_only_what_is_missing_or_different_is_applied(kind: str, wanted: list[str], version: str) -> None:
    parts = tuple(
        part if part.kind != kind else replace(part, version=version) for part in server().parts
        if part.kind != kind or version
    )
    done = planned(complete(server(parts=parts)))
    assert served(done) == wanted
    assert told(done) == ("False", Because.SERVER_PENDING)


def test_another_image_of_the_server_is_another_server() -> None:
    done = planned(complete(server()), settings=SETTINGS.model_copy(update={"server_image": "registry:3.1"}))
    assert served(done) == BOTH[1:]


def test_one_on_its_way_out_is_waited_for() -> None:
    parts = tuple(replace(part, deleting=True) for part in server().parts)
    done = planned(complete(server(parts=parts, ready=False, node_port=None)))
    assert (served(done), deleted(done), done.again_in) == ([], [], SOON)
    assert served(planned(complete(Server(parts=(GOING,))))) == BOTH


@pytest.mark.parametrize(("what", "because"), [
    (spec(serve=False), Because.NOT_WANTED), (PRIVATE, Because.NOBODY_ADMITTED),
], ids=["not wanted", "for nobody"])
def test_one_that_is_not_to_be_is_removed(what: Any, because: Because) -> None:
    facts = with_secrets(complete(server()), what)
    done = planned(facts)
    assert (done.status.phase, told(done), done.status.server) == (Phase.AVAILABLE, ("False", because), None)
    assert (served(done), deleted(done)) == ([], BOTH[::-1])
    assert words(done)
    assert (planned(replace(facts, server=Server())).delete, planned(replace(facts, server=Server())).serve) == ((), ())


@pytest.mark.parametrize("more", [
    {"allowed_namespaces": {"names": ("team-a",)}}, {"warm_nodes": {}},
], ids=["for a namespace", "for nodes"])
def test_one_that_is_not_for_everybody_asks_for_a_password(more: dict[str, Any]) -> None:
    private = spec(building_config={"image_pull_secrets": ("team-a:regcred",)}, **more)

    def facts(found: Server) -> Observed:
        return with_secrets(complete(found), private)

    open_to_all = planned(facts(server()))
    assert served(open_to_all) == BOTH[1:], "an open server of before is replaced"
    assert told(open_to_all) == ("False", Because.SERVER_PENDING)
    done = planned(facts(server(password=True)))
    assert served(done) == []
    assert told(done) == ("True", Because.SERVING)


@pytest.mark.parametrize(("version", "because"), [
    ("v1.34.9", Because.KUBELET_TOO_OLD), ("v1.35.0", Because.SERVING), ("v1.37.2", Because.SERVING),
])
def test_where_kubelets_do_not_ask_for_credentials_it_is_for_everybody_or_nobody(
    version: str, because: Because,
) -> None:
    private = spec(allowed_namespaces={"names": ("team-a",)})
    facts = replace(complete(server(password=True)), kubelets=(Kubelet(version, "old-node"),))
    done = planned(replace(facts, cache=replace(facts.cache, spec=private)))
    assert told(done)[1] == because
    assert ("old-node" in words(done)) == (because is Because.KUBELET_TOO_OLD)
    assert bool(deleted(done)) == (because is Because.KUBELET_TOO_OLD)
    assert told(planned(replace(complete(server()), kubelets=facts.kubelets)))[1] == Because.SERVING


def test_whose_it_is_is_told() -> None:
    assert words(planned(complete(server()))) == "For all namespaces"


def test_by_default_it_is_for_the_namespace_whose_secret_pulled_it() -> None:
    done = planned(with_secrets(complete(server(password=True)), PRIVATE, "team-a:regcred"))
    assert (told(done), words(done)) == (("True", Because.SERVING), "For 1 namespace (team-a)")


OLD = timedelta(days=30)
ELSEWHERE = {"cluster": "99999999-2222-4333-8444-555555555555"}


@pytest.mark.parametrize("facts", [
    seen(available()),
    seen(available(), volume=volume(deleting=True)),
    seen(cache(available(), spec=None, spec_error="bad"), volume=volume()),
    seen(cache(available(), spec=spec(retention_days=1), created=NOW - timedelta(days=1)), volume=volume()),
    seen(cache(available(), spec=spec(retention_days=1, on_expiry=OnExpiry.RELEASE), created=NOW - OLD),
         volume=volume()),
    seen(cache(available(), spec=spec(retention_days=1), created=NOW - OLD), volume=volume()),
    seen(cache(available(), deleting=True), volume=volume()),
    seen(status(AttemptState.STARTING), volume=volume()),
    seen(status(AttemptState.LOST), volume=volume()),
    seen(cache(available(), retry="again")),
    seen(cache(available(), spec=spec(building_config=ELSEWHERE)), volume=volume()),
], ids=["volume gone", "volume goes", "invalid", "expired", "released", "expired long ago", "deleted", "building",
        "between attempts", "asked again", "elsewhere"])
def test_in_every_other_phase_it_goes_before_the_volume(facts: Observed) -> None:
    done = planned(replace(facts, server=server()))
    assert deleted(done)[:2] == BOTH[::-1]
    assert (told(done), done.status.server, served(done)) == (("False", Because.NOT_AVAILABLE), None, [])
    assert not any(m["kind"] == "Pod" for m in done.create), "never a builder beside it"
    assert not done.gone


@pytest.mark.parametrize("left", [server(), Server(parts=(GOING,))], ids=["all of it", "its Pod"])
def test_no_attempt_begins_while_a_server_is_there(left: Server) -> None:
    lost = seen(cache(available(), retry="again"), server=left)
    waiting = planned(lost)
    assert (attempt_of(waiting).number, waiting.again_in) == (1, SOON)
    assert SERVER in (waiting.status.message or "")
    announced = seen(status(AttemptState.STARTING), volume=volume(), server=left)
    assert (created(planned(announced)), planned(announced).again_in) == ([], SOON)
    assert SERVER in (planned(announced).status.message or "")
    assert created(planned(replace(announced, server=Server()))) == [pod(1)]


def test_a_cache_is_gone_only_when_the_servers_last_pod_is() -> None:
    doomed = cache(available(), deleting=True)
    first = planned(seen(doomed, volume=volume(), server=server(), builders=(builder(),)))
    assert deleted(first)[2:] == [pod(1), CLAIM]
    second = planned(seen(doomed, volume=volume(deleting=True), server=Server(parts=(GOING,))))
    assert (second.delete, second.gone, second.again_in) == ((), False, SOON)
    assert SERVER_POD in (second.status.message or "")
    assert VOLUME in (second.status.message or "")
    assert planned(seen(doomed)).gone


# Events

def test_a_server_that_is_lost_is_an_event_and_one_that_starts_is_none() -> None:
    starting = complete(server(ready=False))
    assert planned(starting).events == ()
    serving = after(starting, planned(complete(server())))
    lost = replace(serving, server=server(ready=False, waiting_for="the node is gone"))
    event, = planned(lost).events
    assert (event.type, event.reason) == ("Warning", Because.SERVER_PENDING)
    assert "the node is gone" in event.message
    gone_on = after(lost, planned(lost))
    assert planned(gone_on).events == ()
    back = after(gone_on, planned(replace(gone_on, server=server())))
    again, = planned(replace(back, server=server(ready=False))).events
    assert again.key == event.key, "a server that flaps is one event"


def test_one_that_is_no_longer_wanted_is_no_event() -> None:
    serving = after(complete(server()), planned(complete(server())))
    off = replace(serving, cache=replace(serving.cache, spec=spec(serve=False)))
    assert planned(off).events == ()


# Refusals

def test_a_refused_server_leaves_the_cache_available() -> None:
    facts = complete()
    done = not_served(facts, planned(facts), "exceeded quota: services.nodeports", MINUTE, NOW)
    assert done.status.phase is Phase.AVAILABLE
    assert condition(done).status == "True"
    assert told(done) == ("False", Because.SERVER_PENDING)
    assert "exceeded quota: services.nodeports" in words(done)
    assert (done.again_in, done.events) == (MINUTE, ())
    again = after(facts, done)
    assert not_served(again, planned(again), "exceeded quota: services.nodeports", MINUTE, NOW + MINUTE).status == (
        again.cache.status
    ), "said once"


def test_a_refused_change_of_a_server_that_runs_is_told() -> None:
    serving = after(complete(server()), planned(complete(server())))
    other = SETTINGS.model_copy(update={"server_image": "elsewhere/registry:3"})
    done = not_served(serving, planned(serving, settings=other), "a policy forbids it", MINUTE, NOW)
    assert done.status.server == ServerStatus(name=SERVER, address="localhost:31234", ready=False)
    event, = done.events
    assert "a policy forbids it" in event.message
