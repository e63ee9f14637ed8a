# SPDX-License-Identifier: Apache-2.0
"""The webhook's manifests agree with what the operator registers and makes: names, ports, paths of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from imagecache_operator import names
from imagecache_operator.cluster.api import RESOURCES
from imagecache_operator.planning.children import registration
from imagecache_operator.planning.webhook import service_names

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = {"app.kubernetes.io/name": names.WEBHOOK}


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    """By kind, as they are in the file: there is one of each."""
    found = list(yaml.safe_load_all((REPOSITORY / "deploy" / "base" / "webhook.yaml").read_text()))
    by_kind = {o["kind"]: o for o in found}
    assert len(by_kind) == len(found)
    return by_kind


@pytest.fixture(scope="module")
def pod(manifests: dict[str, Any]) -> Any:
    return manifests["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    found, = pod["containers"]
    return found


def test_everything_has_the_names_by_which_the_operator_knows_it(manifests: dict[str, Any]) -> None:
    assert {o["metadata"]["name"] for o in manifests.values()} == {names.WEBHOOK}


def test_it_may_watch_what_it_watches_and_nothing_else(manifests: dict[str, Any]) -> None:
    watched = [RESOURCES[kind] for kind in (names.KIND, "Namespace")]
    assert manifests["ClusterRole"]["rules"] == [
        {"apiGroups": [found.group_version.rpartition("/")[0]],
         "resources": [found.plural], "verbs": ["list", "watch"]}
        for found in watched
    ]
    binding = manifests["ClusterRoleBinding"]
    assert (binding["roleRef"]["kind"], binding["roleRef"]["name"]) == ("ClusterRole", names.WEBHOOK)
    account, = binding["subjects"]
    assert account == {"kind": "ServiceAccount", "name": names.WEBHOOK, "namespace": names.NAMESPACE}
    assert manifests["Deployment"]["spec"]["template"]["spec"]["serviceAccountName"] == names.WEBHOOK


def test_the_registered_service_leads_to_the_pods(manifests: dict[str, Any], container: Any) -> None:
    spec = manifests["Service"]["spec"]
    port, = spec["ports"]
    for webhook in registration.manifest(names.NAMESPACE, "uid", "")["webhooks"]:
        service = webhook["clientConfig"]["service"]
        assert (service["name"], service["port"]) == (manifests["Service"]["metadata"]["name"], port["port"])
        assert f"{service['name']}.{service['namespace']}.svc" in service_names(names.NAMESPACE)
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports[port["targetPort"]] == 8443
    assert spec["selector"] == manifests["Deployment"]["spec"]["template"]["metadata"]["labels"] == NAME


def test_the_certificate_reaches_the_pods_and_the_authoritys_key_does_not(pod: Any, container: Any) -> None:
    volume, = pod["volumes"]
    secret = volume["secret"]
    assert secret["secretName"] == names.WEBHOOK_SECRET
    assert "optional" not in secret, "kubelet would mount nothing, and look again only after a minute or two"
    assert {item["path"]: item["key"] for item in secret["items"]} == {"tls.crt": "tls.crt", "tls.key": "tls.key"}
    mount, = container["volumeMounts"]
    # A subPath would never be renewed.
    assert mount == {"name": volume["name"], "mountPath": "/etc/imagecache/tls", "readOnly": True}


def test_one_pod_may_go_and_another_one_answers(manifests: dict[str, Any], pod: Any) -> None:
    spec = manifests["Deployment"]["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    budget = manifests["PodDisruptionBudget"]["spec"]
    assert budget == {"minAvailable": 1, "selector": {"matchLabels": NAME}}
    term, = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    assert term["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    assert term["podAffinityTerm"]["labelSelector"]["matchLabels"] == NAME


def test_it_is_asked_over_tls_how_it_is(container: Any) -> None:
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "https", "scheme": "HTTPS"}


def test_a_pod_may_wait_for_its_first_certificate(container: Any) -> None:
    """kubelet brings a Secret that is new in a minute or two; it must not be restarted for that."""
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 300


def test_it_is_the_operators_image_with_another_command(container: Any) -> None:
    operator = yaml.safe_load((REPOSITORY / "deploy" / "base" / "operator.yaml").read_text())
    assert container["image"] == operator["spec"]["template"]["spec"]["containers"][0]["image"]
    assert container["args"] == ["webhook"]
