# SPDX-License-Identifier: Apache-2.0
"""Measures the operator from outside. Called by `__main__`, on a cluster where it is installed.

Times come from the API server's audit log: both ends of each by one clock, with no polling between. All waiting is
done by kubectl's watches, since on a small machine somebody who asks all the time is part of what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from imagecache_operator import names

from tests.cluster import Cluster
from tests.support import audit
from tests.support.audit import WRITES, AuditLog, Request
from tests.support.kube import NAMESPACE, OPERATOR, Cache, Kube, until
from tests.support.upstream import PORT, Upstream

from .report import Row, duration

OURS = "made-by=bench"
BUILDERS = f"{names.LABEL_COMPONENT}={names.COMPONENT_BUILDER}"
ROUNDS = 20
AVAILABLE, FAILED = 5, 45  # as many as are served by default
SOON = 0.5  # seconds
MINUTE = 60
MEMORY = 100  # MiB
PATIENCE = "--timeout=300s"


@dataclass(frozen=True)
class Life:
    """A cache that was created, became Available, and was deleted."""

    name: str
    builder: str


def measure(cluster: Cluster, upstream: Upstream, say: Callable[[str], object]) -> list[Row]:
    """The rows of the table. Whatever happens, no cache of it stays."""
    kube, log, began = Kube(cluster), AuditLog(cluster.audit_log), datetime.now(UTC)
    image, missing = upstream.reference("base/tools:1.0"), f"{upstream.host}:{PORT}/base/tools:no-such-tag"
    with _only_ours(cluster):
        say("the operator, started anew")
        _restart(kube, log)
        alone = _memory(kube)
        say(f"{ROUNDS} caches, one after the other")
        home = _home(kube)
        lives = [_live(kube, home, f"bench-{n}", image) for n in range(ROUNDS)]
        say(f"{AVAILABLE + FAILED} caches at once, {FAILED} of them with an image that is missing")
        _fill(kube, image, missing)
        until(lambda: _is_at_rest(log), "the operator is at rest", 60)
        say("a minute in which nothing happens")
        idle = _in_a_minute(log)
        full = _memory(kube)
        say("a minute in which the operator is started anew")
        kube.kill_operator()
        restarted = _in_a_minute(log)
        say("removing the caches")
    count = f"{AVAILABLE} Available and {FAILED} Failed caches"
    return [
        *_latencies(cluster, log, began, lives),
        _writes(f"writes in a minute, {count}", idle),
        _writes("writes in the minute after a restart, the same caches", restarted),
        Row("resident memory of the operator, no caches", f"{alone:.0f} MiB"),
        Row(f"the same, {count}", f"{full:.0f} MiB", f"≤ {MEMORY} MiB", full <= MEMORY),
    ]


@contextmanager
def _only_ours(cluster: Cluster) -> Iterator[None]:
    """Other caches would take slots, quota and memory. Ours, also those of a run that was killed, are removed."""
    others = cluster.kubectl("get", "imagecaches", "-l", OURS.replace("=", "!="), "-o", "name").split()
    if others:
        raise AssertionError(f"the cluster has other ImageCaches, which would be in the way: {', '.join(others)}")
    remove = ("delete", "imagecaches", "-l", OURS, PATIENCE)
    cluster.kubectl(*remove)
    try:
        yield
    finally:
        cluster.kubectl(*remove)


def _restart(kube: Kube, log: AuditLog) -> None:
    """Returns when it watches."""
    began = datetime.now(UTC)
    kube.operator_is_back(kube.kill_operator())

    def watches() -> bool:
        return any((r.verb, r.resource) == ("watch", names.PLURAL) for r in log.requests(audit.OPERATOR, began))

    until(watches, "the operator watches ImageCaches", 60)


def _memory(kube: Kube) -> float:
    """Resident memory of the operator's process in MiB, as the kernel of its node says."""
    pod, = kube.list("pods", OPERATOR)
    found = kube.cluster.on_node(pod["spec"]["nodeName"], (
        "for process in /proc/[0-9]*; do\n"
        "  if tr '\\0' ' ' 2>/dev/null <$process/cmdline | grep -q 'imagecache_operator controller'; then\n"
        "    awk '/^VmRSS/ {print $2}' $process/status\n"
        "  fi\n"
        "done\n"
    )).split()
    if len(found) != 1:
        raise AssertionError(f"one process is the operator; found {len(found)}")
    return int(found[0]) / 1024


