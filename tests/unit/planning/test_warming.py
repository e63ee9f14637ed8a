# SPDX-License-Identifier: Apache-2.0
"""The warmer of a cache: made where spec.warmNodes is set and the server answers, gone where no server is to be."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.conditions import ConditionType
from imagecache_operator.api.imagecache import AttemptState, OnExpiry, Phase
from imagecache_operator.api.warming import WarmNodesStatus
from imagecache_operator.planning.children.applied import version
from imagecache_operator.planning.decision import Plan
from imagecache_operator.planning.observed import Observed, PullSecret, Server, Warmer, WarmerSecret
from imagecache_operator.planning.reporting import not_served, not_warmed, refused

from .facts import (
    CARRIER,
    CLAIM,
    IMAGES,
    NOW,
    PASSWORD,
    SERVER,
    SETTINGS,
    WARMER,
    after,
    available,
    cache,
    condition,
    deleted,
    planned,
    pull_secret,
    seen,
    served,
    server,
    spec,
    status,
    volume,
    warmed,
    warmer,
)

ITSELF = [f"DaemonSet/{WARMER}"]
EVERYWHERE = spec(warm_nodes={})
OLD = timedelta(days=30)
MINUTE = timedelta(minutes=1)


def told(done: Plan) -> tuple[str, str, str]:
    found = condition(done, ConditionType.WARM)
    return found.status, found.reason, found.message


def complete(what: Warmer | None = None, serving: Server | None = None, **fields: Any) -> Observed:
    """A complete cache that is served and wants its images everywhere."""
    given = {"status": available(), "spec": EVERYWHERE, **fields}
    return seen(cache(**given), volume=volume(), server=server() if serving is None else serving, warmer=what)


def numbers(warm: int, wanted: int) -> WarmNodesStatus:
    return WarmNodesStatus(name=WARMER, warm=warm, wanted=wanted, summary=f"{warm}/{wanted}")


def test_nobody_asks_and_nothing_is_said() -> None:
    done = planned(complete(spec=spec()))
    assert (warmed(done), done.status.warm_nodes) == ([], None)
    assert ConditionType.WARM not in {c.type for c in done.status.conditions}


def test_a_served_cache_gets_one() -> None:
    done = planned(complete())
    assert (warmed(done), deleted(done), done.status.warm_nodes) == (ITSELF, [], None)
    assert told(done)[:2] == ("False", Because.WARMING)
    assert done.status.phase is Phase.AVAILABLE
    assert condition(done).status == "True", "the cache is ready, whatever becomes of nodes"


def test_it_takes_carriers_from_the_server_and_images_from_their_registries() -> None:
    manifest, = planned(complete()).warm
    assert [v["image"]["reference"] for v in manifest["spec"]["template"]["spec"]["volumes"]] == [
        f"localhost:31234/carrier/docker.io/library/busybox@{CARRIER}", IMAGES[0],
        f"localhost:31234/carrier/registry.example/ml/train@{CARRIER}", IMAGES[1],
    ]


@pytest.mark.parametrize("carrier", [None, "sha256:short"])
def test_an_image_without_carrier_comes_from_its_registry_alone(carrier: str | None) -> None:
    first, second = available().images
    images = (first.model_copy(update={"carrier": carrier}), second)
    manifest, = planned(complete(status=available(images=images))).warm
    references = [v["image"]["reference"] for v in manifest["spec"]["template"]["spec"]["volumes"]]
    assert references[0] == IMAGES[0]
    assert len(references) == 3
    assert len(manifest["spec"]["template"]["spec"]["containers"]) == 2


@pytest.mark.parametrize(("warm", "wanted", "holds", "because", "words"), [
    (0, 3, "False", Because.WARMING, "0 of 3 nodes hold every image"),
    (1, 3, "False", Because.WARMING, "1 of 3 nodes holds every image"),
    (3, 3, "True", Because.NODES_WARM, "3 of 3 nodes hold every image"),
    (1, 1, "True", Because.NODES_WARM, "1 of 1 node holds every image"),
    (0, 0, "False", Because.WARMING, "There is no node that spec.warmNodes speaks of"),
])
def test_its_numbers_are_told(warm: int, wanted: int, holds: str, because: str, words: str) -> None:
    done = planned(complete(warmer(warm=warm, wanted=wanted)))
    assert (warmed(done), deleted(done), done.events) == ([], [], ())
    assert done.status.warm_nodes == numbers(warm, wanted)
    assert told(done) == (holds, because, words)
    assert done.again_in == SETTINGS.resync, "its own changes wake, so nobody has to look every few seconds"


def test_one_that_nobody_has_looked_at_has_no_numbers() -> None:
    done = planned(complete(warmer(wanted=None)))
    assert (done.status.warm_nodes, told(done)) == (None, ("False", Because.WARMING, "The nodes begin to pull"))
    assert planned(complete(warmer(wanted=None, version="another"))).status.warm_nodes is None


@pytest.mark.parametrize("change", [
    {"spec": spec(warm_nodes={"node_selector": {"gpu": "true"}})},
    {"spec": spec(warm_nodes={"tolerations": [{"operator": "Exists"}]})},
    {"serving": server(node_port=31235)},
    {"what": warmer(version="", warm=3)},
], ids=["nodes", "tolerations", "another port", "somebody else's"])
def test_what_is_different_is_applied(change: dict[str, Any]) -> None:
    done = planned(complete(**{"what": warmer(warm=3), **change}))
    assert warmed(done) == ITSELF
    assert told(done)[:2] == ("False", Because.WARMING)
    assert done.status.warm_nodes == numbers(0, 3)


def test_another_image_of_the_warmer_is_another_warmer() -> None:
    other = SETTINGS.model_copy(update={"warmer_image": "elsewhere/pause:1"})
    assert warmed(planned(complete(warmer()), settings=other)) == ITSELF


def test_one_on_its_way_out_is_waited_for() -> None:
    done = planned(complete(warmer(deleting=True, warm=3)))
    assert (warmed(done), deleted(done), done.status.warm_nodes) == ([], [], None)
    assert told(done)[:2] == ("False", Because.WARMING)
    assert WARMER in told(done)[2]


def test_none_begins_before_the_server_answers_and_one_that_is_there_stays_as_it_is() -> None:
    silent = server(ready=False)
    first = planned(complete(serving=Server()))
    assert (served(first), warmed(first)) == ([f"Service/{SERVER}", f"Deployment/{SERVER}"], [])
    assert warmed(planned(complete(serving=silent))) == []
    assert "when the server answers" in told(planned(complete(serving=silent)))[2]
    other = complete(warmer(warm=3, version="another"), serving=silent)
    assert (warmed(planned(other)), deleted(planned(other))) == ([], [])
    assert told(planned(other))[0] == "True", "what is on nodes is there without a server"
    assert planned(other).status.warm_nodes == numbers(3, 3)


@pytest.mark.parametrize("what", [spec(), spec(warm_nodes={}, serve=False)], ids=["not wanted", "not served"])
def test_one_that_is_not_to_be_is_removed(what: Any) -> None:
    facts = replace(complete(warmer(), spec=what), pull_secrets=(pull_secret(),))
    done = planned(facts)
    assert (deleted(done)[:1], warmed(done), done.status.warm_nodes) == (ITSELF, [], None)
    if what.warm_nodes is not None:
        assert told(done)[:2] == ("False", Because.NOT_SERVED)
    assert deleted(planned(replace(facts, warmer=warmer(deleting=True))))[:1] != ITSELF


def private(*secrets: PullSecret, **fields: Any) -> Observed:
    """A complete cache, whose first image was pulled with a Secret, and that wants its images everywhere."""
    first, second = available().images
    images = (first.model_copy(update={"pull_secret": "team-a:regcred"}), second)
    listed = tuple(secret.reference for secret in secrets)
    return replace(complete(
        status=available(images=images), spec=spec(warm_nodes={}, building_config={"image_pull_secrets": listed}),
        serving=server(password=True),
    ), pull_secrets=secrets, **fields)


def test_private_images_are_pulled_with_what_they_need_and_no_more() -> None:
    used, idle = pull_secret("team-a:regcred", match="docker.io/library"), pull_secret("team-a:idle")
    secret, daemon_set = planned(private(used, idle)).warm
    assert (secret["type"], secret["metadata"]["namespace"]) == ("kubernetes.io/dockerconfigjson", SETTINGS.namespace)
    auths = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]
    assert auths == {"docker.io/library": {"username": "ann", "password": PASSWORD}}
    assert [s["name"] for s in daemon_set["spec"]["template"]["spec"]["imagePullSecrets"]] == [
        names.ACCESS_SECRET, secret["metadata"]["name"],
    ]
    assert PASSWORD not in json.dumps([secret["metadata"], daemon_set])


def test_public_images_need_no_credentials() -> None:
    daemon_set, = planned(complete()).warm
    assert daemon_set["spec"]["template"]["spec"]["imagePullSecrets"] == []


def test_a_changed_secret_is_copied_again_and_one_that_is_gone_is_forgotten() -> None:
    used = pull_secret("team-a:regcred", match="docker.io/library")
    secret, daemon_set = planned(private(used)).warm
    copy = WarmerSecret(secret["metadata"]["name"], version(secret))
    there: dict[str, Any] = {"warmer": warmer(version=version(daemon_set)), "warmer_secrets": (copy,)}
    assert warmed(planned(private(used, **there))) == []
    changed = planned(private(replace(used, version="another"), **there))
    assert warmed(changed) == [f"Secret/{copy.name}"], "nothing is pulled anew for it"
    gone = planned(private(replace(used, credentials=(), problem=Because.SECRET_NOT_FOUND), **there))
    assert (warmed(gone), deleted(gone)[:1]) == (ITSELF, [f"Secret/{copy.name}"])
    unknown = planned(private(replace(used, credentials=(), version=None), **there))
    assert (warmed(unknown), deleted(unknown)) == ([], []), "who cannot look changes nothing"


def test_credentials_are_kept_only_while_nodes_are_kept_warm() -> None:
    facts = replace(complete(warmer(), spec=spec()), warmer_secrets=(WarmerSecret("imc-1-warmer"),))
    assert deleted(planned(facts))[:2] == [*ITSELF, "Secret/imc-1-warmer"]


@pytest.mark.parametrize("facts", [
    seen(cache(available(), spec=EVERYWHERE)),
    seen(cache(available(), spec=None, spec_error="bad"), volume=volume()),
    seen(cache(available(), spec=spec(warm_nodes={}, retention_days=1), created=NOW - timedelta(days=1)),
         volume=volume()),
    seen(cache(available(), spec=spec(warm_nodes={}, retention_days=1, on_expiry=OnExpiry.RELEASE),
               created=NOW - OLD), volume=volume()),
    seen(cache(available(), spec=EVERYWHERE, deleting=True), volume=volume()),
    seen(cache(status(AttemptState.STARTING), spec=EVERYWHERE), volume=volume()),
], ids=["volume gone", "invalid", "expired", "released", "deleted", "building"])
def test_it_goes_with_the_server_and_before_it(facts: Observed) -> None:
    done = planned(replace(facts, server=server(), warmer=warmer(warm=3)))
    assert deleted(done)[:2] == [*ITSELF, f"Deployment/{SERVER}"]
    assert (warmed(done), done.status.warm_nodes) == ([], None)


def test_a_builder_does_not_wait_for_it() -> None:
    """It touches no volume."""
    facts = seen(cache(status(AttemptState.STARTING)), volume=volume(), warmer=warmer(deleting=True))
    assert planned(facts).create


def test_a_deletion_asks_it_to_go_and_does_not_wait_for_ever() -> None:
    doomed = cache(available(), spec=EVERYWHERE, deleting=True)
    first = planned(seen(doomed, warmer=warmer()))
    assert (deleted(first), first.gone) == (ITSELF, False)
    assert WARMER in (first.status.message or "")
    assert planned(seen(doomed, warmer=warmer(deleting=True))).gone
    assert deleted(planned(seen(doomed, volume=volume(), server=server(), warmer=warmer())))[-1] == CLAIM


# Refusals

WORDS = "spec.template.spec.volumes[0]: must specify a volume type"


def test_a_refused_warmer_leaves_the_cache_served() -> None:
    facts = complete()
    done = not_warmed(facts, planned(facts), WORDS, MINUTE, NOW)
    assert (done.status.phase, condition(done, ConditionType.SERVED).status) == (Phase.AVAILABLE, "True")
    assert told(done)[:2] == ("False", Because.WARMING)
    assert WORDS in told(done)[2]
    assert "Kubernetes 1.35" in told(done)[2]
    assert (done.again_in, done.events) == (MINUTE, ())
    again = after(facts, done)
    assert not_warmed(again, planned(again), WORDS, MINUTE, NOW + MINUTE).status == again.cache.status, "said once"


def test_a_refused_builder_leaves_it_to_be_told() -> None:
    facts = seen(cache(status(AttemptState.STARTING), spec=EVERYWHERE), volume=volume())
    done = refused(facts, planned(facts), "quota", MINUTE, NOW)
    assert told(done)[:2] == ("False", Because.NOT_SERVED)
    assert refused(facts, planned(facts), "quota", MINUTE, NOW).status == done.status


def test_a_refused_server_says_nothing_of_warm_nodes() -> None:
    facts = complete(serving=Server())
    done = not_served(facts, planned(facts), "no port", MINUTE, NOW)
    assert "no port" not in told(done)[2]
