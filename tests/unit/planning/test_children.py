# SPDX-License-Identifier: Apache-2.0
"""The manifests of the children: what Pod Security `restricted` and serverless ("autopilot") clusters ask for."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from imagecache_operator import names
from imagecache_operator.api.job import GIB, BuildJob
from imagecache_operator.api.warming import WarmNodes
from imagecache_operator.builder.command import builder
from imagecache_operator.planning.children import builder_pod, server, volume, warmer
from imagecache_operator.planning.children.applied import version

from .facts import DIGEST, HOME, IMAGES, SETTINGS, UID, VOLUME, cache, spec

LONGEST = "a" + "b" * 126 + "c"  # 128 characters
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


def pod(name: str = "ml", attempt: int = 1, **settings: Any) -> Any:
    return builder_pod.manifest(
        cache(name=name), attempt, ("linux/amd64", "linux/arm64"), HOME, SETTINGS.model_copy(update=settings),
    )


def claim(**fields: Any) -> Any:
    given = {"size_gib": 20, "storage_class": None, **fields}
    return volume.manifest(cache(), home_uid=HOME, namespace=SETTINGS.namespace, **given)


def serving(name: str = "ml", *, password: bool = False, **settings: Any) -> Any:
    """The Service and the Deployment."""
    return server.manifests(cache(name=name), HOME, SETTINGS.model_copy(update=settings), password=password)


CACHED: dict[str, str | None] = {IMAGES[0]: f"localhost:31234/carrier/a@{DIGEST}", IMAGES[1]: None}


def warming(name: str = "ml", images: dict[str, str | None] = CACHED, nodes: Any = None, **settings: Any) -> Any:
    """The DaemonSet."""
    return warmer.manifest(
        cache(name=name), WarmNodes(**(nodes or {})), images, HOME, SETTINGS.model_copy(update=settings),
    )


RULES: dict[str, Callable[[Any, Any], bool]] = {
    # Pod Security `restricted`
    "not root": lambda p, c: p["securityContext"]["runAsNonRoot"] is True and p["securityContext"]["runAsUser"] > 0,
    "seccomp": lambda p, c: p["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault",
    "no capabilities": lambda p, c: c["securityContext"]["capabilities"] == {"drop": ["ALL"]},
    "no escalation": lambda p, c: c["securityContext"]["allowPrivilegeEscalation"] is False,
    "no privilege": lambda p, c: "privileged" not in c["securityContext"],
    "no host namespaces": lambda p, c: not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(p),
    "only harmless volumes": lambda p, c: all(
        set(v) - {"name"} <= {"persistentVolumeClaim", "configMap", "secret"} for v in p["volumes"]
    ),
    # serverless clusters
    "no host ports": lambda p, c: "ports" not in c,
    "requests are limits": lambda p, c: c["resources"]["requests"] == c["resources"]["limits"],
    "cpu and memory are bounded": lambda p, c: set(c["resources"]["limits"]) == {"cpu", "memory"},
    "no service account token": lambda p, c: p["automountServiceAccountToken"] is False,
    "no tie to a node": lambda p, c: not {"nodeName", "nodeSelector", "tolerations"} & set(p),
    # ours
    "read-only root": lambda p, c: c["securityContext"]["readOnlyRootFilesystem"] is True,
    "one try for each Pod": lambda p, c: p["restartPolicy"] == "Never",
    "an end": lambda p, c: p["activeDeadlineSeconds"] == 6 * 3600,
    "one container": lambda p, c: len(p["containers"]) == 1 and "initContainers" not in p,
    "the server can read what it writes": lambda p, c: p["securityContext"]["fsGroup"] == 65534,
    "a large volume is not walked": lambda p, c: p["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch",
    "no names of services in its environment": lambda p, c: p["enableServiceLinks"] is False,
}


@pytest.mark.parametrize("rule", RULES)
def test_a_builder_asks_for_nothing_that_is_refused(rule: str) -> None:
    spec = pod()["spec"]
    assert RULES[rule](spec, spec["containers"][0])


# What a server shares with a builder; it lives for ever, listens, and bursts.
OF_BUILDERS = (
    "no host ports", "requests are limits", "cpu and memory are bounded", "one try for each Pod", "an end",
)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in OF_BUILDERS])
def test_a_server_asks_for_nothing_that_is_refused(rule: str) -> None:
    spec = serving()[1]["spec"]["template"]["spec"]
    assert RULES[rule](spec, spec["containers"][0])


def test_a_server_only_reads_and_is_never_silent() -> None:
    deployment = serving()[1]["spec"]
    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    spec = deployment["template"]["spec"]
    container, = spec["containers"]
    assert all(mount["readOnly"] for mount in container["volumeMounts"])
    assert spec["volumes"][0]["persistentVolumeClaim"] == {"claimName": VOLUME, "readOnly": True}
    assert spec["terminationGracePeriodSeconds"] <= 10
    assert "hostPort" not in container["ports"][0]
    assert container["resources"]["limits"]["memory"]
    for probe, longest in (("readinessProbe", 10), ("livenessProbe", 60)):
        asked = container[probe]
        assert asked["httpGet"] == {"path": "/", "port": server.PORT}
        assert asked["failureThreshold"] * (asked["periodSeconds"] + asked["timeoutSeconds"]) <= longest


def test_a_server_with_passwords_does_not_start_without_them() -> None:
    spec = serving(password=True)[1]["spec"]["template"]["spec"]
    container, = spec["containers"]
    secret, = (v["secret"] for v in spec["volumes"] if "secret" in v)
    assert secret == {"secretName": names.server_name(HOME, UID)}, "not optional"
    mount, = (m for m in container["volumeMounts"] if m["name"] == "passwords")
    assert "subPath" not in mount, "a changed file would never be seen"
    env = {e["name"]: e["value"] for e in container["env"]}
    assert env["REGISTRY_AUTH"] == "htpasswd"
    assert env["REGISTRY_AUTH_HTPASSWD_PATH"] == f"{mount['mountPath']}/htpasswd"
    assert "REGISTRY_AUTH" not in {e["name"] for e in serving()[1]["spec"]["template"]["spec"]["containers"][0]["env"]}


def test_the_servers_service_leads_to_its_pods() -> None:
    service, deployment = serving()
    assert service["metadata"]["name"] == deployment["metadata"]["name"] == names.server_name(HOME, UID)
    assert service["spec"]["type"] == "NodePort"
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]):
        assert selector[names.LABEL_CACHE] == UID
        assert selector.items() <= labels.items()
    port, = service["spec"]["ports"]
    assert port["targetPort"] == deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
    assert "nodePort" not in port, "the API server's choice, which no apply may change"


def test_a_server_with_a_host_name_has_an_ingress_before_its_service() -> None:
    service, ingress, deployment = serving(server_domain="caches.example.com")
    assert [m["kind"] for m in (service, ingress, deployment)] == ["Service", "Ingress", "Deployment"]
    assert service["spec"]["type"] == "ClusterIP"
    assert deployment == serving()[1], "its Pod goes on when the setting is changed"
    name, host = names.server_name(HOME, UID), f"{names.server_name(HOME, UID)}.caches.example.com"
    assert {**ingress["metadata"], "annotations": {}} == {**service["metadata"], "annotations": {}}
    rule, = ingress["spec"]["rules"]
    path, = rule["http"]["paths"]
    assert (rule["host"], path["path"], path["pathType"]) == (host, "/", "Prefix")
    assert path["backend"]["service"] == {"name": name, "port": {"name": service["spec"]["ports"][0]["name"]}}
    assert ingress["spec"]["tls"] == [{"hosts": [host]}]
    assert "ingressClassName" not in ingress["spec"]


def test_an_ingress_is_as_the_settings_say_and_its_version_says_so() -> None:
    plain = serving(server_domain="caches.example.com")[1]
    annotations = {"cert-manager.io/cluster-issuer": "caches", "a": "b"}
    made = serving(
        server_domain="caches.example.com", server_ingress_class="internal", server_tls_secret="wildcard",
        server_ingress_annotations=annotations,
    )[1]
    assert made["spec"]["ingressClassName"] == "internal"
    assert made["spec"]["tls"] == [{"hosts": plain["spec"]["tls"][0]["hosts"], "secretName": "wildcard"}]
    assert annotations.items() <= made["metadata"]["annotations"].items()
    assert made["metadata"]["annotations"][names.ANNOTATION_CACHE_NAME] == "ml"
    assert version(made) != version(plain)


def test_a_server_runs_the_image_of_the_settings_and_its_version_says_so() -> None:
    before, after = serving(), serving(server_image="elsewhere/registry:3.1", namespace="imagecache-system")
    assert after[1]["spec"]["template"]["spec"]["containers"][0]["image"] == "elsewhere/registry:3.1"
    assert version(after[1]) != version(before[1])
    assert version(after[0]) == version(before[0])
    assert serving() == before


# What a warmer shares with a builder; it may be tied to nodes, lives for ever, and only holds images.
NOT_OF_WARMERS = (
    "only harmless volumes", "requests are limits", "cpu and memory are bounded", "no tie to a node",
    "one try for each Pod", "an end", "one container", "the server can read what it writes",
    "a large volume is not walked",
)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule not in NOT_OF_WARMERS])
def test_a_warmer_asks_for_nothing_that_is_refused(rule: str) -> None:
    spec = warming()["spec"]["template"]["spec"]
    assert spec["containers"]
    assert all(RULES[rule](spec, container) for container in spec["containers"])


def test_a_warmer_takes_each_images_carrier_before_it_and_mounts_the_image_alone() -> None:
    spec = warming()["spec"]["template"]["spec"]
    assert [(v["name"], v["image"]["reference"]) for v in spec["volumes"]] == [
        ("carrier-0", CACHED[IMAGES[0]]), ("image-0", IMAGES[0]), ("image-1", IMAGES[1]),
    ], "kubelet pulls them in this order"
    assert all(set(v) == {"name", "image"} and v["image"]["pullPolicy"] == "IfNotPresent" for v in spec["volumes"])
    mounts = {c["name"]: c["volumeMounts"] for c in spec["containers"]}
    assert mounts == {
        name: [{"name": name, "mountPath": warmer.MOUNT_PATH, "readOnly": True}] for name in ("image-0", "image-1")
    }


def test_a_warmer_is_small_and_in_nobodys_way() -> None:
    daemon_set = warming(images={f"image-{n}": None for n in range(20)}, warmer_image="elsewhere/pause:1")["spec"]
    spec = daemon_set["template"]["spec"]
    assert daemon_set["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "100%"}
    assert spec["terminationGracePeriodSeconds"] == 1
    assert not {"priorityClassName", "initContainers", "serviceAccountName"} & set(spec)
    assert len(spec["containers"]) == 20
    for container in spec["containers"]:
        assert container["image"] == "elsewhere/pause:1"
        assert container["resources"]["requests"] == {"cpu": "1m", "memory": "2Mi"}
        assert container["resources"]["limits"]["memory"]
    assert daemon_set["template"]["metadata"]["annotations"][names.ANNOTATION_CACHE] == names.NONE


def test_a_warmers_pods_are_its_own_and_wake_nobody() -> None:
    labels = warming()["spec"]["template"]["metadata"]["labels"]
    assert warming()["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert labels[names.LABEL_CACHE] == UID
    assert names.LABEL_HOME not in labels, "the operator watches what carries it"


@pytest.mark.parametrize(("nodes", "selector", "tolerations"), [
    ({}, {"kubernetes.io/os": "linux"}, []),
    ({"node_selector": {"gpu": "true"}}, {"kubernetes.io/os": "linux", "gpu": "true"}, []),
    ({"node_selector": {"kubernetes.io/os": "other"}}, {"kubernetes.io/os": "other"}, []),
    (
        {"tolerations": ({"key": "gpu", "operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute"})},
        {"kubernetes.io/os": "linux"},
        [{"key": "gpu", "operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute"}],
    ),
])
def test_a_warmer_goes_where_it_is_wanted(nodes: Any, selector: dict[str, str], tolerations: list[Any]) -> None:
    spec = warming(nodes=nodes)["spec"]["template"]["spec"]
    assert (spec["nodeSelector"], spec["tolerations"]) == (selector, tolerations)


def test_settings_reach_the_builder() -> None:
    made = pod(builder_cpu="2", builder_memory="1Gi", builder_deadline=timedelta(minutes=3), namespace="elsewhere")
    assert made["metadata"]["namespace"] == "elsewhere"
    assert made["spec"]["activeDeadlineSeconds"] == 180
    assert made["spec"]["containers"][0]["resources"]["limits"] == {"cpu": "2", "memory": "1Gi"}
    assert made["spec"]["containers"][0]["image"] == "operator:test"


@pytest.mark.parametrize(("settings", "expected"), [
    ({}, {"workers": 3, "connections": None, "retries": 4, "stall_timeout": 30}),
    (
        {"builder_workers": 8, "builder_connections": 2, "builder_retries": 0,
         "builder_stall_timeout": timedelta(seconds=1.5)},
        {"workers": 8, "connections": 2, "retries": 0, "stall_timeout": 1.5},
    ),
])
def test_limits_reach_the_builder_as_its_own_options(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    command, *options = pod(**settings)["spec"]["containers"][0]["args"]
    understood = builder.make_context(command, options).params
    assert command == "builder"
    assert {name: understood[name] for name in expected} == expected


def test_the_proxy_is_named_by_a_secret_that_need_not_exist() -> None:
    env = {e["name"]: e for e in pod(registry_proxy="ours")["spec"]["containers"][0]["env"]}
    for key in ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        assert env[key]["valueFrom"] == {"secretKeyRef": {"name": "ours", "key": key, "optional": True}}


def test_the_builder_can_read_its_job() -> None:
    container = pod(plain_http_registries=("r.test:5000",))["spec"]["containers"][0]
    env = {e["name"]: e.get("value") for e in container["env"]}
    job = BuildJob.model_validate_json(env[names.ENV_JOB])
    assert job.images == IMAGES
    assert job.platforms == ("linux/amd64", "linux/arm64")
    assert job.capacity == 20 * GIB
    assert job.plain_http == ("r.test:5000",)


def test_the_builder_mounts_the_volume_that_is_made_for_it() -> None:
    made = pod()["spec"]
    mounts = {m["name"]: m["mountPath"] for m in made["containers"][0]["volumeMounts"]}
    assert mounts["cache"] == names.VOLUME_PATH
    assert made["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim()["metadata"]["name"] == VOLUME
    assert made["volumes"][1]["configMap"]["optional"] is True, "a cluster without extra authorities is fine"


def test_a_builder_without_a_valid_spec_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="valid spec"):
        builder_pod.manifest(cache(spec=None), 1, ("linux/amd64",), HOME, SETTINGS)


@pytest.mark.parametrize("name", ["ml", LONGEST])
def test_a_long_name_never_becomes_a_label_or_a_name(name: str) -> None:
    made = [
        pod(name, attempt=10**6),
        volume.manifest(cache(name=name), 20, None, HOME, SETTINGS.namespace),
        *serving(name), warming(name),
    ]
    for meta in (m["metadata"] for m in made):
        assert DNS_LABEL.fullmatch(meta["name"])
        assert all(LABEL_VALUE.fullmatch(v) for v in meta["labels"].values())
        assert meta["annotations"][names.ANNOTATION_CACHE_NAME] == name


def test_children_are_found_by_their_labels_and_owned_by_the_cache() -> None:
    wanted = dict(term.split("=") for term in names.managed_selector(HOME).split(","))
    for meta in (m["metadata"] for m in (pod(), claim(), *serving(), warming())):
        assert wanted.items() <= meta["labels"].items()
        assert meta["labels"][names.LABEL_CACHE] == UID
        owner, = meta["ownerReferences"]
        assert (owner["kind"], owner["name"], owner["uid"]) == ("ImageCache", "ml", UID)
        assert "blockOwnerDeletion" not in owner


def test_the_claim_is_what_was_asked_for() -> None:
    plain = claim()["spec"]
    assert plain["accessModes"] == ["ReadWriteOnce"]
    assert plain["resources"]["requests"]["storage"] == "20Gi"
    assert "storageClassName" not in plain, "absent is the default class; an empty one would be none"
    assert claim(storage_class="fast", size_gib=400)["spec"]["storageClassName"] == "fast"
    assert claim(size_gib=400)["spec"]["resources"]["requests"]["storage"] == "400Gi"


def test_manifests_are_plain_json() -> None:
    for made in (pod(), claim(), *serving(), warming()):
        assert json.loads(json.dumps(made)) == made


def test_the_longest_spec_fits_into_a_pod() -> None:
    images = tuple(f"registry.example/{n:02}/{'x' * 200}/{'y' * 200}:{'t' * 80}" for n in range(20))
    made = builder_pod.manifest(cache(spec=spec(images=images)), 1, ("linux/amd64",), HOME, SETTINGS)
    assert len(json.dumps(made)) < 64 * 1024
