# SPDX-License-Identifier: Apache-2.0
"""What the operator relies on of an API server: the webhook's Secret and its registration, as they are applied."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from imagecache_operator.cluster.api import Api, Conflict, Object
from imagecache_operator.controller.certificates import renewed
from imagecache_operator.controller.injection import CONFIGURATION, SECRET_TYPE
from imagecache_operator.planning.children.registration import manifest as registration_of
from imagecache_operator.planning.webhook import Renewal, service_names

from .objects import made, of
from .stages import Stage

Names = Callable[[], str]
ALL = Renewal("all", authority=True, server=True)


def certificate(stage: Stage, name: str, **metadata: Any) -> Object:
    """The Secret, with a certificate that is another one each time."""
    files = renewed({}, ALL, service_names(stage.namespace), datetime.now(UTC).replace(microsecond=0))
    return {
        "apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE,
        "metadata": {"name": name, "namespace": stage.namespace, **metadata},
        "data": {key: base64.b64encode(content).decode() for key, content in files.items()},
    }


def test_a_certificate_that_was_created_is_replaced_by_apply(api: Api, stage: Stage, name: Names) -> None:
    called = name()
    first = made(api, certificate(stage, called))["metadata"]
    read = {"uid": first["uid"], "resourceVersion": first["resourceVersion"]}
    second = certificate(stage, called, **read)
    api.apply(second)
    found = of(api.get("Secret", called, stage.namespace))
    assert found["data"] == second["data"]
    assert found["type"] == SECRET_TYPE
    with pytest.raises(Conflict):
        api.apply(certificate(stage, called, **read))
    assert of(api.get("Secret", called, stage.namespace))["data"] == second["data"]


@pytest.fixture
def registration(api: Api, stage: Stage, name: Names) -> Iterator[Object]:
    """Under another name and for another Service, so that it is nobody's business in a real cluster."""
    uid = of(api.get("Namespace", stage.namespace))["metadata"]["uid"]
    bundle = base64.b64decode(certificate(stage, "none")["data"]["ca.crt"]).decode()
    manifest: Any = registration_of(stage.namespace, uid, bundle)
    manifest["metadata"]["name"] = f"{stage.namespace}-{name()}"
    yield manifest
    api.delete(CONFIGURATION, manifest["metadata"]["name"])


def test_a_registration_comes_back_as_it_was_applied(api: Api, registration: Any) -> None:
    """What the operator compares: else it would write for ever. And the API server has understood the CEL."""
    api.apply(registration)
    found = of(api.get(CONFIGURATION, registration["metadata"]["name"]))
    assert len(found["webhooks"]) == len(registration["webhooks"]) == 2
    for said, there in zip(registration["webhooks"], found["webhooks"], strict=True):
        assert {key: there.get(key) for key in said} == said
    assert found["metadata"]["ownerReferences"] == registration["metadata"]["ownerReferences"]


def test_a_registration_is_put_right_by_another_apply(api: Api, stage: Stage, registration: Any) -> None:
    api.apply(registration)
    name = registration["metadata"]["name"]
    first = of(api.get(CONFIGURATION, name))
    api.apply(registration)
    assert of(api.get(CONFIGURATION, name)) == first, "the same is no write"

    def revert(found: Any) -> None:
        for webhook in found["webhooks"]:
            webhook["clientConfig"].pop("caBundle")
            webhook["namespaceSelector"] = {"matchLabels": {"a": "b"}}
            webhook["objectSelector"] = {"matchLabels": {"a": "b"}}

    stage.edit(CONFIGURATION, name, revert)
    api.apply(registration)
    for said, there in zip(registration["webhooks"], of(api.get(CONFIGURATION, name))["webhooks"], strict=True):
        assert {key: there.get(key) for key in said} == said
