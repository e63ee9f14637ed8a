# SPDX-License-Identifier: Apache-2.0
"""The API server and the models agree on what a spec may say: else a cache would be taken and then not understood.

Documents go to a real API server with a dry run; the kind is ImageCache's double, so that no operator answers.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imagecache_operator.api import reference
from imagecache_operator.api.imagecache import MAX_NAME_LENGTH, NAME_PATTERN, Spec
from imagecache_operator.cluster.api import RESOURCES
from kubernetes import client, config
from pydantic import ValidationError

from tests.cluster import Cluster
from tests.conformance.stages import DOUBLE, GROUP, RealStage, define_double, double_resource

pytestmark = pytest.mark.e2e

D = "sha256:" + "a" * 64
UID = "8b3b4b2d-1111-4222-8333-444455556666"
SIZES = [19, 20, 21, 400, 401, 0, -1]


class Server:
    """Asks a real API server what it thinks of a document."""

    def __init__(self, cluster: Cluster) -> None:
        configuration = client.Configuration()
        config.load_kube_config(str(cluster.kubeconfig), client_configuration=configuration)
        self._api = client.ApiClient(configuration)

    def refusal(self, spec: Any, name: str = "a-name") -> str:
        """Why it would not be created; empty if it would."""
        return self._ask("POST", double_resource().path(), {"metadata": {"name": name}, "spec": spec})

    def refusal_of_edit(self, before: Any, spec: Any) -> str:
        """Why the object could not become this; empty if it could."""
        meta = {k: before["metadata"][k] for k in ("name", "uid", "resourceVersion")}
        path = double_resource().path(name=meta["name"])
        return self._ask("PUT", path, {"metadata": meta, "spec": spec})

    def _ask(self, method: str, path: str, document: Any) -> str:
        request = self._api.param_serialize(
            method, path, query_params=[("dryRun", "All"), ("fieldValidation", "Strict")],
            body={"apiVersion": f"{GROUP}/v1alpha1", "kind": DOUBLE, **document}, auth_settings=["BearerToken"],
            header_params={"Accept": "application/json", "Content-Type": "application/json"},
        )
        response = self._api.call_api(*request, _request_timeout=(5, 20))
        answer = json.loads(response.read())
        assert response.status in (200, 201, 400, 422), answer
        return "" if response.status < 300 else str(answer["message"])


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[RealStage]:
    define_double()
    found = RealStage(cluster)
    yield found
    found.close()
    del RESOURCES[DOUBLE]


@pytest.fixture(scope="module")
def server(stage: RealStage, cluster: Cluster) -> Server:
    return Server(cluster)


def fits_the_model(spec: Any) -> bool:
    try:
        Spec.model_validate(spec)
    except ValidationError:
        return False
    return True


def images(*found: Any, **more: Any) -> dict[str, Any]:
    return {"images": list(found), **more}


def building(**fields: Any) -> dict[str, Any]:
    return images("busybox", buildingConfig=fields)


DOCUMENTS: list[Any] = [
    {}, {"images": []}, {"images": "busybox"}, {"images": {}}, images(1), images(""),
    *(images(i) for i in (
        "busybox", "busybox:1.36", f"busybox@{D}", f"reg.example:5000/a/b:1@{D}", "localhost/app", "registry:80/app",
        "[::1]:5000/app", "Registry.Example/app:V1", "a" * 64, "UPPER/case", "upper/Case", "https://reg.example/app",
        "reg.example/app:", "reg.example/app@sha256:short", " busybox", "busybox\n", "a b", "reg.example//app", "-app",
        "app-", "a..b/c", "reg.example/" + "a" * 500, "reg.example/" + "a" * 501, "é", "busybox:" + "t" * 128,
        "busybox:" + "t" * 129, f"busybox@sha512:{'a' * 128}", "reg.example:99999/app", "reg.example:123456/app",
    )),
    images(*(f"image-{n}" for n in range(20))), images(*(f"image-{n}" for n in range(21))),
    *(images("busybox", imageCacheSize=s) for s in SIZES),
    *(images("busybox", retentionDays=d) for d in (0, 1, 10000, 10001, -1)),
    images("busybox", imageCacheSize=20.5), images("busybox", imageCacheSize=20.0),
    images("busybox", storageClassName=None), images("busybox", buildingConfig=None),
    *(images("busybox", storedAs=s) for s in ("Decompressed", "Original", "decompressed", "")),
    *(images("busybox", onExpiry=e) for e in ("Delete", "Release", "Keep", "")),
    *(images("busybox", storageClassName=c) for c in ("fast", "", "a" * 253, "a" * 254)),
    building(), building(cluster=UID), building(cluster=UID.upper()), building(cluster=""), building(cluster=UID + "0"),
    *(building(imagePullSecrets=s) for s in (
        [], ["team-a:regcred"], ["a:b", "c:d"], ["regcred"], [":b"], ["a:"], ["a:b:c"], ["A:b"], ["a/b:c"],
        ["a" * 63 + ":" + "b" * 253], ["a" * 64 + ":b"], ["a:" + "b" * 254], [f"a:s{n}" for n in range(20)],
        [f"a:s{n}" for n in range(21)], "a:b",
    )),
    images("busybox", buildingConfig=[]),
]


@pytest.mark.parametrize("spec", DOCUMENTS, ids=lambda spec: json.dumps(spec)[:70])
def test_both_take_or_refuse_it(server: Server, spec: Any) -> None:
    refusal = server.refusal(spec)
    assert (refusal == "") is fits_the_model(spec), refusal


# Where they differ, and why that is right: the document, whether the API server takes it, whether the model does.
DIFFERENCES: list[tuple[Any, bool, bool]] = [
    # Strict field validation catches typing errors; the model must bear fields of newer versions.
    (images("busybox", imageCacheSiz=20), False, True),
    (building(imagePullSecret=["a:b"]), False, True),
    # Rules of CEL, which stand for whole lists.
    (images("busybox", "busybox"), False, True),
    (building(imagePullSecrets=["a:b", "a:b"]), False, True),
    # JSON types: the model is generous, and never sees what the server has refused.
    (images("busybox", imageCacheSize="20"), False, True),
    # null: the server writes the default in its place, so the model never sees it.
    (images("busybox", imageCacheSize=None), True, False),
]


@pytest.mark.parametrize(("spec", "server_takes", "model_takes"), DIFFERENCES, ids=lambda v: json.dumps(v)[:60])
def test_known_differences(server: Server, spec: Any, server_takes: bool, model_takes: bool) -> None:
    assert (server.refusal(spec) == "") is server_takes
    assert fits_the_model(spec) is model_takes


WORDS = st.text(st.sampled_from("ab1-._/:@[]A \u00e9"), max_size=24)
REFERENCES = st.one_of(st.from_regex(reference.PATTERN, fullmatch=True).filter(lambda t: len(t) < 600), WORDS)
SPECS = st.fixed_dictionaries(
    {"images": st.lists(REFERENCES, min_size=1, max_size=3, unique=True)},
    optional={
        "imageCacheSize": st.integers(15, 25) | st.integers(395, 405),
        "retentionDays": st.integers(-2, 2) | st.integers(9998, 10002),
        "onExpiry": st.sampled_from(["Delete", "Release", "Never"]),
        "storageClassName": WORDS,
        "buildingConfig": st.fixed_dictionaries({}, optional={
            "cluster": st.just(UID) | WORDS,
            "imagePullSecrets": st.lists(
                st.from_regex(r"[a-c]{1,3}:[a-c.]{1,3}", fullmatch=True) | WORDS, max_size=3, unique=True,
            ),
        }),
    },
)


@settings(
    max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow],
)
@given(spec=SPECS)
def test_both_take_or_refuse_any_document(server: Server, spec: Any) -> None:
    refusal = server.refusal(spec)
    assert (refusal == "") is fits_the_model(spec), refusal


@pytest.mark.parametrize(("name", "taken"), [
    ("a", True), ("ml-images", True), ("a--b", True), ("a" * MAX_NAME_LENGTH, True),
    ("a" * (MAX_NAME_LENGTH + 1), False),
    ("1a", False), ("a-", False), ("-a", False), ("a.b", False), ("A", False), ("a_b", False),
])
def test_names_are_those_of_the_reference_service(server: Server, name: str, taken: bool) -> None:
    refusal = server.refusal(images("busybox"), name)
    assert (refusal == "") is taken, refusal
    assert bool(re.fullmatch(NAME_PATTERN, name)) is taken


@pytest.fixture(scope="module")
def existing(stage: RealStage) -> Any:
    full = images(
        "busybox", imageCacheSize=30, retentionDays=7, storageClassName="fast", onExpiry="Delete",
        buildingConfig={"cluster": UID, "imagePullSecrets": ["a:b"]},
    )
    stage.api.create({
        "apiVersion": f"{GROUP}/v1alpha1", "kind": DOUBLE, "metadata": {"name": "full"}, "spec": full,
    })
    return stage.api.get(DOUBLE, "full")


@pytest.fixture(scope="module")
def small(stage: RealStage) -> Any:
    stage.api.create({
        "apiVersion": f"{GROUP}/v1alpha1", "kind": DOUBLE, "metadata": {"name": "small"}, "spec": images("busybox"),
    })
    return stage.api.get(DOUBLE, "small")


@pytest.mark.parametrize(("change", "words"), [
    ({"retentionDays": 8}, ""),
    ({"retentionDays": None}, ""),
    ({"onExpiry": "Release"}, ""),
    ({"imageCacheSize": 31}, ""),
    ({"buildingConfig": {"cluster": UID}}, ""),
    ({"buildingConfig": {"cluster": UID, "imagePullSecrets": ["a:c"]}}, ""),
    ({"imageCacheSize": 29}, "imageCacheSize cannot shrink"),
    ({"imageCacheSize": None}, "imageCacheSize cannot shrink"),
    ({"images": ["busybox", "alpine"]}, "images cannot change"),
    ({"images": ["alpine"]}, "images cannot change"),
    ({"storageClassName": "slow"}, "storageClassName cannot change"),
    ({"storageClassName": None}, "storageClassName cannot change"),
    ({"buildingConfig": {"cluster": UID.replace("8", "9")}}, "buildingConfig.cluster cannot change"),
    ({"buildingConfig": {}}, "buildingConfig.cluster cannot change"),
    ({"buildingConfig": None}, "buildingConfig.cluster cannot change"),
], ids=lambda v: json.dumps(v)[:60])
def test_edits_of_a_full_spec(server: Server, existing: Any, change: dict[str, Any], words: str) -> None:
    _edit(server, existing, change, words)


@pytest.mark.parametrize(("change", "words"), [
    ({"retentionDays": 8}, ""),
    ({"imageCacheSize": 21}, ""),
    ({"buildingConfig": {}}, ""),
    ({"buildingConfig": {"imagePullSecrets": ["a:b"]}}, ""),
    ({"storageClassName": "fast"}, "storageClassName cannot change"),
    ({"buildingConfig": {"cluster": UID}}, "buildingConfig.cluster cannot change"),
], ids=lambda v: json.dumps(v)[:60])
def test_edits_of_a_small_spec(server: Server, small: Any, change: dict[str, Any], words: str) -> None:
    _edit(server, small, change, words)


def _edit(server: Server, before: Any, change: dict[str, Any], words: str) -> None:
    """`words` are to be in the refusal; without words there is to be none. None takes a field away."""
    spec = {k: v for k, v in {**copy.deepcopy(before["spec"]), **change}.items() if v is not None}
    refusal = server.refusal_of_edit(before, spec)
    assert (refusal == "") is (words == ""), refusal
    assert words in refusal
