# SPDX-License-Identifier: Apache-2.0
"""The webhook from outside: which Pods the API server shows to it, and that Pods are made without it."""

from __future__ import annotations

import base64
import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from imagecache_operator import names
from imagecache_operator.controller import certificates
from imagecache_operator.planning.webhook import SERVER_LIFETIME, Renewal, service_names

from tests.support.install import DEPLOYMENT, WEBHOOK
from tests.support.kube import NAMESPACE, OPERATOR, Cache, Kube, Object, until
from tests.support.starts import CACHE, IMAGES, SPACE, Starts, reason, volumes

PODS = "app.kubernetes.io/name=imagecache-webhook"
APP = IMAGES[0]
MOST_SECONDS = 2  # how long the API server waits for an answer


def webhook_pods(kube: Kube) -> list[str]:
    return [p["metadata"]["name"] for p in kube.list("pods", PODS) if "deletionTimestamp" not in p["metadata"]]


def shown(kube: Kube) -> Counter[str]:
    """How many Pods the webhook has seen, by what became of them: the sum over its own Pods."""
    found: Counter[str] = Counter()
    for pod in webhook_pods(kube):
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:8080/proxy/metrics"
        metrics = kube.cluster.kubectl("get", "--raw", path)
        for result, count in re.findall(r'^imagecache_pods_total\{result="(\w+)"\} (\S+)$', metrics, re.MULTILINE):
            found[result] += int(float(count))
    return found


def passed_by(kube: Kube) -> int:
    """How often the API server has gone on without our answer, by its own count."""
    counted = re.findall(
        rf'^apiserver_admission_webhook_fail_open_count\{{name="{names.WEBHOOK_PODS}",.*\}} (\S+)$',
        kube.cluster.kubectl("get", "--raw", "/metrics"), re.MULTILINE,
    )
    return sum(int(float(count)) for count in counted)


def seconds_to_create(starts: Starts, manifest: Object) -> float:
    """The best of three: what the machine is busy with besides is not the question."""
    def once() -> float:
        begun = time.monotonic()
        starts.dry_run(manifest)
        return time.monotonic() - begun

    return min(once() for _ in range(3))


def elsewhere(manifest: Object, namespace: str, name: str = "") -> Object:
    return {**manifest, "metadata": {**manifest["metadata"], "namespace": namespace, "name": name or namespace}}


@pytest.fixture
def labelled(kube: Kube, space: str) -> Iterator[None]:
    kube.cluster.kubectl("label", "namespace", space, f"{names.LABEL_INJECT}={names.AUTO}")
    yield
    kube.cluster.kubectl("label", "namespace", space, f"{names.LABEL_INJECT}-")


def test_it_never_sees_a_pod_that_did_not_ask(public_cache: Cache, starts: Starts, kube: Kube) -> None:
    image = starts.reference(APP)
    silent, asks, none = (starts.manifest("of-users", image, ask=ask) for ask in (None, CACHE, names.NONE))
    foreign = json.loads(json.dumps(silent))
    foreign["metadata"]["annotations"] = {"somebody.elses/annotation": "imagecache.dev/cache"}
    before = shown(kube)
    kube.cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps({
        "apiVersion": "v1", "kind": "List", "items": [
            silent, elsewhere(foreign, SPACE, "foreign"), elsewhere(none, SPACE, "none"),
            elsewhere(silent, "default"), elsewhere(none, "default", "none"),
            # Where it is asked for, and yet never looks: who needs these Pods must not need the webhook.
            elsewhere(silent, "kube-system"), elsewhere(asks, "kube-system", "asks"),
            elsewhere(asks, NAMESPACE, "asks"),
        ],
    }))
    starts.start("unseen", image, ask=None)
    assert shown(kube) == before

    # Of those that did, each once, so that the counters are known to count.
    assert volumes(starts.dry_run(asks)) != []
    assert volumes(starts.dry_run(starts.manifest("misses", image, ask="no-such-cache"))) == []
    assert shown(kube) - before == Counter(hit=1, miss=1)


