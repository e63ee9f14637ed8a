# SPDX-License-Identifier: Apache-2.0
"""Pods of tests: what is asked for is where Kubernetes and the webhook look for it."""

from __future__ import annotations

from typing import Any

import pytest
from imagecache_operator import names

from tests.support import pods


def template(manifest: dict[str, Any]) -> dict[str, Any]:
    return dict(manifest["spec"]["template"] if manifest["kind"] == "Deployment" else manifest)


@pytest.mark.parametrize("make", [pods.pod, pods.deployment])
def test_a_cache_is_asked_for_by_the_pod_itself(make: Any) -> None:
    assert "annotations" not in template(make("a", "image"))["metadata"]
    manifest = make("a", "image", cache="ml", node="n1", namespace="team", command=["/bin/sh"])
    found = template(manifest)
    assert found["metadata"]["annotations"] == {names.ANNOTATION_CACHE: "ml"}
    assert found["spec"]["nodeSelector"] == {"kubernetes.io/hostname": "n1"}
    assert found["spec"]["containers"][0]["command"] == ["/bin/sh"]
    assert manifest["metadata"]["namespace"] == "team"
    assert pods.LABEL in found["metadata"]["labels"]


def test_a_deployment_selects_its_pods() -> None:
    manifest = pods.deployment("a", "image")
    assert manifest["spec"]["selector"]["matchLabels"] == template(manifest)["metadata"]["labels"]
    assert "annotations" not in manifest["metadata"], "the webhook does not see a Deployment's own"


def test_restricted_namespaces_take_them() -> None:
    """Pod Security's own list of what must be said."""
    spec = pods.pod("a", "image")["spec"]
    container = spec["containers"][0]["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
