# SPDX-License-Identifier: Apache-2.0
"""The command `match`: any file with Pods in it, the cluster's caches, and what a person reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator.__main__ import main
from imagecache_operator.admission.workloads import InvalidFile, workloads
from kubernetes.config import kube_config

from tests.support import scripted_api
from tests.support.scripted_api import ScriptedApi, listed
from tests.unit.planning.offers import TRAIN, cache, pod

CACHES = (
    cache("everything", TRAIN, "busybox", deletionTimestamp="2026-03-01T12:00:00Z"),
    cache("ml-images", TRAIN), cache("older", TRAIN, age=3),
)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedApi]:
    with scripted_api.running([listed("1", *CACHES)]) as found:
        (tmp_path / "kubeconfig").write_text(found.kubeconfig)
        monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "kubeconfig"))
        yield found


def run(text: str | bytes, *options: str) -> Result:
    return CliRunner().invoke(main, ["match", "-f", "-", *options], input=text)


def of(kind: str, template: Any, *path: str, **meta: Any) -> dict[str, Any]:
    inner: Any = template
    for key in reversed(path):
        inner = {key: inner}
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "train", **meta}, **inner}


def template(*images: str, **options: Any) -> dict[str, Any]:
    made = pod(*images, **options)
    return {"metadata": {k: v for k, v in made["metadata"].items() if k == "annotations"}, "spec": made["spec"]}


def test_the_whole_of_an_answer(api: ScriptedApi) -> None:
    found = run(yaml.safe_dump(of("Deployment", template(TRAIN, "busybox"), "spec", "template")))
    assert found.exit_code == 0
    assert found.output == """\
Deployment train: starts from ImageCache ml-images
  registry.example/ml/train:1.4  from the cache (1.0 GiB)
  busybox                        from its registry
  not everything: is being deleted
  not older: has the same as ml-images, but is older