def _home(kube: Kube) -> str:
    found = kube.get("namespace", "kube-system")
    if found is None:
        raise AssertionError("a cluster has the namespace kube-system")
    return str(found["metadata"]["uid"])


def _live(kube: Kube, home: str, name: str, image: str) -> Life:
    cache = Cache(kube, name)
    kube.apply(_manifest(name, image))
    _wait_for(kube.cluster, "Available", [name])
    builder = names.builder_name(home, cache.uid, generation=1, attempt=1)
    cache.delete()
    return Life(name, builder)


def _fill(kube: Kube, image: str, missing: str) -> None:
    """As many caches as are served; none has a builder any more."""
    available = [f"bench-available-{n}" for n in range(AVAILABLE)]
    failed = [f"bench-failed-{n}" for n in range(FAILED)]
    kube.apply({"apiVersion": "v1", "kind": "List", "items": [
        *(_manifest(name, image) for name in available), *(_manifest(name, missing) for name in failed),
    ]})
    _wait_for(kube.cluster, "Available", available)
    _wait_for(kube.cluster, "Failed", failed)
    kube.cluster.kubectl("-n", NAMESPACE, "wait", "--for=delete", "pods", "-l", BUILDERS, PATIENCE)


def _manifest(name: str, image: str) -> dict[str, object]:
    label, _, value = OURS.partition("=")
    return {
        "apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name, "labels": {label: value}},
        "spec": {"images": [image]},
    }


def _wait_for(cluster: Cluster, phase: str, caches: Iterable[str]) -> None:
    cluster.kubectl("wait", f"--for=jsonpath={{.status.phase}}={phase}", "imagecaches", *caches, PATIENCE)


def _is_at_rest(log: AuditLog) -> bool:
    """It has asked for nothing for some seconds."""
    return not log.requests(audit.OPERATOR, datetime.now(UTC) - timedelta(seconds=5))


def _in_a_minute(log: AuditLog) -> list[Request]:
    """What the operator asks for in the minute from now on."""
    since = datetime.now(UTC)
    time.sleep(MINUTE)
    return log.requests(audit.OPERATOR, since)


def _writes(what: str, requests: list[Request]) -> Row:
    writes = sum(r.verb in WRITES for r in requests)
    return Row(what, f"{writes} (and {len(requests) - writes} reads)", "0", writes == 0)


def _latencies(cluster: Cluster, log: AuditLog, since: datetime, lives: Iterable[Life]) -> list[Row]:
    created = log.requests(audit.ADMINISTRATOR, since)
    done = log.requests(audit.OPERATOR, since)
    kubelets = [r for node in cluster.nodes for r in log.requests(f"system:node:{node}", since)]
    starts, ends, wholes = [], [], []
    for life in lives:
        asked = _first(created, "create", names.PLURAL, life.name)
        made = _first(done, "create", "pods", life.builder)
        ended = _first(kubelets, "patch", "pods/status", life.builder, _has_ended)
        told = _first(done, "patch", f"{names.PLURAL}/status", life.name, _is_available)
        starts.append((made.answered - asked.received).total_seconds())
        ends.append((told.answered - ended.answered).total_seconds())
        wholes.append((told.answered - asked.received).total_seconds())
    return [
        duration("ImageCache created → builder Pod created", starts, SOON),
        duration("builder's end in its Pod's status → phase Available", ends, SOON),
        duration("ImageCache created → phase Available", wholes),
    ]


def _first(
    requests: Iterable[Request], verb: str, resource: str, name: str,
    also: Callable[[Request], bool] = lambda request: True,
) -> Request:
    for request in requests:
        if (request.verb, request.resource, request.name) == (verb, resource, name) and also(request):
            return request
    raise AssertionError(f"not in the audit log: {verb} {resource} {name}")


def _has_ended(request: Request) -> bool:
    """The kubelet says that the builder's container has come to its end; that is what the operator goes by."""
    containers = request.body.get("status", {}).get("containerStatuses", [])
    return any(c["state"].get("terminated") for c in containers)


def _is_available(request: Request) -> bool:
    return bool(request.body["status"].get("phase") == "Available")
