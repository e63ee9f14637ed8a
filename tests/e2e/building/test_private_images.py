# SPDX-License-Identifier: Apache-2.0
"""Private images: two Secrets of two namespaces open one registry, wrong ones are told and stop nothing else, and
nothing that anybody may read holds a password."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from imagecache_operator import names

from tests.support import slow_link
from tests.support.accounts import docker_config, dockercfg, password_login
from tests.support.kube import NAMESPACE, OPERATOR, Cache, Kube, until
from tests.support.private_registry import SLOW_TOKEN_HOST, TOKEN_HOST, PrivateRegistry
from tests.support.registry_container import PORT
from tests.support.upstream import Upstream

TYPES = {".dockerconfigjson": "kubernetes.io/dockerconfigjson", ".dockercfg": "kubernetes.io/dockercfg"}


@pytest.fixture(scope="module")
def put_secret(kube: Kube) -> Iterator[Callable[..., str]]:
    """Makes or changes a pull Secret in a namespace of its own: put_secret("team-a:regcred", content, key)."""
    spaces: set[str] = set()

    def put(reference: str, content: str, key: str = ".dockerconfigjson") -> str:
        namespace, _, name = reference.partition(":")
        if namespace not in spaces:
            kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            spaces.add(namespace)
        kube.apply({
            "apiVersion": "v1", "kind": "Secret", "type": TYPES[key],
            "metadata": {"name": name, "namespace": namespace},
            "data": {key: base64.b64encode(content.encode()).decode()},
        })
        return reference

    yield put
    for namespace in spaces:
        kube.cluster.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="module")
def slow_token(kube: Kube, token_registry: PrivateRegistry) -> Iterator[str]:
    """The token registry over a link so slow that there is time to look at a builder: its host and port."""
    slow_link.start(kube.cluster, SLOW_TOKEN_HOST, token_registry.host, PORT, 1_000_000)
    yield f"{SLOW_TOKEN_HOST}:{PORT}"
    slow_link.stop(kube.cluster, SLOW_TOKEN_HOST)


@pytest.fixture(scope="module")
def two_teams(token_registry: PrivateRegistry, put_secret: Callable[..., str]) -> list[str]:
    """For one registry: team-a's path in a Secret of one type, team-b's in one of the other, in two namespaces."""
    login = {name: password_login(token_registry.accounts[name]) for name in ("team-a", "team-b")}
    hosts = [f"{host}:{PORT}" for host in (TOKEN_HOST, SLOW_TOKEN_HOST)]
    return [
        put_secret("e2e-team-a:regcred", docker_config({f"{host}/team-a": login["team-a"] for host in hosts})),
        put_secret("e2e-team-b:old", dockercfg({f"https://{host}/team-b": login["team-b"] for host in hosts}),
                   ".dockercfg"),
    ]


def using(*secrets: str) -> dict[str, Any]:
    return {"buildingConfig": {"imagePullSecrets": list(secrets)}}


def reasons(cache: Cache) -> list[str | None]:
    return [image.get("reason") for image in cache.status["images"]]


def test_two_secrets_for_two_paths_of_one_registry(
    make_cache: Callable[..., Cache], token_registry: PrivateRegistry, two_teams: list[str],
) -> None:
    images = ["team-a/tools:1.0", "team-b/data:1.0", "public/tools:1.0"]
    cache = make_cache("e2e-two-secrets", *map(token_registry.reference, images), **using(*two_teams))
    status = cache.wait_for("Available")
    assert [i["digest"] for i in status["images"]] == [token_registry.digest(image) for image in images]
    assert [i.get("pullSecret") for i in status["images"]] == [*two_teams, None]
    told = cache.condition("PullSecretsUsable")
    assert (told["status"], told["reason"], told["message"]) == ("True", "SecretsRead", "2 Secrets read")
    until(lambda: [c["kind"] for c in cache.children()] == ["PersistentVolumeClaim"], "only the volume is left", 30)


def test_an_identity_token_opens_an_image_too(
    make_cache: Callable[..., Cache], token_registry: PrivateRegistry, put_secret: Callable[..., str],
) -> None:
    secret = put_secret("e2e-team-a:identity", token_registry.docker_config("team-a", identity=True))
    cache = make_cache("e2e-identity", token_registry.reference("team-a/tools:1.0"), **using(secret))
    cache.wait_for("Available")


def test_a_denied_and_a_foreign_image_are_both_named(
    make_cache: Callable[..., Cache], token_registry: PrivateRegistry, put_secret: Callable[..., str],
) -> None:
    secret = put_secret("e2e-team-a:all", token_registry.docker_config("team-a"))
    images = ["team-a/tools:1.0", "closed/tools:1.0", "team-b/data:1.0"]
    references = [token_registry.reference(image) for image in images]
    cache = make_cache("e2e-denied", *references, **using(secret))
    status = cache.wait_for("Failed")
    assert reasons(cache) == [None, "Denied", "Unauthorized"]
    assert [reference in status["message"] for reference in references] == [False, True, True]


def test_a_wrong_password_costs_only_the_image_that_needs_it_and_a_right_one_mends_it(
    make_cache: Callable[..., Cache], basic_registry: PrivateRegistry, upstream: Upstream,
    put_secret: Callable[..., str],
) -> None:
    wrong = docker_config({f"{basic_registry.host}:{PORT}": {"username": "team-a", "password": "wrong-one"}})
    secret = put_secret("e2e-team-a:basic", wrong)
    cache = make_cache(
        "e2e-wrong-password", basic_registry.reference("team-a/tools:1.0"), upstream.reference("base/tools:1.0"),
        **using(secret),
    )
    status = cache.wait_for("Failed")
    assert reasons(cache) == ["Unauthorized", None]
    assert f"does not take the credentials of {secret}" in status["message"]
    put_secret(secret, basic_registry.docker_config("team-a"))
    cache.annotate("imagecache.dev/retry=now")  # else it is seen at the next resync
    status = cache.wait_for("Available")
    assert [i.get("pullSecret") for i in status["images"]] == [secret, None]


def test_secrets_that_are_missing_or_no_use_are_a_warning(
    make_cache: Callable[..., Cache], upstream: Upstream, put_secret: Callable[..., str],
) -> None:
    broken = put_secret("e2e-team-a:broken", '{"auths": {}}')
    cache = make_cache(
        "e2e-no-secret", upstream.reference("base/tools:1.0"), **using("e2e-team-a:nowhere", broken, "nobody:none"),
    )
    cache.wait_for("Available")
    told = cache.condition("PullSecretsUsable")
    assert (told["status"], told["reason"]) == ("False", "SecretNotFound")
    for words in ("e2e-team-a:nowhere does not exist", f"{broken} holds no credentials", "nobody:none does not exist"):
        assert words in told["message"]
    events = [e for e in cache.kube.list("events", namespace="default") if e["involvedObject"].get("uid") == cache.uid]
    assert [(e["type"], e["message"]) for e in events if e["reason"] == "SecretNotFound"] == [
        ("Warning", told["message"]),
    ]


def test_no_credential_is_in_anything_that_people_read(
    kube: Kube, make_cache: Callable[..., Cache], token_registry: PrivateRegistry, slow_token: str,
    two_teams: list[str], put_secret: Callable[..., str],
) -> None:
    """Logs, status, events, Pods, all while credentials are in use: right ones, wrong ones, and one not needed."""
    wrong = put_secret("e2e-team-b:wrong", docker_config({
        f"{slow_token}/team-b": {"username": "team-b", "password": "not-the-password"},
        "elsewhere.example": {"username": "kim", "password": "not-to-be-copied"},
    }))
    images = ("team-a/tools:1.0", "team-b/data:1.0", "public/no-such:1.0")
    cache = make_cache("e2e-no-leak", *(f"{slow_token}/{image}" for image in images), **using(two_teams[0], wrong))
    until(lambda: cache.condition("Ready").get("reason") == "Pulling", "the builder pulls", 90)
    (pod,) = cache.builders()
    (copy,) = [c for c in cache.children() if c["kind"] == "Secret"]
    copied = base64.b64decode(copy["data"][names.CREDENTIALS_KEY]).decode()
    assert "not-to-be-copied" not in copied
    assert {e["source"] for e in json.loads(copied)["entries"]} == {two_teams[0], wrong}
    # Ends with the builder.
    builders_words = kube.cluster.kubectl("-n", NAMESPACE, "logs", "--follow", pod["metadata"]["name"])
    cache.wait_for("Failed")
    assert reasons(cache) == [None, "Unauthorized", "NotFound"]
    assert "images are complete" in builders_words, "the log is whole"
    everything = [
        builders_words, json.dumps(pod), kube.cluster.kubectl("-n", NAMESPACE, "logs", "-l", OPERATOR, "--tail=-1"),
        kube.cluster.kubectl("get", "imagecaches,events,pods,persistentvolumeclaims", "-A", "-o", "json"),
        kube.cluster.kubectl("-n", NAMESPACE, "get", "configmaps,deployments,services", "-o", "json"),
    ]
    assert "e2e-no-leak" in everything[2], "the operator's log is of this time"
    hidden = ["not-the-password", "not-to-be-copied", "wrong-one", "eyJ", *(
        secret for account in token_registry.accounts.values()
        for secret in (account.password, account.identity_token) if secret
    )]
    hidden += [base64.b64encode(f"{user}:{word}".encode()).decode() for user, word in (
        ("team-a", token_registry.accounts["team-a"].password), ("team-b", "not-the-password"),
    )]
    assert [(word[:4] + "…", text[:80]) for word in hidden for text in everything if word in text] == []
    until(lambda: not [c for c in cache.children() if c["kind"] in ("Secret", "Pod")], "the copies are gone", 30)
