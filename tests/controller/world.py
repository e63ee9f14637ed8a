# SPDX-License-Identifier: Apache-2.0
"""A world for the controller's tests: an Api in memory, its kubelet, a clock that only the test moves, and kopf's part
(a finalizer on each ImageCache, taken off when the operator says that nothing is left).

Every write of the operator is checked, as it happens, against what makes "killed anywhere" true (docs/architecture.md).
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Any

from imagecache_operator import names
from imagecache_operator.cluster.api import Api, Object, Objects
from imagecache_operator.cluster.observe import home_uid
from imagecache_operator.controller.pods import Uses
from imagecache_operator.controller.reconciler import Pass, Reconciler
from imagecache_operator.settings import Settings

from tests.support.memory_api import MemoryApi

from .kubelet import Kubelet, Script, always_good

IMAGES = ["busybox:1.36", "registry.example/ml/train:1.4"]
UNFINISHED = ("Starting", "Running")
OF_AN_ATTEMPT = (names.COMPONENT_BUILDER, names.COMPONENT_CREDENTIALS)
PULL_SECRET = "team-a:regcred"
PASSWORD = "pass-word-of-ann"


class Killed(BaseException):
    """The operator's process ends here. No `except Exception` may stop it."""


class Watched:
    """The Api as the operator has it: every write counts, is checked, and may be the last of a process.

    `die_at` counts writes from 1; `after` says whether that write still happens.
    """

    def __init__(self, api: MemoryApi) -> None:
        self._api = api
        self.writes = 0
        self.die_at: Callable[[int], bool] = lambda n: False
        self.after = False
        self.pods_made: Counter[str] = Counter()

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        return self._api.get(kind, name, namespace)

    def list(self, kind: str, namespace: str | None = None, selector: str | None = None) -> Objects:
        return self._api.list(kind, namespace, selector)

    def list_metadata(self, kind: str, namespace: str | None = None, selector: str | None = None) -> Objects:
        return self._api.list_metadata(kind, namespace, selector)

    def list_named_metadata(self, kind: str, name: str) -> Objects:
        return self._api.list_named_metadata(kind, name)

    def read_log(self, pod: str, namespace: str, container: str, lines: int) -> str:
        return self._api.read_log(pod, namespace, container, lines)

    def create(self, manifest: Object) -> bool:
        made = []

        def write() -> None:
            if _component(manifest) in OF_AN_ATTEMPT:
                self._announced(manifest)
            made.append(self._api.create(manifest))
            if made[0] and _component(manifest) == names.COMPONENT_BUILDER:
                self.pods_made[manifest["metadata"]["name"]] += 1

        self._write(write)
        return made[0]

    def apply(self, manifest: Object) -> None:
        self._write(lambda: self._api.apply(manifest))

    def apply_status(self, manifest: Object) -> None:
        self._write(lambda: self._api.apply_status(manifest))

    def delete(self, kind: str, name: str, namespace: str | None = None, uid: str | None = None) -> None:
        def write() -> None:
            if kind in ("Pod", "Secret"):
                self._recorded(kind, name, namespace)
            self._api.delete(kind, name, namespace, uid)

        self._write(write)

    def _write(self, write: Callable[[], None]) -> None:
        self.writes += 1
        dies = self.die_at(self.writes)
        if not dies or self.after:
            write()
        if dies:
            raise Killed

    def _announced(self, child: Object) -> None:
        name, labels = child["metadata"]["name"], child["metadata"]["labels"]
        attempt = self._status(labels[names.LABEL_CACHE]).get("attempt") or {}
        assert str(attempt.get("number")) == labels[names.LABEL_ATTEMPT], "an attempt that is not in status"
        assert attempt["state"] == "Starting"
        others = self._api.list("Pod", names.NAMESPACE, f"{names.LABEL_CACHE}={labels[names.LABEL_CACHE]}")
        assert [p["metadata"]["name"] for p in others] in ([], [name]), "a second builder"
        mounted = [v["secret"]["secretName"] for v in child.get("spec", {}).get("volumes", []) if "secret" in v]
        assert all(self._api.get("Secret", m, names.NAMESPACE) for m in mounted), "a Pod before its Secret"

    def _recorded(self, kind: str, name: str, namespace: str | None) -> None:
        child = self._api.get(kind, name, namespace)
        if child is None or self._api.get("Pod", name, namespace) is None:
            return  # a Secret whose Pod has not been made, or is gone, is nobody's
        if _component(child) not in OF_AN_ATTEMPT:
            return
        labels = child["metadata"]["labels"]
        cache = self._cache(labels[names.LABEL_CACHE])
        attempt = cache["status"].get("attempt") or {}
        ended = attempt.get("state") not in UNFINISHED or str(attempt["number"]) != labels[names.LABEL_ATTEMPT]
        assert ended or "deletionTimestamp" in cache["metadata"], f"{name} goes, and its end is not in status"

    def _cache(self, uid: str) -> Object:
        return next(c for c in self._api.list(names.KIND) if c["metadata"]["uid"] == uid)

    def _status(self, uid: str) -> Any:
        return self._cache(uid).get("status") or {}


def _component(child: Object) -> str:
    return str(child["metadata"].get("labels", {}).get(names.LABEL_COMPONENT, ""))