def test_in_a_namespace_that_asks_it_sees_who_does_not_speak_for_himself(
    public_cache: Cache, labelled: None, starts: Starts, kube: Kube,
) -> None:
    image, before = starts.reference(APP), shown(kube)
    assert volumes(starts.dry_run(starts.manifest("none", image, ask=names.NONE))) == []
    assert shown(kube) == before

    def injected() -> bool:
        return len(volumes(starts.dry_run(starts.manifest("silent", image, ask=None)))) == 1

    until(injected, "the API server knows the label", 30)
    before = shown(kube)
    assert injected()
    assert len(volumes(starts.dry_run(starts.manifest("asks", image)))) == 1
    assert shown(kube) - before == Counter(hit=2), "nobody is shown by both of its entries"


def test_without_it_pods_start_as_without_us(public_cache: Cache, starts: Starts, kube: Kube) -> None:
    kube.cluster.kubectl("-n", NAMESPACE, "scale", WEBHOOK, "--replicas=0")
    try:
        until(lambda: not kube.list("pods", PODS), "the webhook is gone", 60)
        started = starts.start("alone", starts.reference(APP))
        assert (volumes(started), reason(started)) == ([], "")
    finally:
        kube.cluster.kubectl("-n", NAMESPACE, "scale", WEBHOOK, "--replicas=2")
        kube.cluster.kubectl("-n", NAMESPACE, "rollout", "status", WEBHOOK, "--timeout=120s")
    until(lambda: starts.would_be_injected(starts.reference(APP)), "Pods are injected again", 30)


@pytest.fixture
def without_operator(kube: Kube) -> Iterator[None]:
    kube.cluster.kubectl("-n", NAMESPACE, "scale", DEPLOYMENT, "--replicas=0")
    yield
    kube.cluster.kubectl("-n", NAMESPACE, "scale", DEPLOYMENT, "--replicas=1")
    kube.cluster.kubectl("-n", NAMESPACE, "rollout", "status", DEPLOYMENT, "--timeout=120s")


def files(kube: Kube) -> dict[str, bytes]:
    secret = kube.get("secret", names.WEBHOOK_SECRET)
    assert secret is not None
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}


def ends(kube: Kube) -> datetime:
    certificate = certificates.server(files(kube))
    assert certificate is not None
    return certificate.not_after


def let_it_end(kube: Kube) -> None:
    """What the operator would have made half a year ago, by its trusted authority; and webhook Pods that serve it."""
    long_ago = datetime.now(UTC).replace(microsecond=0) - 2 * SERVER_LIFETIME
    made = certificates.renewed(files(kube), Renewal("a test", server=True), service_names(NAMESPACE), long_ago)
    secret = kube.get("secret", names.WEBHOOK_SECRET)
    assert secret is not None
    secret["data"] = {key: base64.b64encode(content).decode() for key, content in made.items()}
    kube.cluster.kubectl("replace", "-f", "-", input=json.dumps(secret))
    kube.cluster.kubectl("-n", NAMESPACE, "delete", "pods", "-l", PODS, "--grace-period=0", "--force")
    kube.cluster.kubectl("-n", NAMESPACE, "rollout", "status", WEBHOOK, "--timeout=120s")


def test_with_an_expired_certificate_pods_start_as_without_us_until_the_operator_mends_it(
    public_cache: Cache, starts: Starts, kube: Kube, without_operator: None,
) -> None:
    image = starts.reference(APP)
    until(lambda: not kube.list("pods", OPERATOR), "the operator is gone", 60)
    let_it_end(kube)
    assert ends(kube) < datetime.now(UTC)
    before = passed_by(kube)
    asking, silent = (starts.manifest("ends", image, ask=ask) for ask in (CACHE, None))
    asked, unasked = seconds_to_create(starts, asking), seconds_to_create(starts, silent)
    assert asked - unasked < MOST_SECONDS, f"{asked:.2f} s for one that asks, {unasked:.2f} s for one that does not"
    started = starts.start("with-an-expired-certificate", image)
    assert (volumes(started), reason(started)) == ([], "")
    assert passed_by(kube) - before >= 4, "the API server has asked in vain"

    kube.cluster.kubectl("-n", NAMESPACE, "scale", DEPLOYMENT, "--replicas=1")
    until(lambda: ends(kube) > datetime.now(UTC), "the operator has renewed the certificate", 60)
    # Kubelet looks at mounted Secrets once a minute, and at once where a Pod's annotations have changed.
    kube.cluster.kubectl("-n", NAMESPACE, "annotate", "pods", "-l", PODS, "looked-at=now", "--overwrite")
    until(lambda: starts.would_be_injected(image), "Pods are injected again", 120)
