# SPDX-License-Identifier: Apache-2.0
"""The reader of the audit log finds every request once, wherever rotation has put it, and knows a right that is used
from one that is not."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.audit import ADMINISTRATOR, OPERATOR, AuditLog, Grant, Request, grants

HOME = "imagecache-system"
NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROLE = f'RoleBinding "imagecache-operator/{HOME}"'
CLUSTER_ROLE = 'ClusterRoleBinding "imagecache-operator"'
POD: dict[str, Any] = {"resource": "pods", "namespace": HOME, "name": "imc-1", "apiVersion": "v1"}


def event(number: int, about: dict[str, Any] | None = None, binding: str = ROLE, **changes: Any) -> dict[str, Any]:
    """As the API server writes it. The number makes it another request, a second later."""
    stamp = (NOON + timedelta(seconds=number, microseconds=250)).isoformat().replace("+00:00", "Z")
    return {
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": f"id-{number}",
        "stage": "ResponseComplete", "requestURI": f"/api/v1/namespaces/{HOME}/pods/imc-1", "verb": "delete",
        "user": {"username": OPERATOR, "groups": ["system:serviceaccounts"]}, "sourceIPs": ["198.18.64.2"],
        "objectRef": POD if about is None else about, "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": stamp, "stageTimestamp": stamp,
        "annotations": {
            "authorization.k8s.io/decision": "allow",
            "authorization.k8s.io/reason":
                f'RBAC: allowed by {binding} of Role "imagecache-operator" to ServiceAccount "imagecache-operator/…"',
        },
        **changes,
    }


def written(file: Path, *events: dict[str, Any], end: str = "\n") -> AuditLog:
    lines = [json.dumps(e, separators=(",", ":"), ensure_ascii=False) for e in events]
    file.write_text("\n".join(lines) + end)
    return AuditLog(file.with_name("audit.log"))


def request(number: int = 1, *args: Any, **changes: Any) -> Request:
    return Request.read(event(number, *args, **changes))


def numbers(requests: list[Request]) -> list[int]:
    return [round((r.received - NOON).total_seconds()) for r in requests]


def test_a_request_is_read_with_its_times_to_the_microsecond(tmp_path: Path) -> None:
    log = {"resource": "pods", "subresource": "log", "namespace": HOME, "name": "imc-1", "apiVersion": "v1"}
    received, answered = "2026-03-01T12:00:07.000100Z", "2026-03-01T12:00:07.012345Z"
    found, = written(tmp_path / "audit.log", event(
        7, log, verb="get", requestReceivedTimestamp=received, stageTimestamp=answered,
    )).requests(OPERATOR, NOON)
    assert (found.verb, found.group, found.resource, found.namespace, found.name) == (
        "get", "", "pods/log", HOME, "imc-1",
    )
    assert (found.code, found.decision, found.body) == (200, "allow", {})
    assert found.answered - found.received == timedelta(microseconds=12245)


def test_what_was_sent_is_there_where_the_policy_keeps_it() -> None:
    sent = {"status": {"phase": "Available"}}
    assert request(level="Request", requestObject=sent).body == sent


def test_what_is_no_resource_is_read_too() -> None:
    bare = event(1, requestURI="/metrics", verb="get")
    del bare["objectRef"]
    found = Request.read(bare)
    assert (found.uri, found.resource, found.group, found.name) == ("/metrics", "", "", "")


def test_rotated_files_are_part_of_the_log_in_order_of_arrival(tmp_path: Path) -> None:
    written(tmp_path / "audit-2026-03-01T12-00-02.000.log", event(1), event(3))
    written(tmp_path / "audit-2026-03-01T12-00-04.000.log", event(2), event(4))
    log = written(tmp_path / "audit.log", event(6), event(5))
    assert numbers(log.requests(OPERATOR, NOON)) == [1, 2, 3, 4, 5, 6]
    assert numbers(log.requests(OPERATOR, NOON + timedelta(seconds=4))) == [4, 5, 6]


def test_a_rotation_while_it_is_read_loses_nothing_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = written(tmp_path / "audit.log", event(1), event(2))
    listed = Path.glob

    def rotate_then_list(folder: Path, pattern: str) -> Any:
        log.path.rename(tmp_path / "audit-2026-03-01T12-00-03.000.log")
        written(log.path, event(3))
        return listed(folder, pattern)

    monkeypatch.setattr(Path, "glob", rotate_then_list)
    assert numbers(log.requests(OPERATOR, NOON)) == [1, 2]
    monkeypatch.undo()
    assert numbers(log.requests(OPERATOR, NOON)) == [1, 2, 3]


def test_a_line_that_is_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    whole = json.dumps(event(2), separators=(",", ":"))
    log = written(tmp_path / "audit.log", event(1), end="\n" + whole[:len(whole) // 2])
    assert numbers(log.requests(OPERATOR, NOON)) == [1]
    written(tmp_path / "audit.log", event(1), event(2))
    assert numbers(log.requests(OPERATOR, NOON)) == [1, 2]


def test_a_watch_counts_once_and_from_its_start(tmp_path: Path) -> None:
    log = written(
        tmp_path / "audit.log",
        event(1, stage="RequestReceived", verb="watch"),
        event(1, stage="ResponseStarted", verb="watch", stageTimestamp="2026-03-01T12:00:02.000000Z"),
        event(1, stage="ResponseComplete", verb="watch", stageTimestamp="2026-03-01T12:09:00.000000Z"),
    )
    found, = log.requests(OPERATOR, NOON)
    assert found.answered == NOON + timedelta(seconds=2)


def test_only_what_the_user_itself_has_asked_for(tmp_path: Path) -> None:
    log = written(
        tmp_path / "audit.log", event(1),
        event(2, user={"username": ADMINISTRATOR}, impersonatedUser={"username": OPERATOR}),
        event(3, user={"username": f"{OPERATOR}-2"}),
    )
    assert numbers(log.requests(OPERATOR, NOON)) == [1]
    assert numbers(log.requests(ADMINISTRATOR, NOON)) == [2]


MANIFESTS: list[dict[str, Any]] = [
    {"kind": "ServiceAccount", "metadata": {"name": "imagecache-operator", "namespace": HOME}},
    {
        "kind": "Role", "metadata": {"name": "builders", "namespace": HOME},
        "rules": [{"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "delete"]}],
    },
    {
        "kind": "Role", "metadata": {"name": "builders", "namespace": "elsewhere"},
        "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}],
    },
    {
        "kind": "ClusterRole", "metadata": {"name": "identity"},
        "rules": [{"apiGroups": [""], "resources": ["namespaces"], "resourceNames": ["kube-system"], "verbs": ["get"]}],
    },
    {
        "kind": "RoleBinding", "metadata": {"name": "mine", "namespace": HOME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "builders"},
        "subjects": [{"kind": "ServiceAccount", "name": "imagecache-operator", "namespace": HOME}],
    },
    {
        "kind": "ClusterRoleBinding", "metadata": {"name": "mine"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "identity"},
        "subjects": [{"kind": "ServiceAccount", "name": "imagecache-operator", "namespace": HOME}],
    },
    {
        "kind": "RoleBinding", "metadata": {"name": "not-mine", "namespace": "elsewhere"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "builders"},
        "subjects": [{"kind": "ServiceAccount", "name": "somebody", "namespace": HOME}],
    },
]


def test_grants_are_the_smallest_parts_of_the_roles_that_are_bound_to_the_account() -> None:
    mine = f'RoleBinding "mine/{HOME}"'
    assert grants(MANIFESTS) == {
        Grant(mine, "", "pods", "get", ""), Grant(mine, "", "pods", "delete", ""),
        Grant(mine, "", "pods/log", "get", ""), Grant(mine, "", "pods/log", "delete", ""),
        Grant('ClusterRoleBinding "mine"', "", "namespaces", "get", "kube-system"),
    }


CLAIM = {"resource": "persistentvolumeclaims", "namespace": HOME, "name": "imc-1", "apiVersion": "v1"}
OWN_SECRET = {"resource": "secrets", "namespace": HOME, "name": "a", "apiVersion": "v1"}
USERS_SECRET = {**OWN_SECRET, "namespace": "team"}
CACHES = {"resource": "imagecaches", "apiGroup": "imagecache.dev", "apiVersion": "v1alpha1"}
DELETE_PODS = Grant(ROLE, "", "pods", "delete", "")
CREATE_CLAIMS = Grant(ROLE, "", "persistentvolumeclaims", "create", "")
GET_SECRETS = Grant(CLUSTER_ROLE, "", "secrets", "get", "")
LIST_CACHES = Grant(CLUSTER_ROLE, "imagecache.dev", "imagecaches", "list", "")


USES: dict[str, tuple[Grant, Request, bool]] = {
    "the very thing": (DELETE_PODS, request(), True),
    "another verb": (DELETE_PODS, request(verb="get"), False),
    "a subresource": (DELETE_PODS, request(1, {**POD, "subresource": "log"}), False),
    "another group": (DELETE_PODS, request(1, {**POD, "apiGroup": "other"}), False),
    "allowed through another binding": (DELETE_PODS, request(binding=f'RoleBinding "another/{HOME}"'), False),
    "allowed in the whole cluster": (DELETE_PODS, request(binding=CLUSTER_ROLE), False),
    "refused": (DELETE_PODS, request(annotations={"authorization.k8s.io/decision": "forbid"}), False),
    "turned away unasked": (DELETE_PODS, request(annotations={}), False),
    "the object that it is for": (Grant(ROLE, "", "pods", "delete", "imc-1"), request(), True),
    "another object": (Grant(ROLE, "", "pods", "delete", "imc-2"), request(), False),
    "an apply that creates": (CREATE_CLAIMS, request(1, CLAIM, verb="patch", responseStatus={"code": 201}), True),
    "an apply that changes": (CREATE_CLAIMS, request(1, CLAIM, verb="patch", responseStatus={"code": 200}), False),
    "a whole cluster's, elsewhere": (GET_SECRETS, request(1, USERS_SECRET, CLUSTER_ROLE, verb="get"), True),
    "a whole cluster's, at home only": (GET_SECRETS, request(1, OWN_SECRET, CLUSTER_ROLE, verb="get"), False),
    "in no namespace": (LIST_CACHES, request(1, CACHES, CLUSTER_ROLE, verb="list"), True),
}


@pytest.mark.parametrize(("grant", "asked", "used"), USES.values(), ids=USES.keys())
def test_a_right_is_used_by_what_was_allowed_because_of_it(grant: Grant, asked: Request, used: bool) -> None:
    assert grant.used_by(asked) is used
