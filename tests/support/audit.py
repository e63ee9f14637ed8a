# SPDX-License-Identifier: Apache-2.0
"""What the API server's audit log tells: who asked for what, when, and by which right.

The API server is a witness that sees every request with one clock, whoever made it. `tests/bench` asks it how long
things took, and `tests/e2e` whether the operator uses all that it may, and wants no more.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imagecache_operator import names

ACCOUNT = "imagecache-operator"  # the operator's, in its own namespace
OPERATOR = f"system:serviceaccount:{names.NAMESPACE}:{ACCOUNT}"
ADMINISTRATOR = "kubernetes-admin"  # who holds kind's kubeconfig
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Request:
    """One request that was answered."""

    user: str
    verb: str  # in the words of RBAC: get, list, watch, …
    group: str
    resource: str  # with its subresource, as RBAC writes it: pods/log. Empty for what is no resource.
    namespace: str  # empty for cluster-scoped objects, and for all namespaces at once
    name: str
    uri: str
    code: int
    decision: str  # allow or forbid; empty where it was not even asked whether the user may
    because: str  # how the API server explains it
    received: datetime
    answered: datetime
    body: Object  # what was sent, of the few kinds for which the policy keeps that

    @classmethod
    def read(cls, event: Object) -> Request:
        about, notes = event.get("objectRef", {}), event.get("annotations", {})
        return cls(
            user=event["user"]["username"],
            verb=event["verb"],
            group=about.get("apiGroup", ""),
            resource="/".join(filter(None, (about.get("resource"), about.get("subresource")))),
            namespace=about.get("namespace", ""),
            name=about.get("name", ""),
            uri=event["requestURI"],
            code=event.get("responseStatus", {}).get("code", 0),
            decision=notes.get("authorization.k8s.io/decision", ""),
            because=notes.get("authorization.k8s.io/reason", ""),
            received=datetime.fromisoformat(event["requestReceivedTimestamp"]),
            answered=datetime.fromisoformat(event["stageTimestamp"]),
            body=event.get("requestObject", {}),
        )


@dataclass(frozen=True)
class AuditLog:
    """The log of one API server: a file, and beside it the older ones that rotation has left."""

    path: Path

    def requests(self, user: str, since: datetime) -> list[Request]:
        """All that this user has asked for since then, in order of arrival.

        A watch goes on, so a request counts from the first stage that knows the answer.
        """
        named = f'"username":{json.dumps(user)}'.encode()
        found: dict[str, Request] = {}
        for line in self._lines():
            if named not in line:  # most of a large log is somebody else's, and JSON takes its time
                continue
            event = json.loads(line)
            # An impersonated user is named in the line too, and has asked for nothing.
            if event["user"]["username"] == user and event["stage"] != "RequestReceived":
                found.setdefault(event["auditID"], Request.read(event))
        return sorted((r for r in found.values() if r.received >= since), key=lambda r: r.received)

    def _lines(self) -> Iterator[bytes]:
        """The current file is opened first: should it be rotated now, it is read twice, and not missed."""
        with self.path.open("rb") as current:
            older = sorted(self.path.parent.glob(f"{self.path.stem}-*{self.path.suffix}"))
            for file in older:
                with file.open("rb") as lines:
                    yield from lines
            # The last line may be half written.
            yield from (line for line in current if line.endswith(b"\n"))


def refused(asked: Iterable[Request]) -> list[str]:
    """What of it was refused for want of a right."""
    return sorted({f"{request.verb} {request.uri}" for request in asked if request.decision == "forbid"})


@dataclass(frozen=True, order=True)
class Grant:
    """The smallest part of a role that could be taken away: one verb on one resource, through one binding."""

    binding: str  # as the API server names it: RoleBinding "name/namespace", ClusterRoleBinding "name"
    group: str
    resource: str
    verb: str
    name: str  # the only object that it is for; empty for any

    def used_by(self, request: Request) -> bool:
        """A right for the whole cluster that is used only in the operator's own namespace is more than is needed."""
        verbs = {request.verb}
        if request.verb == "patch" and request.code == 201:
            verbs.add("create")  # an apply of what is not there yet needs both, and is one request
        return (
            request.decision == "allow"
            and request.because.startswith(f"RBAC: allowed by {self.binding} of ")
            and (request.group, request.resource) == (self.group, self.resource)
            and self.verb in verbs
            and self.name in ("", request.name)
            and (self.binding.startswith("RoleBinding") or request.namespace != names.NAMESPACE)
        )


def grants(manifests: Iterable[Object]) -> set[Grant]:
    """All that these manifests let the operator's account do."""
    documents = list(manifests)
    roles = {
        (m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]): m["rules"]
        for m in documents if m["kind"] in ("Role", "ClusterRole")
    }
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": names.NAMESPACE}
    found: set[Grant] = set()
    for binding in documents:
        if binding["kind"] not in ("RoleBinding", "ClusterRoleBinding") or subject not in binding["subjects"]:
            continue
        role, namespace = binding["roleRef"], binding["metadata"].get("namespace")
        where = f"/{namespace}" if namespace else ""
        named = f'{binding["kind"]} "{binding["metadata"]["name"]}{where}"'
        for rule in roles[role["kind"], namespace if role["kind"] == "Role" else None, role["name"]]:
            found.update(itertools.starmap(Grant, itertools.product(
                [named], rule["apiGroups"], rule["resources"], rule["verbs"], rule.get("resourceNames", [""]),
            )))
    return found
