# SPDX-License-Identifier: Apache-2.0
"""deploy/components/host-names adds host names for servers to an installation, the right they need, and no other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from imagecache_operator import names
from imagecache_operator.cluster.api import RESOURCES
from imagecache_operator.settings import PREFIX, Settings

from tests.cluster import Cluster
from tests.support.install import REPOSITORY

pytestmark = pytest.mark.e2e  # kubectl is the cluster's; nothing is applied

DEPLOY = REPOSITORY / "deploy"
COMPONENT = DEPLOY / "components" / "host-names"
INGRESSES = {
    "apiGroups": ["networking.k8s.io"], "resources": ["ingresses"],
    "verbs": ["list", "watch", "create", "patch", "delete"],
}


def rendered(cluster: Cluster, folder: Path) -> list[Any]:
    return list(yaml.safe_load_all(cluster.kubectl("kustomize", str(folder))))


@pytest.fixture(scope="module", params=["default", "local"])
def base(request: pytest.FixtureRequest) -> Path:
    return DEPLOY / str(request.param)


@pytest.fixture(scope="module")
def plain(cluster: Cluster, base: Path) -> list[Any]:
    return rendered(cluster, base)


@pytest.fixture(scope="module")
def with_names(cluster: Cluster, base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    folder = tmp_path_factory.mktemp("overlay").resolve()
    (folder / "kustomization.yaml").write_text(yaml.safe_dump({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [os.path.relpath(base, folder)], "components": [os.path.relpath(COMPONENT, folder)],
    }))
    return rendered(cluster, folder)


def key(manifest: Any) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


def variables(manifests: list[Any]) -> dict[str, str]:
    deployment, = (m for m in manifests if key(m) == ("Deployment", "imagecache-operator"))
    container, = deployment["spec"]["template"]["spec"]["containers"]
    return {v["name"]: v.get("value", names.NAMESPACE) for v in container["env"]}


def test_it_adds_one_right_in_the_operators_own_namespace(plain: list[Any], with_names: list[Any]) -> None:
    added = {key(m): m for m in with_names if key(m) not in {key(p) for p in plain}}
    role, binding = (added.pop((kind, "imagecache-host-names")) for kind in ("Role", "RoleBinding"))
    assert added == {}
    assert {m["metadata"]["namespace"] for m in (role, binding)} == {names.NAMESPACE}
    assert role["rules"] == [INGRESSES]
    assert INGRESSES["resources"] == [RESOURCES["Ingress"].plural]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"] == [
        {"kind": "ServiceAccount", "name": "imagecache-operator", "namespace": names.NAMESPACE},
    ]


def test_without_it_nothing_is_said_of_ingresses(plain: list[Any]) -> None:
    granted = {resource for m in plain for rule in m.get("rules") or [] for resource in rule["resources"]}
    assert "ingresses" not in granted
    assert f"{PREFIX}SERVER_DOMAIN" not in variables(plain)


def test_it_sets_a_domain_and_leaves_all_else_as_it_was(plain: list[Any], with_names: list[Any]) -> None:
    before, after = variables(plain), variables(with_names)
    assert before.items() < after.items()
    assert set(after) - set(before) == {f"{PREFIX}SERVER_DOMAIN"}
    assert Settings.from_environment(after).server_domain == "caches.example.com"


def test_the_variables_that_it_only_mentions_are_settings_too() -> None:
    """They are comments there, to be made use of by a person: as they are, they have to be right."""
    text = (COMPONENT / "settings.yaml").read_text()
    uncommented = yaml.safe_load(text.replace("# - name", "- name").replace("#   value", "  value"))
    container, = uncommented["spec"]["template"]["spec"]["containers"]
    given = {v["name"]: v["value"] for v in container["env"]}
    assert len(given) == 4
    found = Settings.from_environment({f"{PREFIX}BUILDER_IMAGE": "operator:1", **given})
    assert {f"{PREFIX}{field.upper()}" for field in found.model_fields_set} == {f"{PREFIX}BUILDER_IMAGE", *given}
    assert found.server_ingress_annotations
