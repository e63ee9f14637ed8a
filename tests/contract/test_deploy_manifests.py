# SPDX-License-Identifier: Apache-2.0
"""What `kubectl apply -k` installs asks for no more than it needs, and the operator may do all that it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from imagecache_operator import names
from imagecache_operator.__main__ import main
from imagecache_operator.cluster.api import RESOURCES
from imagecache_operator.planning.children import server

from tests.cluster import Cluster
from tests.support.install import SERVER_IMAGE, WARMER_IMAGE

pytestmark = pytest.mark.e2e  # kubectl is the cluster's; nothing is applied

REPOSITORY = Path(__file__).resolve().parents[2]
Rendered = list[Any]


@pytest.fixture(scope="module", params=["default", "local"])
def rendered(request: pytest.FixtureRequest, cluster: Cluster) -> Rendered:
    return list(yaml.safe_load_all(cluster.kubectl("kustomize", str(REPOSITORY / "deploy" / request.param))))


OPERATOR = "imagecache-operator"
DEPLOYMENTS = [OPERATOR, names.WEBHOOK]


def one(rendered: Rendered, kind: str, name: str | None = None) -> Any:
    found, = (o for o in rendered if o["kind"] == kind and name in (None, o["metadata"]["name"]))
    return found


def container(rendered: Rendered, name: str = OPERATOR) -> Any:
    found, = one(rendered, "Deployment", name)["spec"]["template"]["spec"]["containers"]
    return found


def test_the_namespace_holds_everything_to_the_strictest_pod_security(rendered: Rendered) -> None:
    namespace = one(rendered, "Namespace")
    assert namespace["metadata"]["name"] == names.NAMESPACE
    for mode in ("enforce", "audit", "warn"):
        assert namespace["metadata"]["labels"][f"pod-security.kubernetes.io/{mode}"] == "restricted"


def test_there_is_one_operator_and_never_two(rendered: Rendered) -> None:
    spec = one(rendered, "Deployment", OPERATOR)["spec"]
    assert spec["replicas"] == 1
    assert spec["strategy"] == {"type": "Recreate"}


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_what_is_installed_keeps_to_it(rendered: Rendered, name: str) -> None:
    pod = one(rendered, "Deployment", name)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
    assert all(set(volume) == {"name", "secret"} for volume in pod.get("volumes", []))
    security = container(rendered, name)["securityContext"]
    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container(rendered, name)["resources"]["limits"]["memory"]


def test_builders_run_from_the_operators_own_image(rendered: Rendered) -> None:
    env = {e["name"]: e.get("value") for e in container(rendered)["env"]}
    assert env["IMAGECACHE_BUILDER_IMAGE"] == container(rendered)["image"]
    assert ":" in container(rendered)["image"]


def test_a_hanging_operator_is_restarted(rendered: Rendered) -> None:
    probe = container(rendered)["livenessProbe"]["httpGet"]
    ports = {p["name"]: p["containerPort"] for p in container(rendered)["ports"]}
    assert probe["path"] == "/healthz"
    assert ports[probe["port"]] == 8080


def rules(rendered: Rendered, account: str = OPERATOR) -> list[tuple[str, Any]]:
    """Where ("*": everywhere), and what, through all roles that are bound to that account."""
    bound = {
        (b["roleRef"]["kind"], b["metadata"].get("namespace"), b["roleRef"]["name"])
        for b in rendered if b["kind"].endswith("Binding") and b["subjects"][0]["name"] == account
    }
    return [
        (o["metadata"].get("namespace", "*"), rule)
        for o in rendered if (o["kind"], o["metadata"].get("namespace"), o["metadata"]["name"]) in bound
        for rule in o["rules"]
    ]


@pytest.mark.parametrize("account", DEPLOYMENTS)
def test_no_right_is_for_everything(rendered: Rendered, account: str) -> None:
    assert rules(rendered, account)
    for _, rule in rules(rendered, account):
        for part in ("apiGroups", "resources", "verbs"):
            assert "*" not in "".join(rule[part]), rule


def test_what_the_operator_may_do_everywhere_is_little(rendered: Rendered) -> None:
    everywhere = {r for where, rule in rules(rendered) for r in rule["resources"] if where == "*"}
    assert everywhere == {
        "imagecaches", "imagecaches/status", "nodes", "namespaces", "secrets", "storageclasses",
        "mutatingwebhookconfigurations", "pods", "events",
    }


def test_of_other_peoples_pods_the_operator_sees_only_what_a_watch_tells(rendered: Rendered) -> None:
    """It makes events beside them, and changes or removes neither."""
    everywhere = {
        resource: rule["verbs"] for where, rule in rules(rendered) if where == "*" for resource in rule["resources"]
        if resource in ("pods", "events")
    }
    assert everywhere == {"pods": ["watch"], "events": ["create"]}


@pytest.mark.parametrize(("name", "port"), [(OPERATOR, 8081), (names.WEBHOOK, 8080)])
def test_metrics_are_found_where_they_are_served(rendered: Rendered, name: str, port: int) -> None:
    command = main.commands["controller" if name == OPERATOR else "webhook"]
    served, = (p.default for p in command.params if p.name == "metrics_port")
    ports = {p["name"]: p["containerPort"] for p in container(rendered, name)["ports"]}
    assert served == ports["metrics"] == port
    annotations = one(rendered, "Deployment", name)["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)}


def test_the_webhook_may_look_at_imagecaches_and_namespaces_and_nothing_else(rendered: Rendered) -> None:
    assert rules(rendered, names.WEBHOOK) == [
        ("*", {"apiGroups": [names.GROUP], "resources": [names.PLURAL], "verbs": ["list", "watch"]}),
        ("*", {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]}),
    ]


def test_of_other_peoples_webhooks_the_operator_can_change_none(rendered: Rendered) -> None:
    of_webhooks = {
        (verb, *rule.get("resourceNames", [])) for _, rule in rules(rendered)
        if "mutatingwebhookconfigurations" in rule["resources"] for verb in rule["verbs"]
    }
    assert of_webhooks == {("create",), *((v, names.WEBHOOK_CONFIGURATION) for v in ("get", "patch", "delete"))}


def test_secrets_of_other_namespaces_can_be_read_one_by_one_and_those_of_one_name_written(rendered: Rendered) -> None:
    of_secrets = {
        (where, *rule.get("resourceNames", [])): set(rule["verbs"])
        for where, rule in rules(rendered) if "secrets" in rule["resources"]
    }
    assert of_secrets == {
        ("*",): {"get"},
        ("*", names.ACCESS_SECRET): {"list", "create", "patch", "delete"},
        (names.NAMESPACE,): {"list", "create", "patch", "delete"},
    }


def may(rendered: Rendered, verb: str, group: str, resource: str, namespace: str = "*") -> bool:
    return any(
        verb in rule["verbs"] and group in rule["apiGroups"] and resource in rule["resources"]
        and where in ("*", namespace) for where, rule in rules(rendered)
    )


@pytest.mark.parametrize(("verb", "kind", "namespace"), [
    ("list", "ImageCache", "*"), ("watch", "ImageCache", "*"), ("delete", "ImageCache", "*"),
    ("patch", "ImageCache", "*"), ("list", "Node", "*"), ("get", "Namespace", "*"),
    ("list", "Namespace", "*"), ("watch", "Namespace", "*"), ("patch", "Pod", names.NAMESPACE),
    ("list", "Pod", names.NAMESPACE), ("watch", "Pod", names.NAMESPACE), ("create", "Pod", names.NAMESPACE),
    ("delete", "Pod", names.NAMESPACE),
    *((v, kind, names.NAMESPACE) for kind in ("PersistentVolumeClaim", "Deployment", "Service", "DaemonSet")
      for v in ("list", "watch", "create", "patch", "delete")),
    ("create", "Event", "*"), ("watch", "Pod", "*"), ("get", "Secret", "*"), ("list", "StorageClass", "*"),
    *((v, "Secret", names.NAMESPACE) for v in ("list", "create", "patch", "delete")),
    *((v, "MutatingWebhookConfiguration", "*") for v in ("get", "create", "patch", "delete")),
    ("get", "Deployment", names.NAMESPACE), ("get", "Namespace", names.NAMESPACE),
])
def test_the_operator_may_do_what_it_does(rendered: Rendered, verb: str, kind: str, namespace: str) -> None:
    resource = RESOURCES[kind]
    group = resource.group_version.rpartition("/")[0]
    assert may(rendered, verb, group, resource.plural, namespace)


def test_it_may_write_status_and_read_logs(rendered: Rendered) -> None:
    assert may(rendered, "patch", names.GROUP, "imagecaches/status")
    assert may(rendered, "get", "", "pods/log", names.NAMESPACE)


def test_every_role_is_bound_to_one_of_our_accounts(rendered: Rendered) -> None:
    for name in DEPLOYMENTS:
        assert one(rendered, "ServiceAccount", name)["metadata"]["namespace"] == names.NAMESPACE
        assert one(rendered, "Deployment", name)["spec"]["template"]["spec"]["serviceAccountName"] == name
    roles = {(o["kind"], o["metadata"]["name"]) for o in rendered if o["kind"] in ("Role", "ClusterRole")}
    bindings = [o for o in rendered if o["kind"].endswith("Binding")]
    assert {(b["roleRef"]["kind"], b["roleRef"]["name"]) for b in bindings} == roles
    for binding in bindings:
        subject, = binding["subjects"]
        assert subject["name"] in DEPLOYMENTS
        assert (subject["kind"], subject["namespace"]) == ("ServiceAccount", names.NAMESPACE)


def test_nobody_reaches_a_builder_and_no_builder_reaches_cloud_credentials(rendered: Rendered) -> None:
    policy = one(rendered, "NetworkPolicy", "imagecache-builders")["spec"]
    assert policy["podSelector"]["matchLabels"] == {names.LABEL_COMPONENT: names.COMPONENT_BUILDER}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in policy
    blocks = [to["ipBlock"] for rule in policy["egress"] for to in rule["to"]]
    assert "169.254.0.0/16" in [e for b in blocks for e in b["except"]]


def test_everybody_reaches_a_server_and_it_reaches_nobody(rendered: Rendered) -> None:
    policy = one(rendered, "NetworkPolicy", "imagecache-servers")["spec"]
    assert policy["podSelector"]["matchLabels"] == {names.LABEL_COMPONENT: names.COMPONENT_SERVER}
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    # Nodes come with their own addresses, which no selector knows.
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": server.PORT}]}]
    assert "egress" not in policy


def test_servers_only_read_what_builders_have_written(rendered: Rendered) -> None:
    shipped = one(rendered, "ConfigMap", server.CONFIG_MAP)
    assert shipped["metadata"]["namespace"] == names.NAMESPACE
    config = yaml.safe_load(shipped["data"][server.CONFIG_KEY])
    assert config["http"]["addr"] == f":{server.PORT}"
    assert config["storage"] == {
        "filesystem": {"rootdirectory": names.VOLUME_PATH},
        "maintenance": {"readonly": {"enabled": True}, "uploadpurging": {"enabled": False}},
    }
    assert config["health"]["storagedriver"]["enabled"] is True
    assert "auth" not in config


def test_images_for_servers_and_warmers_are_named(rendered: Rendered) -> None:
    env = {e["name"]: e.get("value") for e in container(rendered)["env"]}
    assert (env["IMAGECACHE_SERVER_IMAGE"], env["IMAGECACHE_WARMER_IMAGE"]) in (
        ("registry:3", "registry.k8s.io/pause:3.10"), (SERVER_IMAGE, WARMER_IMAGE),
    )


def test_the_crd_is_installed_too(rendered: Rendered) -> None:
    committed = yaml.safe_load((REPOSITORY / "crds" / "imagecache.dev_imagecaches.yaml").read_text())
    assert one(rendered, "CustomResourceDefinition") == committed