"""


def test_a_miss_and_one_left_alone(api: ScriptedApi) -> None:
    found = run(yaml.safe_dump_all([pod("alpine"), pod(TRAIN, asks="none")]))
    assert found.output.splitlines() == [
        "Pod train-: starts without a cache: no ImageCache for namespace team-a has any of the Pod's images",
        "  alpine  from its registry",
        "  not everything: is being deleted",
        "  not ml-images: has none of the Pod's images",
        "  not older: has none of the Pod's images",
        "",
        "Pod train-: left alone: imagecache.dev/cache is none",
    ]


def test_a_namespace_asks_for_its_pods(api: ScriptedApi) -> None:
    api.namespaces.update(asks={"imagecache.dev/inject": "auto"}, silent={"imagecache.dev/inject": "off"})
    silent = "Pod train-: left alone, nobody asks for a cache."
    asks = "Pod train-: starts from ImageCache ml-images"
    for namespace, options, first in [
        ("asks", (), asks), ("silent", (), silent), ("unknown", (), silent), (None, (), silent),
        (None, ("-n", "asks"), asks), ("silent", ("-n", "asks"), silent),
    ]:
        obj = pod(TRAIN, asks=None)
        obj["metadata"]["namespace"] = namespace
        assert run(json.dumps(obj), *options).output.splitlines()[0] == first


FOR_GOLD = {"allowedNamespaces": {"names": ["team-b"], "selector": {"matchLabels": {"tier": "gold"}}}}


def in_namespace(name: str, **options: Any) -> str:
    asking = pod(TRAIN, **options)
    asking["metadata"]["namespace"] = name
    return json.dumps(asking)


def test_whose_pods_a_cache_is_for(api: ScriptedApi) -> None:
    api.lists = [listed("1", cache("theirs", TRAIN, spec=FOR_GOLD))]
    api.namespaces.update({"team-a": {"tier": "gold"}, "team-b": {}, "team-c": {"tier": "iron"}})
    hit = "Pod train-: starts from ImageCache theirs"
    assert run(in_namespace("team-a")).output.splitlines()[0] == hit
    assert run(in_namespace("team-b")).output.splitlines()[0] == hit
    assert run(in_namespace("team-c", asks="theirs")).output.splitlines() == [
        "Pod train-: starts without a cache: there is no ImageCache theirs for namespace team-c",
        "  registry.example/ml/train:1.4  from its registry",
        "  not theirs: is not for namespace team-c: it is for 1 namespace (team-b) and namespaces with the labels that "
        "spec.allowedNamespaces asks for",
    ]


def test_who_may_not_read_namespaces_is_told_and_goes_by_their_names(api: ScriptedApi) -> None:
    api.lists = [listed("1", cache("theirs", TRAIN, spec=FOR_GOLD))]
    api.namespaces.update({"team-a": {"tier": "gold"}, "team-b": {}})
    api.forbidden.update(api.namespaces)
    for namespace, first in (
        ("team-a", "Pod train-: starts without a cache: there is no ImageCache theirs for namespace team-a"),
        ("team-b", "Pod train-: starts from ImageCache theirs"),
    ):
        found = run(in_namespace(namespace, asks="theirs"))
        assert found.exit_code == 0
        assert found.stdout.splitlines()[0] == first
        assert found.stderr == (
            f"Namespace {namespace} cannot be read: what follows is by its name alone, without its labels (namespaces "
            f'"{namespace}" is forbidden: User "ann" cannot get resource).\n'
        )


def test_who_does_not_ask_is_told_what_would_be(api: ScriptedApi) -> None:
    lines = run(json.dumps(pod(TRAIN, asks=None))).output.splitlines()
    assert lines[1:3] == [
        "With the annotation imagecache.dev/cache: auto it would be:", "Pod train-: starts from ImageCache ml-images",
    ]


@pytest.mark.parametrize(("kind", "path"), [
    ("Deployment", ("spec", "template")), ("StatefulSet", ("spec", "template")), ("DaemonSet", ("spec", "template")),
    ("Job", ("spec", "template")), ("CronJob", ("spec", "jobTemplate", "spec", "template")),
    ("PodTemplate", ("template",)),
])
def test_whatever_makes_pods(kind: str, path: tuple[str, ...]) -> None:
    found = workloads(json.dumps(of(kind, template(TRAIN), *path, namespace="team-a")))
    assert [(w.title, w.namespace, w.pod.images) for w in found] == [(f"{kind} train", "team-a", (TRAIN,))]


def test_several_documents_lists_and_templates_without_metadata() -> None:
    service = {"kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": []}}
    bare = of("Job", {"spec": {"containers": [{"image": "busybox"}]}}, "spec", "template")
    text = yaml.safe_dump_all([service, None, {"kind": "List", "items": [pod(TRAIN), service]}, bare, "words"])
    assert [w.pod.images for w in workloads(text)] == [(TRAIN,), ("busybox",)]


@pytest.mark.parametrize(("text", "words"), [
    ("", "<stdin>: no Pod in it, and nothing with a template of one"),
    ("kind: Service", "<stdin>: no Pod in it, and nothing with a template of one"),
    ("a: b: c", "<stdin>: neither YAML nor JSON: mapping values are not allowed here at line 1"),
    ("\x00", "<stdin>: neither YAML nor JSON"),
    ("[" * 5000, "<stdin>: neither YAML nor JSON"),
    (b"\xff\xfe\x00", "<stdin>: neither YAML nor JSON: it is not text"),
    ("kind: Pod", "<stdin>: Pod (no name) cannot be read: spec: Field required"),
    (json.dumps(of("Job", ["x"], "spec", "template")), "<stdin>: Job train cannot be read: : Input should be"),
    (json.dumps({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"image": 7}]}}),
     "<stdin>: Pod p cannot be read: spec.containers.0.image: Input should be a valid string"),
])
def test_a_file_that_cannot_be_used(text: str | bytes, words: str, api: ScriptedApi) -> None:
    found = run(text)
    assert found.exit_code == 1
    assert found.output.startswith(f"Error: {words}")
    assert len(found.output.splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["match", "-f", str(tmp_path / "none.yaml")])
    assert (found.exit_code, "No such file" in found.output) == (2, True)


def test_a_cluster_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    assert run(json.dumps(pod(TRAIN))).output.startswith("Error: no cluster can be found: ")
    (tmp_path / "none").write_text(ScriptedApi([], [], url="http://127.0.0.1:9").kubeconfig)
    assert run(json.dumps(pod(TRAIN))).output == "Error: the API server cannot be reached: NewConnectionError\n"


@given(st.text(max_size=60) | st.builds(yaml.safe_dump, st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.just("Pod"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["kind", "metadata", "spec", "template", "items", "jobTemplate", "name"]), inner, max_size=4,
    ), max_leaves=12,
)))
def test_any_text_gives_pods_or_a_sentence(text: str) -> None:
    try:
        found = workloads(text)
    except InvalidFile:
        return
    assert found
