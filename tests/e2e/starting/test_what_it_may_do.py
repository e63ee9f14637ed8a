# SPDX-License-Identifier: Apache-2.0
"""The operator may do what it does, and no more: what is granted to its account, against what the API server says that
the account has asked for since the tests began.

Run alone, the fixture makes it do all that it ever does. Run last of these tests, which it is by its name, it also
judges what they led to.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import yaml
from imagecache_operator.controller.injection import Injection
from imagecache_operator.names import ACCESS_SECRET
from imagecache_operator.planning.webhook import LOOK_AGAIN, SERVER_LIFETIME
from imagecache_operator.settings import Injection as Setting
from imagecache_operator.settings import Settings

from tests.support import as_operator, slow_link
from tests.support.audit import ADMINISTRATOR, OPERATOR, AuditLog, Grant, Request, grants, refused
from tests.support.install import REPOSITORY
from tests.support.kube import Cache, Kube, until
from tests.support.upstream import PORT, SLOW_HOST, Upstream

COLLECTED = datetime.now(UTC)  # before the first test ran
CREDENTIALS = "e2e-rights"  # a user's Secret


@pytest.fixture(scope="module")
def granted(kube: Kube) -> set[Grant]:
    rendered = kube.cluster.kubectl("kustomize", str(REPOSITORY / "deploy" / "local"))
    return grants(yaml.safe_load_all(rendered))


@pytest.fixture(scope="module")
def slow(kube: Kube, upstream: Upstream) -> Iterator[str]:
    """A reference behind a link so slow that the operator sees its builder at work."""
    slow_link.start(kube.cluster, SLOW_HOST, upstream.host, PORT, 800_000)
    yield f"{SLOW_HOST}:{PORT}/team/app:2.1"
    slow_link.stop(kube.cluster, SLOW_HOST)


@pytest.fixture(scope="module")
def credentials(kube: Kube) -> Iterator[str]:
    """A Secret of a user, as imagePullSecrets names it."""
    login = {"auth": base64.b64encode(b"somebody:secret").decode()}
    kube.apply({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {"name": CREDENTIALS, "namespace": "default"},
        "stringData": {".dockerconfigjson": json.dumps({"auths": {f"{SLOW_HOST}:{PORT}": login}})},
    })
    yield f"default:{CREDENTIALS}"
    kube.delete("secret", CREDENTIALS, "default")


@pytest.fixture(scope="module")
def log(kube: Kube, upstream: Upstream, slow: str, credentials: str) -> AuditLog:
    """The log, after two whole lives: the operator starts; the webhook's certificate is renewed, injection is turned
    off and on; a cache is built, with credentials, and expires; one without them is served to one namespace, warms
    nodes, is served to two, and is deleted."""
    kube.operator_is_back(kube.kill_operator())
    _injection_in_all_its_moods(kube)
    cache = Cache(kube, "e2e-rights")
    cache.apply([slow], {"retentionDays": 1, "buildingConfig": {"imagePullSecrets": [credentials]}})
    try:
        until(lambda: cache.condition("Ready").get("reason") == "Pulling", "the builder is seen at work", 90)
        cache.wait_for("Available")
        uid = cache.uid
        as_operator.the_day_after_tomorrow(kube).run_once(cache.name, uid)
        until(lambda: cache.object is None and not cache.children(uid), "the expired cache leaves nothing", 60)
    finally:
        cache.delete()
    served = Cache(kube, "e2e-rights-served")
    images = [upstream.reference("base/tools:1.0")]
    try:
        served.apply(images, {"warmNodes": {}, "allowedNamespaces": {"names": ["default"]}})
        until(lambda: served.condition("Warm").get("status") == "True", "the cache is served, and nodes are warm", 120)
        served.apply(images, {"warmNodes": {}, "allowedNamespaces": {"names": ["default", "kube-public"]}})
        until(lambda: bool(kube.get("secret", ACCESS_SECRET, "kube-public")), "another namespace may use it", 30)
    finally:
        served.delete()
    return AuditLog(kube.cluster.audit_log)


def _injection_in_all_its_moods(kube: Kube) -> None:
    """A certificate that is about to end, the setting that unregisters the webhook, and all as it was."""
    api, settings = as_operator.client(kube), Settings(builder_image="none is started")
    today = Injection(api, settings)

    def rests() -> bool:
        return today.run_once().again_in == LOOK_AGAIN

    until(rests, "the webhook is registered", 240)
    # By that clock it ends soon. What is made then is of no use today, so it is made once more.
    Injection(api, settings, lambda: datetime.now(UTC) + SERVER_LIFETIME * 3 / 4).run_once()
    Injection(api, settings.model_copy(update={"injection": Setting.OFF})).run_once()
    until(rests, "the webhook is registered again", 60)


def _requests(log: AuditLog) -> list[Request]:
    return log.requests(OPERATOR, COLLECTED)


def test_nothing_is_granted_that_is_not_used(granted: set[Grant], log: AuditLog) -> None:
    assert granted, "the manifests bind roles to the account"

    def unused() -> list[Grant]:
        asked = _requests(log)
        return sorted(g for g in granted if not any(g.used_by(r) for r in asked))

    # The last answers may be a moment ahead of the log.
    until(lambda: not unused(), "all that is granted is used", 20, lambda: "\n".join(map(str, unused())))


def test_nothing_was_refused_for_want_of_a_right(log: AuditLog) -> None:
    asked = _requests(log)
    assert asked
    assert refused(asked) == []


def test_a_refusal_would_be_seen(kube: Kube) -> None:
    """Somebody asks in the operator's name for what it may not have. It is told apart from what the operator asks."""
    said = kube.cluster.kubectl("get", "configmaps", "-A", f"--as={OPERATOR}", check=False)
    assert said == ""
    log = AuditLog(kube.cluster.audit_log)

    def seen() -> bool:
        asked = log.requests(ADMINISTRATOR, COLLECTED)
        return any((r.verb, r.resource, r.decision) == ("list", "configmaps", "forbid") for r in asked)

    until(seen, "the refusal is in the log", 20)
