# SPDX-License-Identifier: Apache-2.0
"""The webhook's certificates: what is made is what TLS takes, and whatever somebody puts in its place can be judged."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st
from imagecache_operator.controller import certificates
from imagecache_operator.controller.certificates import Files, renewed
from imagecache_operator.planning.webhook import AUTHORITY_LIFETIME, SERVER_LIFETIME, Renewal, service_names

NOW = datetime.now(UTC).replace(microsecond=0)  # TLS asks the machine's clock
HOUR = timedelta(hours=1)
NAMES = service_names("imagecache-system")
ALL = Renewal("all", authority=True, server=True)
MADE = renewed({}, ALL, NAMES, NOW)


def authority_pem(files: Files) -> str:
    return certificates.authorities(files)[0].pem


def asked(files: Files, bundle: bytes, name: str, folder: Path) -> str:
    """What the API server comes to know when it asks: TLS between two ends in memory, verified. The subject."""
    for file in ("tls.crt", "tls.key"):
        (folder / file).write_bytes(files[file])
    at_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    at_server.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    at_client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    at_client.load_verify_locations(cadata=bundle.decode())
    at_client.verify_flags |= ssl.VERIFY_X509_STRICT
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = at_client.wrap_bio(back, there, server_hostname=name)
    server = at_server.wrap_bio(there, back, server_side=True)
    ends = [client, server]
    for _ in range(20):
        for end in [*ends]:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)
    assert not ends, "the handshake came to its end"
    found = client.getpeercert()
    assert found
    return str(found["subject"])


@pytest.mark.parametrize("name", NAMES)
def test_the_api_server_verifies_it_by_the_services_name(name: str, tmp_path: Path) -> None:
    assert "imagecache-webhook" in asked(MADE, MADE["ca.crt"], name, tmp_path)


@pytest.mark.parametrize(("bundle", "name"), [
    (MADE["ca.crt"], "imagecache-webhook.another.svc"),
    (renewed({}, ALL, NAMES, NOW)["ca.crt"], NAMES[0]),
], ids=["another name", "another authority"])
def test_nobody_else_is_taken_for_it(bundle: bytes, name: str, tmp_path: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        asked(MADE, bundle, name, tmp_path)


def test_it_is_read_as_it_was_made() -> None:
    authority, = certificates.authorities(MADE)
    assert (authority.not_before, authority.not_after) == (NOW - HOUR, NOW + AUTHORITY_LIFETIME)
    assert certificates.can_sign(MADE)
    server = certificates.server(MADE)
    assert server
    assert (server.not_before, server.not_after) == (NOW - HOUR, NOW + SERVER_LIFETIME)
    assert (server.names, server.signed_by) == (frozenset(NAMES), 0)


def test_an_authority_signs_and_a_server_serves_and_neither_does_the_others_work() -> None:
    authority = x509.load_pem_x509_certificate(MADE["ca.crt"])
    server = x509.load_pem_x509_certificate(MADE["tls.crt"])
    for certificate, signs in ((authority, True), (server, False)):
        key = certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        assert key.curve.name == "secp256r1"
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (constraints.value.ca, constraints.critical) == (signs, True)
        assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is signs
    usage = server.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.SERVER_AUTH]


def test_a_longest_namespace_has_a_certificate_too(tmp_path: Path) -> None:
    names = service_names("n" * 63)
    files = renewed({}, ALL, names, NOW)
    assert asked(files, files["ca.crt"], names[0], tmp_path)


def test_a_renewed_certificate_is_trusted_by_whoever_trusted_the_one_before(tmp_path: Path) -> None:
    after = renewed(MADE, Renewal("", server=True), NAMES, NOW)
    assert (after["ca.crt"], after["ca.key"]) == (MADE["ca.crt"], MADE["ca.key"])
    assert after["tls.key"] != MADE["tls.key"]
    assert asked(after, MADE["ca.crt"], NAMES[0], tmp_path)


def test_a_new_authority_leaves_what_is_served_as_it_is_until_it_signs_itself(tmp_path: Path) -> None:
    former = authority_pem(MADE)
    between = renewed(MADE, Renewal("", authority=True, keep=former), NAMES, NOW)
    assert (between["tls.crt"], between["tls.key"]) == (MADE["tls.crt"], MADE["tls.key"])
    assert asked(MADE, between["ca.crt"], NAMES[0], tmp_path), "the old one under the new bundle"
    found = certificates.server(between)
    assert found
    assert found.signed_by == 1
    after = renewed(between, Renewal("", server=True, keep=former), NAMES, NOW)
    assert after["ca.crt"] == between["ca.crt"]
    assert asked(after, between["ca.crt"], NAMES[0], tmp_path), "the new one under the new bundle"
    assert asked(MADE, after["ca.crt"], NAMES[0], tmp_path), "a Pod that still has the old one"
    found = certificates.server(after)
    assert found
    assert found.signed_by == 0


def test_no_certificate_outlives_who_signed_it() -> None:
    late = NOW + AUTHORITY_LIFETIME - timedelta(days=1)
    found = certificates.server(renewed(MADE, Renewal("", server=True), NAMES, late))
    assert found
    assert found.not_after == NOW + AUTHORITY_LIFETIME


@pytest.mark.parametrize("damage", [
    {"tls.key": renewed({}, ALL, NAMES, NOW)["tls.key"]}, {"tls.crt": b""}, {"tls.key": b"no key"},
    {"tls.crt": MADE["tls.key"]}, {"tls.crt": MADE["tls.crt"][:-60]},
], ids=["another key", "empty", "no key", "a key for a certificate", "cut off"])
def test_a_certificate_that_cannot_serve_is_none(damage: Files) -> None:
    assert certificates.server({**MADE, **damage}) is None


def test_what_is_missing_is_not_there() -> None:
    assert certificates.authorities({}) == ()
    assert certificates.can_sign({}) is False
    assert certificates.server({}) is None
    assert certificates.can_sign({**MADE, "ca.key": MADE["tls.key"]}) is False


def test_an_authority_that_did_not_sign_it_does_not_vouch_for_it() -> None:
    found = certificates.server({**MADE, "ca.crt": renewed({}, ALL, NAMES, NOW)["ca.crt"]})
    assert found
    assert found.signed_by is None


@given(st.sampled_from(["ca.crt", "ca.key", "tls.crt", "tls.key"]), st.data())
def test_whatever_is_in_the_secret_it_is_judged(name: str, data: st.DataObject) -> None:
    """Bytes of anybody, and of ours with one place changed: PEM that decodes to almost a certificate."""
    whole = MADE[name]
    place = data.draw(st.integers(0, len(whole) - 1))
    content = data.draw(st.one_of(
        st.binary(max_size=200), st.binary(max_size=3).map(lambda b: whole[:place] + b + whole[place + 1:]),
    ))
    files = {**MADE, name: content}
    certificates.authorities(files)
    certificates.can_sign(files)
    certificates.server(files)
