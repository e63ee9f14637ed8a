# SPDX-License-Identifier: Apache-2.0
"""Settings from the environment; a value that cannot be used stops the start, and names the variable."""

from __future__ import annotations

from datetime import timedelta

import pytest
from imagecache_operator import names
from imagecache_operator.settings import Injection, InvalidSettings, Settings
from pydantic import ValidationError

IMAGE = {"IMAGECACHE_BUILDER_IMAGE": "operator:1"}


def read(**given: str) -> Settings:
    return Settings.from_environment({**IMAGE, **{f"IMAGECACHE_{k}": v for k, v in given.items()}})


def test_defaults_are_those_of_the_product() -> None:
    found = read()
    assert found.namespace == "imagecache-system"
    assert (found.max_caches, found.max_builders, found.max_attempts) == (50, 4, 6)
    assert found.expiry_grace == timedelta(minutes=5)
    assert found.failed_volume_ttl == timedelta(hours=24)


@pytest.mark.parametrize(("text", "expected"), [
    ("90", timedelta(seconds=90)), ("1.5", timedelta(seconds=1.5)), ("PT2H", timedelta(hours=2)),
    ("0", timedelta(0)),
])
def test_durations_are_seconds_or_iso(text: str, expected: timedelta) -> None:
    assert read(EXPIRY_GRACE=text).expiry_grace == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("", ()), ("r.test:5000", ("r.test:5000",)), (" a:1 , b:2,", ("a:1", "b:2")),
])
def test_lists_are_separated_by_commas(text: str, expected: tuple[str, ...]) -> None:
    assert read(PLAIN_HTTP_REGISTRIES=text).plain_http_registries == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("auto", Injection.AUTO), ("true", Injection.ON), ("false", Injection.OFF), ("True", Injection.ON),
    ("0", Injection.OFF), ("1", Injection.ON), ("no", Injection.OFF),
])
def test_injection_is_on_or_off_or_left_to_the_kubelets(text: str, expected: Injection) -> None:
    assert read().injection is Injection.AUTO
    assert read(INJECTION=text).injection is expected


@pytest.mark.parametrize("text", [
    "caches.example.com", "internal", "a-1.b2", "x" * 63, "a1.2b", ".".join(["x" * 63] * 3) + "." + "y" * 33,
])
def test_servers_may_have_host_names_in_a_domain(text: str) -> None:
    assert read().server_domain is None
    assert read(SERVER_DOMAIN=text).server_domain == text
    assert len(f"{names.server_name('home', 'cache')}.{text}") <= 253


@pytest.mark.parametrize("text", [
    "", ".", "a.", ".a", "a..b", "-a", "a-", "Caches.example.com", "a_b", "*.a", "a:443", "https://a", "a/b", "a b",
    "10.0.0.1", "a.1", "x" * 64, ".".join(["x" * 63] * 3) + "." + "y" * 34, "a\n",
])
def test_what_is_no_domain_is_told_with_what_one_is(text: str) -> None:
    with pytest.raises(InvalidSettings, match=r"IMAGECACHE_SERVER_DOMAIN: .*such as caches\.example\.com"):
        read(SERVER_DOMAIN=text)


def test_annotations_of_ingresses_are_an_object_of_strings() -> None:
    assert read().server_ingress_annotations == {}
    found = read(SERVER_INGRESS_ANNOTATIONS='{"cert-manager.io/cluster-issuer": "caches", "a": ""}')
    assert found.server_ingress_annotations == {"cert-manager.io/cluster-issuer": "caches", "a": ""}


@pytest.mark.parametrize(("text", "words"), [
    ("", "JSON object"), ("a=b", "JSON object"), ("[]", "JSON object"), ('"a"', "JSON object"), ("null", "JSON object"),
    ('{"a": 1}', "of strings"), ('{"a": {"b": "c"}}', "of strings"), ('{"imagecache.dev/manifest": "x"}', "imagecache"),
])
def test_other_annotations_are_a_mistake(text: str, words: str) -> None:
    with pytest.raises(InvalidSettings, match=f"IMAGECACHE_SERVER_INGRESS_ANNOTATIONS: .*{words}"):
        read(SERVER_INGRESS_ANNOTATIONS=text)


@pytest.mark.parametrize(("name", "text"), [
    ("MAX_BUILDERS", "0"), ("MAX_BUILDERS", "four"), ("MAX_BUILDERS", ""), ("MAX_CACHES", "-1"),
    ("MAX_ATTEMPTS", "1.5"), ("RESYNC", "0"), ("RESYNC", "-5"), ("RESYNC", "soon"), ("EXPIRY_GRACE", "-1"),
    ("INJECTION", ""), ("INJECTION", "maybe"), ("INJECTION", "2"), ("SERVER_INGRESS_CLASS", ""),
    ("SERVER_TLS_SECRET", ""),
    ("BUILDER_DEADLINE", "0"), ("BUILDER_IMAGE", ""), ("FAILED_VOLUME_TTL", "1..5"),
])
def test_a_mistake_is_told_with_the_variables_name(name: str, text: str) -> None:
    with pytest.raises(InvalidSettings, match=f"IMAGECACHE_{name}: ."):
        read(**{name: text})


def test_the_builders_image_must_be_said() -> None:
    with pytest.raises(InvalidSettings, match="IMAGECACHE_BUILDER_IMAGE"):
        Settings.from_environment({})


def test_other_variables_do_not_matter() -> None:
    assert Settings.from_environment({**IMAGE, "IMAGECACHE_JOB": "{}", "PATH": "/bin"}) == read()


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValidationError):
        read().max_builders = 5  # type: ignore[misc]
