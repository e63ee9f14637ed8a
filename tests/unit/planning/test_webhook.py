# SPDX-License-Identifier: Apache-2.0
"""What the plan of the webhook says: when something is made anew, in which order, and what the API server is told."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from imagecache_operator.planning import webhook
from imagecache_operator.planning.children import registration
from imagecache_operator.planning.observed import Kubelet
from imagecache_operator.planning.webhook import (
    AUTHORITY_LIFETIME,
    SERVER_LIFETIME,
    Authority,
    Observed,
    Plan,
    Renewal,
    ServerCertificate,
    Stored,
    plan,
)
from imagecache_operator.settings import Injection

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OFF = "the settings say so"
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
NAMES = frozenset({"imagecache-webhook.system.svc", "imagecache-webhook.system.svc.cluster.local"})
FIRST = Authority("<first>", NOW - DAY, NOW - DAY + AUTHORITY_LIFETIME)
FORMER = Authority("<former>", NOW - 9 * DAY, NOW + DAY)
SERVER = ServerCertificate(NOW - DAY, NOW - DAY + SERVER_LIFETIME, NAMES, 0)
STORED = Stored("uid-of-it", True, (FIRST,), True, SERVER)
SWAPPED = replace(STORED, authorities=(FIRST, FORMER), server=replace(SERVER, signed_by=1))


def config(bundle: str = "<first>") -> dict[str, Any]:
    return registration.manifest("system", "uid-of-namespace", bundle)


def seen(stored: Stored | None = STORED, found: dict[str, Any] | None = None, available: bool = True) -> Observed:
    return Observed("system", "uid-of-namespace", stored, available, found)


def server(**changes: Any) -> Stored:
    return replace(STORED, server=replace(SERVER, **changes))


def test_when_all_is_as_it_should_be_nothing_is_done() -> None:
    assert plan(seen(found=config()), Injection.ON, NOW) == Plan(webhook.LOOK_AGAIN)


RENEWALS: dict[str, tuple[Stored | None, Renewal]] = {
    "nothing is there": (None, Renewal("there is no certificate yet", authority=True, server=True)),
    "an empty Secret": (
        Stored("u", True), Renewal("there is no authority that can be read", authority=True, server=True),
    ),
    "a certificate that cannot be read": (
        replace(STORED, server=None),
        Renewal("the certificate cannot be read, or has not its key", server=True),
    ),
    "nobody vouches for it": (server(signed_by=None), Renewal("no authority vouches for the certificate", server=True)),
    "it has ended": (server(not_after=NOW), Renewal("the certificate is not valid at this time", server=True)),
    "it has not begun": (
        server(not_before=NOW + HOUR), Renewal("the certificate is not valid at this time", server=True),
    ),
    "it is for one name of two": (
        server(names=frozenset({"imagecache-webhook.system.svc"})),
        Renewal("the certificate is for other names", server=True),
    ),
    "a third of its life is left": (
        server(not_before=NOW - 60 * DAY, not_after=NOW + 30 * DAY),
        Renewal("the certificate nears its end", server=True),
    ),
    "who signs cannot be read": (
        replace(STORED, authorities=(), can_sign=False, server=replace(SERVER, signed_by=None)),
        Renewal("there is no authority that can be read", authority=True, server=True),
    ),
    "who signs has lost its key": (
        replace(STORED, can_sign=False), Renewal("the authority has not its key", authority=True, keep="<first>"),
    ),
    "who signs nears its end": (
        replace(STORED, authorities=(replace(FIRST, not_after=NOW + DAY, not_before=NOW - 2 * DAY),)),
        Renewal("the authority nears its end", authority=True, keep="<first>"),
    ),
    "who signs has ended": (
        replace(STORED, authorities=(replace(FIRST, not_after=NOW),)),
        Renewal("the authority nears its end", authority=True, server=True),
    ),
    "the next one has lost its key before it has signed": (
        replace(SWAPPED, can_sign=False), Renewal("the authority has not its key", authority=True, keep="<former>"),
    ),
    "the former one has ended": (
        replace(SWAPPED, authorities=(FIRST, replace(FORMER, not_after=NOW))),
        Renewal("no authority vouches for the certificate", server=True),
    ),
    "only now the former one is needed no more": (
        replace(SWAPPED, server=replace(SERVER, not_before=NOW - 61 * DAY, not_after=NOW + 29 * DAY)),
        Renewal("the certificate nears its end", server=True),
    ),
}


@pytest.mark.parametrize("injection", [Injection.ON, Injection.OFF])
@pytest.mark.parametrize(("stored", "renewal"), RENEWALS.values(), ids=RENEWALS.keys())
def test_what_cannot_be_used_or_soon_cannot_is_made_anew(
    stored: Stored | None, renewal: Renewal, injection: Injection,
) -> None:
    found = config() if injection is Injection.ON else None
    off = "" if injection is Injection.ON else OFF
    assert plan(seen(stored, found), injection, NOW) == Plan(webhook.GO_ON, off, renew=renewal)


@pytest.mark.parametrize(("lifetime", "stored"), [
    (SERVER_LIFETIME, lambda end: server(not_before=end - SERVER_LIFETIME, not_after=end)),
    (AUTHORITY_LIFETIME, lambda end: replace(
        STORED, authorities=(replace(FIRST, not_before=end - AUTHORITY_LIFETIME, not_after=end),),
    )),
])
def test_it_is_renewed_when_a_third_is_left_and_not_before(
    lifetime: timedelta, stored: Callable[[datetime], Stored],
) -> None:
    second = timedelta(seconds=1)
    assert plan(seen(stored(NOW + lifetime / 3), config()), Injection.ON, NOW).renew
    assert not plan(seen(stored(NOW + lifetime / 3 + second), config()), Injection.ON, NOW).renew


def test_a_new_authority_signs_only_when_the_api_server_trusts_it() -> None:
    both = config("<first><former>")
    assert plan(seen(SWAPPED, config("<former>")), Injection.ON, NOW) == Plan(webhook.GO_ON, apply=both)
    one_of_two = {**both, "webhooks": [both["webhooks"][0], config("<former>")["webhooks"][1]]}
    assert plan(seen(SWAPPED, one_of_two), Injection.ON, NOW) == Plan(webhook.GO_ON, apply=both)
    signs = Plan(webhook.GO_ON, renew=Renewal("its authority is new", server=True, keep="<former>"))
    assert plan(seen(SWAPPED, both), Injection.ON, NOW) == signs
    assert plan(seen(SWAPPED, None), Injection.ON, NOW) == signs, "nobody asks yet"
    assert plan(seen(SWAPPED, None), Injection.OFF, NOW) == replace(signs, off=OFF)


def test_a_certificate_near_its_end_waits_for_its_new_authority_too() -> None:
    ageing = replace(SERVER, signed_by=1, not_before=NOW - 70 * DAY, not_after=NOW + 20 * DAY)
    assert plan(seen(replace(SWAPPED, server=ageing), config("<former>")), Injection.ON, NOW).renew is None


def test_a_secret_that_nobody_can_change_goes() -> None:
    found = seen(replace(STORED, changeable=False), config())
    assert plan(found, Injection.ON, NOW) == Plan(webhook.GO_ON, discard=True)


def test_nothing_is_registered_before_somebody_answers() -> None:
    assert plan(seen(available=False), Injection.ON, NOW) == Plan(webhook.WAITING)
    assert plan(seen(available=True), Injection.ON, NOW) == Plan(webhook.GO_ON, apply=config())


def test_what_is_registered_stays_right_while_nobody_answers() -> None:
    assert plan(seen(found=config(), available=False), Injection.ON, NOW) == Plan(webhook.LOOK_AGAIN)
    found = seen(found=config("<other>"), available=False)
    assert plan(found, Injection.ON, NOW) == Plan(webhook.GO_ON, apply=config())


def test_without_injection_nothing_is_registered() -> None:
    assert plan(seen(found=config()), Injection.OFF, NOW) == Plan(webhook.GO_ON, OFF, remove=True)
    assert plan(seen(None, config()), Injection.OFF, NOW) == Plan(webhook.GO_ON, OFF, remove=True), "first of all"
    assert plan(seen(), Injection.OFF, NOW) == Plan(webhook.LOOK_AGAIN, OFF)


def node(version: str) -> tuple[Kubelet, ...]:
    return (Kubelet("v1.37.2", "node-1"), Kubelet(version, "node-2"))


@pytest.mark.parametrize(("version", "by_default", "if_asked_for"), [
    ("v1.38.0", True, True),
    ("v1.37.0", True, True),
    ("v1.36.3", False, True),
    ("v1.35.0", False, True),
    ("v1.34.9", False, False),
    ("unknown", False, True),
])
def test_the_oldest_kubelet_decides_what_the_setting_leaves_open(
    version: str, by_default: bool, if_asked_for: bool,
) -> None:
    for setting, registered in (
        (Injection.AUTO, by_default), (Injection.ON, if_asked_for), (Injection.OFF, False),
    ):
        fresh = plan(replace(seen(), kubelets=node(version)), setting, NOW)
        there = plan(replace(seen(found=config()), kubelets=node(version)), setting, NOW)
        if registered:
            assert (fresh, there) == (Plan(webhook.GO_ON, apply=config()), Plan(webhook.LOOK_AGAIN))
        else:
            assert fresh == Plan(webhook.LOOK_AGAIN, fresh.off)
            assert there == Plan(webhook.GO_ON, fresh.off, remove=True)
            assert fresh.off == OFF if setting is Injection.OFF else "node-2" in fresh.off


def test_without_any_kubelet_to_judge_by_nothing_is_registered_by_default() -> None:
    assert plan(seen(), Injection.AUTO, NOW) == Plan(webhook.LOOK_AGAIN, "the cluster has no nodes yet")


def pods(found: dict[str, Any]) -> dict[str, Any]:
    return dict(found["webhooks"][0])


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "the bundle is gone": lambda c: c["webhooks"][0]["clientConfig"].pop("caBundle"),
    "another bundle": lambda c: c["webhooks"][1]["clientConfig"].update(caBundle="Og=="),
    "another policy": lambda c: c["webhooks"][0].update(failurePolicy="Fail"),
    "a longer wait": lambda c: c["webhooks"][1].update(timeoutSeconds=30),
    "more namespaces": lambda c: c["webhooks"][0].update(namespaceSelector={}),
    "fewer Pods": lambda c: c["webhooks"][0].update(objectSelector={"matchLabels": {"a": "b"}}),
    "all Pods": lambda c: c["webhooks"][0].pop("matchConditions"),
    "one webhook is gone": lambda c: c["webhooks"].pop(),
    "all webhooks are gone": lambda c: c.pop("webhooks"),
    "no label": lambda c: c["metadata"].pop("labels"),
    "another owner": lambda c: c["metadata"]["ownerReferences"][0].update(uid="other"),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_what_others_have_changed_is_put_back(edit: Callable[[dict[str, Any]], object]) -> None:
    found = copy.deepcopy(config())
    edit(found)
    assert plan(seen(found=found), Injection.ON, NOW) == Plan(webhook.GO_ON, apply=config())


def test_what_others_have_added_is_theirs() -> None:
    found = copy.deepcopy(config())
    found["metadata"] |= {"uid": "u", "annotations": {"a": "b"}, "labels": {**found["metadata"]["labels"], "a": "b"}}
    found["webhooks"].insert(0, {"name": "another.example"})
    found["webhooks"][1]["aFieldOfTheFuture"] = "its default"
    assert plan(seen(found=found), Injection.ON, NOW) == Plan(webhook.LOOK_AGAIN)


def test_a_pod_waits_two_seconds_at_most_and_starts_in_any_case() -> None:
    for entry in config()["webhooks"]:
        assert (entry["failurePolicy"], entry["timeoutSeconds"]) == ("Ignore", 2)
        assert entry["rules"] == [{
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
            "scope": "Namespaced",
        }]
        assert base64.b64decode(entry["clientConfig"]["caBundle"]) == b"<first>"


def test_the_two_ways_to_ask_have_a_path_each() -> None:
    services = {e["name"]: e["clientConfig"]["service"] for e in config()["webhooks"]}
    assert services == {
        "pods.imagecache.dev": {"name": "imagecache-webhook", "namespace": "system", "path": "/mutate", "port": 443},
        "auto.imagecache.dev": {
            "name": "imagecache-webhook", "namespace": "system", "path": "/mutate/auto", "port": 443,
        },
    }


def test_our_namespace_and_the_clusters_own_are_left_alone() -> None:
    elsewhere = {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system", "system"]}
    auto = {"key": "imagecache.dev/inject", "operator": "In", "values": ["auto"]}
    selectors = {e["name"]: e["namespaceSelector"]["matchExpressions"] for e in config()["webhooks"]}
    assert selectors == {"pods.imagecache.dev": [elsewhere], "auto.imagecache.dev": [auto, elsewhere]}


def test_which_pods_are_asked_about() -> None:
    said, = pods(config())["matchConditions"]
    assert said["expression"] == (
        "has(object.metadata.annotations) && ('imagecache.dev/cache' in object.metadata.annotations "
        "? object.metadata.annotations['imagecache.dev/cache'] != 'none' "
        ": 'imagecache.cce.io/specified-name' in object.metadata.annotations)"
    )
    unsaid, = config()["webhooks"][1]["matchConditions"]
    assert unsaid["expression"] == (
        "!(has(object.metadata.annotations) && ('imagecache.dev/cache' in object.metadata.annotations "
        "|| 'imagecache.cce.io/specified-name' in object.metadata.annotations))"
    )
