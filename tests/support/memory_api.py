# SPDX-License-Identifier: Apache-2.0
"""An API server in memory, as far as the operator relies on one. It is the `cluster.api.Api` of the controller's tests.

`tests/conformance/` runs the same tests against this and against a real API server, so nothing here is a guess.
What the operator cannot do (set a Pod's status, play a namespace that refuses) has names of its own: `edit`, `remove`,
`refuse`, `logs`.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from imagecache_operator import names
from imagecache_operator.cluster.api import RESOURCES, Conflict, Object, Objects, Rejected

Key = tuple[str, str | None, str]  # kind, namespace, name
# Managed by the server; what a client sends there is ignored or is a precondition.
_OWN = ("uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "managedFields")
PROTECTION = "kubernetes.io/pvc-protection"


def now() -> datetime:
    return datetime.now(UTC)


class MemoryApi:
    """Objects by kind, namespace and name. Safe to use from several threads."""

    def __init__(self, clock: Callable[[], datetime] = now) -> None:
        self.logs: dict[str, str] = {}
        self.refuse: Callable[[str, Object], str | None] = lambda verb, manifest: None
        self._clock = clock
        self._objects: dict[Key, Object] = {}
        self._applied: dict[tuple[Key, str], Object] = {}  # what our field manager has said, by subresource
        self._versions = itertools.count(1)
        self._lock = threading.RLock()
        for namespace in ("kube-system", "default", names.NAMESPACE):
            self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    # The protocol

    def get(self, kind: str, name: str, namespace: str | None = None) -> Object | None:
        with self._lock:
            return copy.deepcopy(self._objects.get(self._key(kind, namespace, name)))

    def list(self, kind: str, namespace: str | None = None, selector: str | None = None) -> Objects:
        wanted = dict(term.split("=", 1) for term in selector.split(",")) if selector else {}
        with self._lock:
            return [
                copy.deepcopy(found) for (its_kind, its_namespace, _), found in sorted(
                    self._objects.items(), key=lambda item: (item[0][1] or "", item[0][2]),
                )
                if its_kind == kind and (namespace is None or its_namespace in (namespace, None))
                and wanted.items() <= (found["metadata"].get("labels") or {}).items()
            ]

    def list_metadata(self, kind: str, namespace: str | None = None, selector: str | None = None) -> Objects:
        return [{"metadata": found["metadata"]} for found in self.list(kind, namespace, selector)]

    def list_named_metadata(self, kind: str, name: str) -> Objects:
        return [found for found in self.list_metadata(kind) if found["metadata"]["name"] == name]

    def create(self, manifest: Object) -> bool:
        with self._lock:
            self._admit("create", manifest)
            key = self._key_of(manifest)
            if key in self._objects:
                return False
            self._store_new(key, manifest)
            return True

    def apply(self, manifest: Object) -> None:
        with self._lock:
            self._admit("apply", manifest)
            key = self._key_of(manifest)
            found = self._objects.get(key)
            if found is None:
                if (manifest["metadata"].get("uid") or manifest["metadata"].get("resourceVersion")) is not None:
                    raise Conflict(f"{key[2]} is gone")
                self._store_new(key, manifest)
            else:
                self._preconditions(manifest, found)
                changed = _merged(found, manifest, self._applied.get((key, ""), {}))
                self._give_node_ports(changed, found)
                self._change(key, changed)
            self._applied[key, ""] = copy.deepcopy(manifest)

    def apply_status(self, manifest: Object) -> None:
        with self._lock:
            self._admit("apply_status", manifest)
            key = self._key_of(manifest)
            found = self._objects.get(key)
            if found is None:
                raise Conflict(f"{key[2]} is gone")
            self._preconditions(manifest, found)
            said = {"status": manifest.get("status") or {}}
            self._change(key, _merged(found, said, self._applied.get((key, "status"), {})))
            self._applied[key, "status"] = copy.deepcopy(said)

    def delete(self, kind: str, name: str, namespace: str | None = None, uid: str | None = None) -> None:
        with self._lock:
            key = self._key(kind, namespace, name)
            found = self._objects.get(key)
            if found is None or (uid is not None and found["metadata"]["uid"] != uid):
                return
            self._admit("delete", found)
            if found["metadata"].get("finalizers") or (kind == "Pod" and found["spec"].get("nodeName")):
                # A Pod on a node goes when the kubelet (here: the test) has stopped it.
                changed = copy.deepcopy(found)
                changed["metadata"].setdefault("deletionTimestamp", self._stamp())
                self._change(key, changed)
                self._collect()
            else:
                self._drop(key)

    def read_log(self, pod: str, namespace: str, container: str, lines: int) -> str:
        with self._lock:
            if self._key("Pod", namespace, pod) not in self._objects:
                return ""
            return "\n".join(self.logs.get(pod, "").splitlines()[-lines:])

    # What others do to a cluster

    def edit(
        self, kind: str, name: str, change: Callable[[Object], object], namespace: str | None = None,
    ) -> Object:
        """Another client's update: `change` gets the object to alter. Returns it as stored."""
        with self._lock:
            key = self._key(kind, namespace, name)
            changed = copy.deepcopy(self._objects[key])
            change(changed)
            self._change(key, changed)
            self._collect()
            return copy.deepcopy(changed)

    def remove(self, kind: str, name: str, namespace: str | None = None) -> None:
        """The object is gone, finalizers or not: the kubelet has stopped a Pod, or somebody was brutal."""
        with self._lock:
            if self._objects.pop(self._key(kind, namespace, name), None):
                self._collect()

    # Within

    def _key(self, kind: str, namespace: str | None, name: str) -> Key:
        return (kind, (namespace or "default") if RESOURCES[kind].namespaced else None, name)

    def _key_of(self, manifest: Object) -> Key:
        meta = manifest["metadata"]
        return self._key(manifest["kind"], meta.get("namespace"), meta["name"])

    def _admit(self, verb: str, manifest: Object) -> None:
        why = self.refuse(verb, manifest)
        if why is not None:
            raise Rejected(why)
        namespace = self._key_of(manifest)[1]
        if namespace is not None and ("Namespace", None, namespace) not in self._objects:
            raise Rejected(f'namespaces "{namespace}" not found')

    def _store_new(self, key: Key, manifest: Object) -> None:
        # JSON data only: no tuples, no shared parts.
        made = copy.deepcopy(manifest)
        meta = {k: v for k, v in made["metadata"].items() if k not in _OWN}
        number = next(self._versions)
        meta |= {
            "uid": f"00000000-0000-4000-8000-{number:012d}", "resourceVersion": str(number), "generation": 1,
            "creationTimestamp": self._stamp(),
        }
        if key[0] == "PersistentVolumeClaim":
            meta["finalizers"] = [*meta.get("finalizers", []), PROTECTION]
        if key[0] not in ("Node", "Event", "Namespace"):
            # A status is written by its own subresource only, and only after the object is there.
            made.pop("status", None)
        if key[0] in ("Pod", "PersistentVolumeClaim"):
            made["status"] = {"phase": "Pending"}
        made["metadata"] = meta
        self._give_node_ports(made, made)
        self._objects[key] = made

    def _give_node_ports(self, service: Object, before: Object) -> None:
        """Ports are merged by their number: a node port that was given before, and is not said, stays."""
        if service["kind"] != "Service" or service["spec"].get("type") != "NodePort":
            return
        given = {p["port"]: p["nodePort"] for p in before["spec"]["ports"] if "nodePort" in p}
        for port in service["spec"]["ports"]:
            if "nodePort" not in port:
                port["nodePort"] = given.get(port["port"]) or 30000 + next(self._versions) % 2768

    def _change(self, key: Key, changed: Object) -> None:
        before = self._objects[key]
        if changed == before:
            return  # no change, no new version
        if changed.get("spec") != before.get("spec"):
            changed["metadata"]["generation"] = before["metadata"]["generation"] + 1
        changed["metadata"]["resourceVersion"] = str(next(self._versions))
        self._objects[key] = changed

    def _preconditions(self, manifest: Object, found: Object) -> None:
        for field in ("uid", "resourceVersion"):
            wanted = manifest["metadata"].get(field)
            if wanted is not None and wanted != found["metadata"][field]:
                raise Conflict(f"{field} of {found['metadata']['name']} is {found['metadata'][field]}, not {wanted}")

    def _collect(self) -> None:
        """What Kubernetes' own controllers do: a deleted claim stays for as long as a Pod uses it."""
        for key, found in list(self._objects.items()):
            if key not in self._objects or not found["metadata"].get("deletionTimestamp") or key[0] == "Pod":
                continue
            held = set(found["metadata"].get("finalizers") or ())
            if key[0] == "PersistentVolumeClaim" and not any(
                _uses(pod, key[2]) for pod_key, pod in self._objects.items() if pod_key[:2] == ("Pod", key[1])
            ):
                held.discard(PROTECTION)
            if not held:
                self._drop(key)

    def _drop(self, key: Key) -> None:
        """Gone, and with it everything that it owns."""
        uid = self._objects.pop(key)["metadata"]["uid"]
        for child_key, child in list(self._objects.items()):
            if any(owner.get("uid") == uid for owner in child["metadata"].get("ownerReferences", [])):
                self.delete(child_key[0], child_key[2], child_key[1])
        self._collect()

    def _stamp(self) -> str:
        return self._clock().strftime("%Y-%m-%dT%H:%M:%SZ")