class Mortal(Watched):
    """Every write counts, and may be the last. What `Watched` asks of the children of caches is not asked here."""

    def _announced(self, child: Object) -> None:
        pass

    def _recorded(self, kind: str, name: str, namespace: str | None) -> None:
        pass


class World:
    """`run` lets the operator and the cluster work until something holds; a killed operator is started anew."""

    def __init__(self, script: Script = always_good, **settings: Any) -> None:
        self.now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
        self.memory = MemoryApi(lambda: self.now)
        self.memory.create({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"},
            "status": {"nodeInfo": {
                "operatingSystem": "linux", "architecture": "amd64", "kubeletVersion": "v1.37.2",
            }},
        })
        self.api = Watched(self.memory)
        self.kubelet = Kubelet(self.memory, script)
        self.settings = Settings(builder_image="operator:test", **settings)
        self.deaths = 0
        self.uses = Uses()
        self.operator = self.reconciler(self.api)

    def reconciler(self, api: Api, turn: AbstractContextManager[object] | None = None) -> Reconciler:
        return Reconciler(
            api, self.settings, home_uid(self.memory), lambda: self.now, turn, lambda uid: self.uses.newest(uid),
        )

    def make(self, name: str, **spec: Any) -> str:
        """A new ImageCache; returns its uid."""
        self.memory.create({
            "apiVersion": names.API_VERSION, "kind": names.KIND,
            "metadata": {"name": name, "finalizers": [names.FINALIZER]}, "spec": {"images": IMAGES, **spec},
        })
        return str(self.cache(name)["metadata"]["uid"])

    def make_pull_secret(self, password: str = PASSWORD, registry: str = "registry.example") -> None:
        """What `kubectl create secret docker-registry` makes, as PULL_SECRET, or its content anew."""
        namespace, _, name = PULL_SECRET.partition(":")
        content = json.dumps({"auths": {registry: {"username": "ann", "password": password}}})
        secret = {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": base64.b64encode(content.encode()).decode()},
        }
        self.memory.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        if not self.memory.create(secret):
            self.memory.edit("Secret", name, lambda o: o.update(data=secret["data"]), namespace)

    def handed_over(self) -> list[Any]:
        """What attempts' Secrets hold now."""
        return [
            entry for s in self.memory.list("Secret", names.NAMESPACE)
            for entry in json.loads(base64.b64decode(s["data"][names.CREDENTIALS_KEY]))["entries"]
        ]

    def cache(self, name: str) -> Any:
        found = self.memory.get(names.KIND, name)
        if found is None:
            raise AssertionError(f"{name} is gone")
        return found

    def status(self, name: str) -> Any:
        return self.cache(name).get("status") or {}

    def phase(self, name: str) -> str | None:
        phase: str | None = self.status(name).get("phase")
        return phase

    def condition(self, name: str, kind: str) -> Any:
        return next(c for c in self.status(name)["conditions"] if c["type"] == kind)

    def reason(self, name: str) -> str:
        return str(self.condition(name, "Ready")["reason"])

    def annotate(self, name: str, value: str) -> None:
        self.memory.edit(names.KIND, name, lambda o: o["metadata"].update(
            annotations={names.ANNOTATION_RETRY: value},
        ))

    def delete(self, name: str) -> None:
        self.memory.delete(names.KIND, name)

    def is_gone(self, name: str) -> bool:
        return self.memory.get(names.KIND, name) is None

    def children(self, *components: str) -> list[str]:
        """Names of all that the operator has led to in its namespace, or of these components."""
        kinds = ("Pod", "Secret", "PersistentVolumeClaim", "Deployment", "Service", "DaemonSet")
        return [o["metadata"]["name"] for k in kinds for o in self.memory.list(k, names.NAMESPACE)
                if not components or o["metadata"]["labels"][names.LABEL_COMPONENT] in components]

    def events(self) -> list[Object]:
        return self.memory.list("Event")

    def one_pass(self, name: str) -> Pass:
        """A pass over that cache, and kopf's part after it."""
        uid = self.cache(name)["metadata"]["uid"]
        done = self.operator.run_once(name, uid)
        if done.gone and not self.is_gone(name):
            self.memory.edit(names.KIND, name, lambda o: o["metadata"].update(finalizers=[]))
        return done

    def run(self, until: Callable[[], bool], rounds: int = 200) -> None:
        for _ in range(rounds):
            if until():
                return
            for cache in self.memory.list(names.KIND):
                try:
                    self.one_pass(cache["metadata"]["name"])
                except Killed:
                    self.deaths += 1
                    self.operator = self.reconciler(self.api)
            self.kubelet.step()
            self.now += timedelta(seconds=7)
        raise AssertionError(f"not within {rounds} rounds: {[c.get('status') for c in self.memory.list(names.KIND)]}")

    def settle(self) -> None:
        """Until a pass over everything writes nothing and nothing else moves: the recorded Pods are gone, and so on."""
        for _ in range(20):
            before = (self.api.writes, self._versions())
            for cache in self.memory.list(names.KIND):
                self.one_pass(cache["metadata"]["name"])
            self.kubelet.step()
            if (self.api.writes, self._versions()) == before:
                return
        raise AssertionError("the operator writes and writes")

    def _versions(self) -> list[str]:
        kinds = ("Pod", "Deployment", "PersistentVolumeClaim", "DaemonSet")
        return [o["metadata"]["resourceVersion"] for k in kinds for o in self.memory.list(k)]
