# SPDX-License-Identifier: Apache-2.0
"""What the operator relies on of an API server: reading, creating, applying and deleting objects, and logs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from imagecache_operator.cluster.api import Api, Rejected

from .objects import HOLD, claim, double, made, of, pod, secret, server, warmer
from .stages import DOUBLE, Stage

Names = Callable[[], str]


# Reading

def test_what_is_not_there_is_none(api: Api, stage: Stage) -> None:
    assert api.get("Pod", "nobody", stage.namespace) is None
    assert api.get(DOUBLE, "nobody") is None
    assert api.list("Pod", stage.namespace, "a=b") == []


def test_the_clusters_identity_can_be_read(api: Api) -> None:
    assert of(api.get("Namespace", "kube-system"))["metadata"]["uid"]


def test_a_list_is_of_one_namespace_and_one_selector(api: Api, stage: Stage, name: Names) -> None:
    one, two, three = name(), name(), name()
    api.create(claim(stage, one, labels={"who": "me", "what": "a"}))
    api.create(claim(stage, two, labels={"who": "me", "what": "b"}))
    api.create(claim(stage, three))
    kind = "PersistentVolumeClaim"
    found = {c["metadata"]["name"] for c in api.list(kind, stage.namespace, "who=me,what=a")}
    assert found == {one}
    assert {one, two, three} <= {c["metadata"]["name"] for c in api.list(kind, stage.namespace)}
    assert api.list(kind, "default", "who=me,what=a") == []
    assert one in {c["metadata"]["name"] for c in api.list(kind, None, "who=me")}


def test_a_list_of_metadata_leaves_everything_else_where_it_is(api: Api, stage: Stage, name: Names) -> None:
    called = name()
    api.create(secret(stage, called, labels={"whose": called}))
    (found,) = api.list_metadata("Secret", stage.namespace, f"whose={called}")
    assert found["metadata"]["name"] == called
    assert found["metadata"]["labels"] == {"whose": called}
    assert not {"data", "type", "immutable"} & set(found)
    assert api.list_metadata("Secret", "default", f"whose={called}") == []


def test_a_list_by_name_is_of_all_namespaces(api: Api, stage: Stage, name: Names) -> None:
    called, other = name(), name()
    api.create(secret(stage, called))
    api.create(secret(stage, other))
    elsewhere = secret(stage, called)
    elsewhere["metadata"]["namespace"] = "default"
    api.create(elsewhere)
    try:
        found = api.list_named_metadata("Secret", called)
        assert sorted(s["metadata"]["namespace"] for s in found) == sorted(["default", stage.namespace])
        assert {s["metadata"]["name"] for s in found} == {called}
        assert not any("data" in s for s in found)
        assert api.list_named_metadata("Secret", f"{called}-not") == []
    finally:
        api.delete("Secret", called, "default")


# Creating

def test_create_makes_it_once_and_leaves_it_as_it_is(api: Api, stage: Stage, name: Names) -> None:
    called = name()
    first = made(api, claim(stage, called, labels={"n": "1"}))
    assert api.create(claim(stage, called, labels={"n": "2"})) is False
    second = of(api.get("PersistentVolumeClaim", called, stage.namespace))
    assert second["metadata"]["labels"] == {"n": "1"}
    assert second["metadata"]["uid"] == first["metadata"]["uid"]


def test_a_secret_comes_back_as_it_was_made(api: Api, stage: Stage, name: Names) -> None:
    called = name()
    found = made(api, secret(stage, called))
    assert {k: found[k] for k in ("data", "type", "immutable")} == {
        k: secret(stage, called)[k] for k in ("data", "type", "immutable")
    }
    assert api.create(secret(stage, called, labels={"n": "2"})) is False
    api.delete("Secret", called, stage.namespace)
    stage.gone("Secret", called)


def test_a_new_object_has_what_we_tell_objects_apart_by(api: Api, name: Names) -> None:
    meta = made(api, double(name()))["metadata"]
    assert meta["uid"]
    assert meta["resourceVersion"]
    assert meta["generation"] == 1
    assert meta["creationTimestamp"].endswith("Z")
    assert "deletionTimestamp" not in meta


def test_a_name_that_comes_back_is_another_object(api: Api, name: Names) -> None:
    called = name()
    first = made(api, double(called))
    api.delete(DOUBLE, called)
    second = made(api, double(called))
    assert second["metadata"]["uid"] != first["metadata"]["uid"]


@pytest.mark.parametrize("verb", ["create", "apply"])
def test_a_missing_namespace_is_a_refusal(api: Api, stage: Stage, name: Names, verb: str) -> None:
    manifest = claim(stage, name())
    manifest["metadata"]["namespace"] = "no-such-namespace"
    with pytest.raises(Rejected, match="no-such-namespace"):
        getattr(api, verb)(manifest)


def test_what_a_policy_forbids_is_a_refusal_in_its_words(api: Api, stage: Stage, name: Names) -> None:
    with pytest.raises(Rejected, match="PodSecurity"):
        api.create(pod(stage, name(), hostNetwork=True))


# Applying

def test_apply_makes_and_changes(api: Api, stage: Stage, name: Names) -> None:
    called = name()
    api.apply(claim(stage, called, labels={"a": "1"}))
    first = of(api.get("PersistentVolumeClaim", called, stage.namespace))
    api.apply(claim(stage, called, labels={"a": "2"}))
    second = of(api.get("PersistentVolumeClaim", called, stage.namespace))
    assert second["metadata"]["labels"] == {"a": "2"}
    assert second["metadata"]["uid"] == first["metadata"]["uid"]


def test_apply_of_the_same_is_no_write(api: Api, name: Names) -> None:
    manifest = double(name())
    api.apply(manifest)
    first = of(api.get(DOUBLE, manifest["metadata"]["name"]))
    api.apply(manifest)
    assert of(api.get(DOUBLE, manifest["metadata"]["name"])) == first


def test_what_is_no_longer_applied_goes_and_what_others_wrote_stays(api: Api, stage: Stage, name: Names) -> None:
    called = name()
    api.apply(claim(stage, called, labels={"a": "1", "b": "1"}))
    stage.edit("PersistentVolumeClaim", called, lambda o: o["metadata"]["labels"].update(theirs="1"))
    api.apply(claim(stage, called, labels={"a": "1"}))
    found = of(api.get("PersistentVolumeClaim", called, stage.namespace))
    assert found["metadata"]["labels"] == {"a": "1", "theirs": "1"}


def test_apply_takes_over_what_others_hold(api: Api, stage: Stage, name: Names) -> None:
    called = name()
    api.apply(claim(stage, called, labels={"a": "1"}))
    stage.edit("PersistentVolumeClaim", called, lambda o: o["metadata"]["labels"].update(a="theirs"))
    api.apply(claim(stage, called, labels={"a": "2"}))
    found = of(api.get("PersistentVolumeClaim", called, stage.namespace))
    assert found["metadata"]["labels"]["a"] == "2"


def test_a_node_port_is_the_servers_choice_and_stays(api: Api, stage: Stage, name: Names) -> None:
    service, _ = server(stage, name())
    called, annotations = service["metadata"]["name"], service["metadata"]["annotations"]
    api.apply(service)
    first = of(api.get("Service", called, stage.namespace))
    assert 30000 <= first["spec"]["ports"][0]["nodePort"] <= 32767
    api.apply(service)
    assert of(api.get("Service", called, stage.namespace)) == first, "the same is no write"
    api.apply({**service, "metadata": {**service["metadata"], "annotations": {**annotations, "a": "1"}}})
    second = of(api.get("Service", called, stage.namespace))
    assert second["metadata"]["annotations"]["a"] == "1"
    assert second["spec"]["ports"][0]["nodePort"] == first["spec"]["ports"][0]["nodePort"]
    other, _ = server(stage, name())
    api.apply(other)
    port = of(api.get("Service", other["metadata"]["name"], stage.namespace))["spec"]["ports"][0]["nodePort"]
    assert port != first["spec"]["ports"][0]["nodePort"]


def test_a_service_loses_its_node_port_and_gets_one_again(api: Api, stage: Stage, name: Names) -> None:
    uid = name()
    by_port, by_name = server(stage, uid)[0], server(stage, uid, server_domain="caches.example.com")[0]
    for wanted in (by_port, by_name, by_port):
        api.apply(wanted)
        spec = of(api.get("Service", wanted["metadata"]["name"], stage.namespace))["spec"]
        assert spec["type"] == wanted["spec"]["type"]
        assert ("nodePort" in spec["ports"][0]) == (wanted is by_port)


def test_an_ingress_has_the_host_name_that_was_applied_last_and_no_other(
    api: Api, stage: Stage, name: Names,
) -> None:
    uid = name()
    first = server(stage, uid, server_domain="a.example.com", server_ingress_class="internal")[1]
    second = server(stage, uid, server_domain="b.example.com", server_ingress_annotations={"a": "1"})[1]
    called = first["metadata"]["name"]
    for wanted in (first, second):
        api.apply(wanted)
        found = of(api.get("Ingress", called, stage.namespace))
        assert found["spec"] == wanted["spec"]
        api.apply(wanted)
        assert of(api.get("Ingress", called, stage.namespace)) == found, "the same is no write"
        assert ("a" in found["metadata"]["annotations"]) == (wanted is second)
    api.delete("Ingress", called, stage.namespace)
    assert api.get("Ingress", called, stage.namespace) is None


def test_a_deployment_moves_its_generation_only_when_something_else_is_wanted(
    api: Api, stage: Stage, name: Names,
) -> None:
    uid = name()
    _, deployment = server(stage, uid)
    called = deployment["metadata"]["name"]
    for _ in range(2):
        api.apply(deployment)
        assert of(api.get("Deployment", called, stage.namespace))["metadata"]["generation"] == 1
    api.apply(server(stage, uid, image="another")[1])
    found = of(api.get("Deployment", called, stage.namespace))
    assert found["metadata"]["generation"] == 2
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "another"
    api.delete("Deployment", called, stage.namespace)
    stage.gone("Deployment", called)


def test_a_warmer_is_taken_as_it_is_and_changes_only_when_something_else_is_wanted(
    api: Api, stage: Stage, name: Names,
) -> None:
    """Kubelets pull volumes in the order of the list: whatever comes or goes, a carrier stays before its image."""
    uid, longest = name(), "registry.example/" + "a" * 494
    called = warmer(stage, uid, "a")["metadata"]["name"]
    for generation, wanted in enumerate((
        warmer(stage, uid, "a", longest, "c", without_carrier=("a", "c")),
        warmer(stage, uid, "a", longest, "c"),
        warmer(stage, uid, "a", longest, "c", without_carrier=(longest,)),
        warmer(stage, uid, "b", "a"),
    ), start=1):
        for _ in range(2):
            api.apply(wanted)
            found = of(api.get("DaemonSet", called, stage.namespace))
            assert found["metadata"]["generation"] == generation
            assert found["spec"]["template"]["spec"]["volumes"] == wanted["spec"]["template"]["spec"]["volumes"]
    api.delete("DaemonSet", called, stage.namespace)
    stage.gone("DaemonSet", called)


# Deleting

def test_deleting_what_is_not_there_is_fine(api: Api, stage: Stage) -> None:
    api.delete("Pod", "nobody", stage.namespace)
    api.delete(DOUBLE, "nobody", uid="4b9e2a5e-0000-4000-8000-000000000000")


def test_only_the_object_with_that_uid_is_deleted(api: Api, stage: Stage, name: Names) -> None:
    found = made(api, claim(stage, name()))
    called = found["metadata"]["name"]
    api.delete("PersistentVolumeClaim", called, stage.namespace, uid="4b9e2a5e-0000-4000-8000-000000000000")
    assert "deletionTimestamp" not in of(api.get("PersistentVolumeClaim", called, stage.namespace))["metadata"]
    api.delete("PersistentVolumeClaim", called, stage.namespace, uid=found["metadata"]["uid"])
    stage.gone("PersistentVolumeClaim", called)


def test_a_pod_without_a_node_goes_at_once(api: Api, stage: Stage, name: Names) -> None:
    found = made(api, pod(stage, name()))
    api.delete("Pod", found["metadata"]["name"], stage.namespace)
    assert api.get("Pod", found["metadata"]["name"], stage.namespace) is None


def test_a_finalizer_holds_what_is_deleted(api: Api, stage: Stage, name: Names) -> None:
    called = name()
    made(api, claim(stage, called, finalizers=[HOLD]))
    api.delete("PersistentVolumeClaim", called, stage.namespace)
    api.delete("PersistentVolumeClaim", called, stage.namespace)  # asking twice is fine
    held = of(api.get("PersistentVolumeClaim", called, stage.namespace))
    assert held["metadata"]["deletionTimestamp"]
    assert api.create(claim(stage, called)) is False, "its name is taken until it is gone"
    stage.edit("PersistentVolumeClaim", called, lambda o: o["metadata"]["finalizers"].remove(HOLD))
    stage.gone("PersistentVolumeClaim", called)


def test_applying_onto_something_that_goes_away_does_not_keep_it(api: Api, stage: Stage, name: Names) -> None:
    """Why names of children hold the cache's uid, and why a claim on its way out is waited for."""
    called = name()
    made(api, claim(stage, called, finalizers=[HOLD]))
    api.delete("PersistentVolumeClaim", called, stage.namespace)
    api.apply(claim(stage, called, labels={"a": "1"}))
    assert of(api.get("PersistentVolumeClaim", called, stage.namespace))["metadata"]["deletionTimestamp"]
    stage.edit("PersistentVolumeClaim", called, lambda o: o["metadata"]["finalizers"].remove(HOLD))
    stage.gone("PersistentVolumeClaim", called)


def test_what_an_object_owns_goes_with_it(api: Api, stage: Stage, name: Names) -> None:
    owner, owned = made(api, double(name())), name()
    reference = {
        "apiVersion": owner["apiVersion"], "kind": DOUBLE, "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"], "controller": True,
    }
    made(api, claim(stage, owned, ownerReferences=[reference]))
    api.delete(DOUBLE, owner["metadata"]["name"])
    stage.gone("PersistentVolumeClaim", owned)


# Logs

def test_there_is_no_log_without_a_pod_or_before_it_starts(api: Api, stage: Stage, name: Names) -> None:
    assert api.read_log("nobody", stage.namespace, "c", 10) == ""
    called = name()
    made(api, pod(stage, called))
    assert api.read_log(called, stage.namespace, "c", 10) == ""
