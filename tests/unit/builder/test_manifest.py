# SPDX-License-Identifier: Apache-2.0
"""Manifests, indexes, configs, platforms, challenges: what is taken, what is refused and how."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from imagecache_operator.api import oci
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder import challenge, manifest
from imagecache_operator.builder.connections import is_forbidden
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.manifest import Index, Manifest, parse, parse_config
from imagecache_operator.builder.platforms import Platform, choose

D = "sha256:" + "a" * 64
CONFIG = {"mediaType": oci.OCI_CONFIG, "digest": D, "size": 10}
LAYER = {"mediaType": oci.OCI_TAR + "+gzip", "digest": D, "size": 10}


def _body(**changes: Any) -> bytes:
    kind = oci.OCI_MANIFEST
    whole: dict[str, Any] = {"schemaVersion": 2, "mediaType": kind, "config": CONFIG, "layers": [LAYER]}
    return json.dumps({k: v for k, v in {**whole, **changes}.items() if v is not ...}).encode()


def _index(**entry: Any) -> bytes:
    first = {"mediaType": oci.OCI_MANIFEST, "digest": D, "size": 1, **entry}
    return json.dumps({"schemaVersion": 2, "manifests": [first]}).encode()


@pytest.mark.parametrize(("body", "content_type", "kind"), [
    (_body(), "", Manifest),
    (_body(mediaType=...), oci.OCI_MANIFEST, Manifest),
    (_body(mediaType=...), "application/json; charset=utf-8", Manifest),
    (_body(mediaType=manifest.DOCKER_MANIFEST, config={**CONFIG, "mediaType": manifest.DOCKER_CONFIG},
           layers=[{**LAYER, "mediaType": manifest.DOCKER_TAR + ".gzip"}]), manifest.DOCKER_MANIFEST, Manifest),
    (_body(layers=[]), "", Manifest),
    (_index(), oci.OCI_INDEX, Index),
    (_index(), manifest.DOCKER_LIST, Index),
])
def test_it_takes_both_dialects(body: bytes, content_type: str, kind: type) -> None:
    assert isinstance(parse(body, content_type, "x"), kind)


@pytest.mark.parametrize(("body", "reason", "word"), [
    (b"", Reason.MANIFEST_INVALID, "JSON"), (b"[]", Reason.MANIFEST_INVALID, "JSON"),
    (b"[" * 100_000, Reason.MANIFEST_INVALID, "JSON"), (b"9" * 10_000, Reason.MANIFEST_INVALID, "JSON"),
    (b'{"schemaVersion": 1, "fsLayers": []}', Reason.UNSUPPORTED, "schema 1"),
    (_body(manifests=[]), Reason.MANIFEST_INVALID, "index too"),
    (_body(layers=...), Reason.MANIFEST_INVALID, "layers"),
    (_body(layers=[{**LAYER, "digest": "sha256:../../x"}]), Reason.MANIFEST_INVALID, "digest"),
    (_body(layers=[{**LAYER, "digest": "sha512:" + "a" * 128}]), Reason.UNSUPPORTED, "sha512"),
    (_body(layers=[{**LAYER, "size": -1}]), Reason.MANIFEST_INVALID, "size"),
    (_body(layers=[{**LAYER, "size": "10"}]), Reason.MANIFEST_INVALID, "size"),
    (_body(layers=[{**LAYER, "mediaType": oci.OCI_TAR + "+gzip+encrypted"}]), Reason.UNSUPPORTED, "encrypted"),
    (_body(layers=[{**LAYER, "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"}]),
     Reason.UNSUPPORTED, "foreign"),
    (_body(layers=[{**LAYER, "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar"}]),
     Reason.UNSUPPORTED, "foreign"),
    (_body(layers=[{**LAYER, "mediaType": "text/\nplain"}]), Reason.UNSUPPORTED, "text/?plain"),
    (_body(config={**CONFIG, "mediaType": "application/vnd.cncf.helm.config.v1+json"}), Reason.UNSUPPORTED, "helm"),
    (_body(config={**CONFIG, "size": 5_000_000}), Reason.UNSUPPORTED, "config"),
    (b'{"mediaType": "application/x"}', Reason.UNSUPPORTED, "application/x"),
    (b'{"mediaType": 5}', Reason.MANIFEST_INVALID, "mediaType"), (b"{}", Reason.UNSUPPORTED, "type ''"),
    (b'{"mediaType": ' + b"[" * 900 + b"]" * 900 + b"}", Reason.MANIFEST_INVALID, "mediaType"),
    (_body(schemaVersion="2"), Reason.MANIFEST_INVALID, "schemaVersion"),
    (_body(layers=[LAYER] * 501), Reason.UNSUPPORTED, "501 layers"),
    (_body(layers=[LAYER, {**LAYER, "size": 11}]), Reason.MANIFEST_INVALID, "two sizes"),
    (b"\xef\xbb\xbf" + _body(), Reason.MANIFEST_INVALID, "JSON"),
    (_body().decode().encode("utf-16"), Reason.MANIFEST_INVALID, "JSON"),
    (_body().replace(b'"size": 10', b'"size": 10, "size": 10'), Reason.MANIFEST_INVALID, "'size' twice"),
    (_body().replace(b'"size": 10', b'"Size": 11, "size": 10'), Reason.MANIFEST_INVALID, "'size' is spelled 'Size'"),
    (_body(layers=[{"media_type": oci.OCI_TAR, "digest": D, "size": 10}]), Reason.UNSUPPORTED, "type ''"),
])
def test_it_refuses_by_name(body: bytes, reason: Reason, word: str) -> None:
    with pytest.raises(ImageError) as refusal:
        parse(body, "", "reg.example/app:1")
    assert refusal.value.reason is reason
    assert word in refusal.value.message
    assert refusal.value.message.isprintable()


def test_attestations_are_no_images() -> None:
    unknown = parse(_index(platform={"os": "unknown", "architecture": "unknown"}), oci.OCI_INDEX, "x")
    named = parse(_index(annotations={"vnd.docker.reference.type": "attestation-manifest"}), oci.OCI_INDEX, "x")
    assert isinstance(unknown, Index)
    assert isinstance(named, Index)
    assert unknown.manifests[0].is_attestation
    assert named.manifests[0].is_attestation


def test_a_config_must_agree_with_its_manifest() -> None:
    found = parse(_body(), "", "x")
    assert isinstance(found, Manifest)
    config = {"os": "linux", "architecture": "arm64", "rootfs": {"type": "layers", "diff_ids": [D]}}
    assert parse_config(json.dumps(config).encode(), found, "x").platform == Platform("linux", "arm64", "v8")
    mistakes: list[dict[str, Any]] = [
        {"rootfs": {"diff_ids": []}}, {"rootfs": {"diff_ids": ["x"]}}, {"rootfs": None}, {"os": None},
    ]
    for changes in mistakes:
        with pytest.raises(ImageError) as refusal:
            parse_config(json.dumps({**config, **changes}).encode(), found, "x")
        assert refusal.value.reason is Reason.MANIFEST_INVALID


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from([D, oci.OCI_TAR, oci.OCI_CONFIG]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["mediaType", "digest", "size", "platform", "os", "architecture", "annotations"]) | st.text(),
        inner, max_size=4),
    max_leaves=10,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary() | st.fixed_dictionaries(
    {}, optional={key: _json | st.sampled_from([CONFIG, [LAYER], 2]) for key in (
        "schemaVersion", "mediaType", "config", "layers", "manifests", "annotations", "rootfs", "os")},
).map(lambda data: json.dumps(data).encode()), st.sampled_from(["", *manifest.ACCEPTED]))
def test_it_raises_nothing_but_its_own_error(body: bytes, content_type: str) -> None:
    good = parse(_body(), "", "x")
    assert isinstance(good, Manifest)
    for read in (lambda: parse(body, content_type, "x"), lambda: parse_config(body, good, "x")):
        with contextlib.suppress(ImageError):
            read()


@pytest.mark.parametrize(("wanted", "offered", "chosen"), [
    (["linux/amd64"], ["linux/arm64", "linux/amd64"], [1]),
    (["linux/amd64", "linux/arm64"], ["linux/arm64", "linux/amd64", "linux/s390x"], [0, 1]),
    (["linux/amd64", "linux/arm64"], ["linux/amd64"], [0]),
    (["linux/arm64/v8"], ["linux/arm64"], [0]),
    (["linux/aarch64"], ["linux/arm64/v8"], [0]),
    (["linux/arm"], ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], [1]),
    (["linux/amd64"], ["linux/amd64/v3", "linux/amd64"], [1]),
    (["linux/amd64/v3"], ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], [1]),
    (["linux/amd64"], ["linux/amd64", "linux/amd64"], [0]),
    (["windows/amd64"], ["linux/amd64", "windows/amd64"], [1]),
])
def test_the_best_entry_for_each_platform(wanted: list[str], offered: list[str], chosen: list[int]) -> None:
    entries = [(Platform.parse(text), place) for place, text in enumerate(offered)]
    assert list(choose([Platform.parse(text) for text in wanted], entries, "x")) == chosen


def test_a_missing_platform_is_told_with_those_that_are_there() -> None:
    with pytest.raises(ImageError) as refusal:
        choose([Platform.parse("linux/arm64")], [(Platform.parse(p), 0) for p in ("linux/amd64", "linux/arm/v7")], "x")
    assert refusal.value.reason is Reason.PLATFORM_MISSING
    assert refusal.value.message == (
        "x has no image for linux/arm64, only for linux/amd64, linux/arm/v7: "
        "push one that the nodes can run, or take it off the list."
    )


@pytest.mark.parametrize("text", ["", "linux", "linux/", "linux/amd64/v1/x", "linux/am d64", "linux/\namd64"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(ImageError):
        Platform.parse(text)


@pytest.mark.parametrize(("header", "expected"), [
    ('Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push"',
     [("bearer", "https://a/t", "s", "repository:a/b:pull,push")]),
    ('Basic realm="x", Bearer realm=https://a', [("basic", "x", "", ""), ("bearer", "https://a", "", "")]),
    ("Negotiate, Basic", [("negotiate", "", "", ""), ("basic", "", "", "")]),
    (r'Bearer realm="a\"b"', [("bearer", 'a"b', "", "")]),
    ("", []), ('=,,"', []),
])
def test_challenges(header: str, expected: list[tuple[str, str, str, str]]) -> None:
    assert [(c.scheme, c.realm, c.service, c.scope) for c in challenge.parse(header)] == expected


@given(st.text(st.sampled_from('Bearealm=", \t\\x'), max_size=300))
def test_no_challenge_is_too_odd(header: str) -> None:
    challenge.parse(header)


@pytest.mark.parametrize("address", [
    "169.254.169.254", "0.0.0.0",  # noqa: S104
    "fe80::1%eth0", "::", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200",
    "168.63.129.16", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "255.255.255.255",
])
def test_addresses_of_the_node_and_the_cloud(address: str) -> None:
    assert is_forbidden(address)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "::1", "192.168.1.1", "8.8.8.8", "2001:db8::1"])
def test_other_addresses(address: str) -> None:
    assert not is_forbidden(address)