def _uses(pod: Object, claim: str) -> bool:
    volumes = pod["spec"].get("volumes") or []
    on_a_node = bool(pod["spec"].get("nodeName"))
    return on_a_node and any((v.get("persistentVolumeClaim") or {}).get("claimName") == claim for v in volumes)


def _merged(found: Object, said: Object, said_before: Object) -> Object:
    """Server-side apply, as far as we go: maps merge, lists are replaced, and what we said before and no longer say
    goes away. (Our lists are atomic, or all ours.)"""
    changed = copy.deepcopy(found)
    for part in ("spec", "status", "data"):
        if part in said or part in said_before:
            changed[part] = _merged_map(found.get(part) or {}, said.get(part) or {}, said_before.get(part) or {})
    for part in ("labels", "annotations"):
        mine, mine_before = (s.get("metadata", {}).get(part, {}) for s in (said, said_before))
        if mine or mine_before:
            changed["metadata"][part] = _merged_map(found["metadata"].get(part) or {}, mine, mine_before)
    if "webhooks" in said:
        changed["webhooks"] = copy.deepcopy(said["webhooks"])
    if "ownerReferences" in said.get("metadata", {}):
        changed["metadata"]["ownerReferences"] = copy.deepcopy(said["metadata"]["ownerReferences"])
    return changed


def _merged_map(found: Any, said: Any, said_before: Any) -> Any:
    if not isinstance(found, dict) or not isinstance(said, dict):
        return copy.deepcopy(said)
    merged = dict(found)
    for key, before in (said_before if isinstance(said_before, dict) else {}).items():
        if key in said or key not in merged:
            continue
        if isinstance(before, dict) and isinstance(merged[key], dict):
            left = _merged_map(merged[key], {}, before)
            if left:
                merged[key] = left
                continue
        del merged[key]
    for key, value in said.items():
        earlier = said_before.get(key) if isinstance(said_before, dict) else None
        merged[key] = _merged_map(merged[key], value, earlier or {}) if key in merged else copy.deepcopy(value)
    return merged
