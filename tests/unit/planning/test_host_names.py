# SPDX-License-Identifier: Apache-2.0
"""Servers with host names, where the settings name a domain; and what becomes of a server when that is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.conditions import ConditionType
from imagecache_operator.api.imagecache import Phase
from imagecache_operator.api.serving import ServerStatus
from imagecache_operator.planning.decision import SOON, ObjectRef
from imagecache_operator.planning.observed import Observed, Server

from .facts import (
    HOST,
    SERVER,
    SETTINGS,
    WITH_DOMAIN,
    available,
    cache,
    condition,
    deleted,
    planned,
    seen,
    served,
    server,
    spec,
    volume,
    warmed,
    warmer,
)

SERVICE, INGRESS, DEPLOYMENT = (f"{kind}/{SERVER}" for kind in ("Service", "Ingress", "Deployment"))
FORMER = ObjectRef("Ingress", SERVER, if_allowed=True)
BY_NAME = server(settings=WITH_DOMAIN, node_port=None, behind_ingress=True)
BY_PORT = server()
# As a pass sees it that may not look at Ingresses, because the settings want none.
BY_NAME_BEFORE = replace(BY_NAME, parts=tuple(part for part in BY_NAME.parts if part.kind != "Ingress"))


def complete(what: Server, **more: Any) -> Observed:
    return seen(cache(available(), spec=spec(**more)), volume=volume(), server=what)


def test_a_complete_cache_gets_a_server_with_a_host_name() -> None:
    done = planned(complete(Server()), settings=WITH_DOMAIN)
    assert served(done) == [SERVICE, INGRESS, DEPLOYMENT], "no Pod before there is a name for it"
    assert done.status.server == ServerStatus(name=SERVER, address=HOST, ready=False)
    assert done.again_in == SOON


def test_one_that_answers_is_told_and_left_alone() -> None:
    done = planned(complete(BY_NAME), settings=WITH_DOMAIN)
    assert done.status.server == ServerStatus(name=SERVER, address=HOST, ready=True)
    assert condition(done, ConditionType.SERVED).reason == Because.SERVING
    assert (served(done), deleted(done)) == ([], [])


@pytest.mark.parametrize("change", [
    {"server_ingress_class": "other"}, {"server_tls_secret": "other"}, {"server_ingress_annotations": {"a": "b"}},
    {"server_domain": "other.example.com"},
], ids=lambda change: next(iter(change)))
def test_another_setting_is_another_ingress_alone(change: Any) -> None:
    settings = WITH_DOMAIN.model_copy(update=change)
    done = planned(complete(BY_NAME), settings=settings)
    assert (served(done), deleted(done)) == ([INGRESS], [])
    assert done.status.server is not None
    assert done.status.server.address == f"{SERVER}.{settings.server_domain}"
    assert not done.status.server.ready


def test_switched_on_the_port_becomes_a_name() -> None:
    done = planned(complete(BY_PORT), settings=WITH_DOMAIN)
    assert (served(done), deleted(done)) == ([SERVICE, INGRESS], []), "and its Pod goes on"
    assert done.status.server == ServerStatus(name=SERVER, address=HOST, ready=False), "the port is about to go"


def test_switched_off_the_name_becomes_a_port() -> None:
    """The Ingress goes first: when the Service has changed, nobody knows of it any more."""
    done = planned(complete(BY_NAME_BEFORE))
    assert (served(done), done.delete) == ([SERVICE], (FORMER,))
    assert (done.status.server, done.again_in) == (None, SOON)
    assert done.status.phase is Phase.AVAILABLE
    assert deleted(planned(complete(BY_PORT))) == []


@pytest.mark.parametrize("facts", [
    complete(BY_NAME_BEFORE, serve=False), seen(cache(available(), deleting=True), server=BY_NAME_BEFORE),
], ids=["not wanted", "deleted"])
def test_switched_off_and_not_wanted_it_goes_as_far_as_it_may(facts: Observed) -> None:
    assert planned(facts).delete == (FORMER, ObjectRef("Deployment", SERVER), ObjectRef("Service", SERVER))
    assert planned(replace(facts, server=Server())).delete == ()


@pytest.mark.parametrize("facts", [
    complete(BY_NAME, serve=False), seen(cache(available(), deleting=True), server=BY_NAME),
], ids=["not wanted", "deleted"])
def test_one_that_is_not_wanted_goes_with_its_name(facts: Observed) -> None:
    done = planned(facts, settings=WITH_DOMAIN)
    assert deleted(done) == [DEPLOYMENT, INGRESS, SERVICE]
    assert not any(ref.if_allowed for ref in done.delete)
    assert not done.gone


def test_warm_nodes_follow() -> None:
    facts = replace(complete(BY_NAME, warm_nodes={}), warmer=warmer())
    done = planned(facts, settings=WITH_DOMAIN)
    assert warmed(done) == [f"DaemonSet/{warmer().name}"], "one that was made for a port"
    references = [v["image"]["reference"] for v in done.warm[0]["spec"]["template"]["spec"]["volumes"]]
    assert [r.partition("/")[0] for r in references if "/carrier/" in r] == [HOST, HOST]
    assert warmed(planned(replace(facts, server=BY_PORT), settings=SETTINGS)) == []
