# SPDX-License-Identifier: Apache-2.0
"""X.509: what is in the webhook's Secret, and what takes its place. Called by `controller/injection.py`.

Decides nothing: `planning/webhook.py` does. The keys are made here and go nowhere but into the Secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from imagecache_operator import names
from imagecache_operator.planning.webhook import (
    AUTHORITY_LIFETIME,
    SERVER_LIFETIME,
    Authority,
    Renewal,
    ServerCertificate,
)

AUTHORITIES, AUTHORITY_KEY, CERTIFICATE, KEY = "ca.crt", "ca.key", "tls.crt", "tls.key"
Files = Mapping[str, bytes]  # the Secret's data by these four keys

# The clocks of a cluster differ; a certificate that begins now is not valid yet for the one that is behind.
_EARLIER = timedelta(hours=1)
# What parsing raises for whatever somebody has put there.
_UNREADABLE = (
    ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType,
)


def authorities(files: Files) -> tuple[Authority, ...]:
    """Those of `ca.crt`, in order; none where one of them cannot be read."""
    return tuple(
        Authority(_pem(found).decode(), found.not_valid_before_utc, found.not_valid_after_utc)
        for found in _certificates(files, AUTHORITIES)
    )


def can_sign(files: Files) -> bool:
    """Whether `ca.key` is the first authority's."""
    return _belong(_certificates(files, AUTHORITIES), _private_key(files, AUTHORITY_KEY))


def server(files: Files) -> ServerCertificate | None:
    """The certificate of `tls.crt`; None where it cannot be read, or `tls.key` is not its key."""
    chain = _certificates(files, CERTIFICATE)
    if not _belong(chain, _private_key(files, KEY)):
        return None
    signed_by = [_signed(chain[0], authority) for authority in _certificates(files, AUTHORITIES)]
    return ServerCertificate(
        not_before=chain[0].not_valid_before_utc,
        not_after=chain[0].not_valid_after_utc,
        names=_dns_names(chain[0]),
        signed_by=signed_by.index(True) if True in signed_by else None,
    )


def renewed(files: Files, renewal: Renewal, dns_names: tuple[str, ...], now: datetime) -> dict[str, bytes]:
    """The Secret's data after that renewal. Raises ValueError where something is to stay that cannot be read."""
    if renewal.authority:
        authority_key = ec.generate_private_key(ec.SECP256R1())
        authority = _authority(authority_key, now)
    else:
        found = _private_key(files, AUTHORITY_KEY)
        if not isinstance(found, ec.EllipticCurvePrivateKey):
            raise ValueError("the authority's key is not ours")
        authority_key, authority = found, _certificates(files, AUTHORITIES)[0]
    made = {
        AUTHORITIES: _pem(authority) + renewal.keep.encode(),
        AUTHORITY_KEY: _key_pem(authority_key),
    }
    if not renewal.server:
        return made | {name: files[name] for name in (CERTIFICATE, KEY)}
    key = ec.generate_private_key(ec.SECP256R1())
    return made | {
        CERTIFICATE: _pem(_server(key, dns_names, authority, authority_key, now)),
        KEY: _key_pem(key),
    }


def _authority(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    name = _name(f"{names.WEBHOOK} authority")
    return (
        _unsigned(name, name, key, now, now + AUTHORITY_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _server(
    key: ec.EllipticCurvePrivateKey, dns_names: tuple[str, ...], authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey, now: datetime,
) -> x509.Certificate:
    ends = min(now + SERVER_LIFETIME, authority.not_valid_after_utc)
    return (
        _unsigned(_name(names.WEBHOOK), authority.subject, key, now, ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in dns_names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False,
        )
        .sign(authority_key, hashes.SHA256())
    )


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, ends: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, key_cert_sign=signs_certificates, crl_sign=signs_certificates,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificates(files: Files, name: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(files.get(name, b""))
    except _UNREADABLE:
        return []


def _private_key(files: Files, name: str) -> object:
    try:
        return load_pem_private_key(files.get(name, b""), None)
    except _UNREADABLE:
        return None


def _belong(chain: list[x509.Certificate], key: object) -> bool:
    """Whether the key is an elliptic-curve key, as all of ours, and the first certificate's."""
    if not chain or not isinstance(key, ec.EllipticCurvePrivateKey):
        return False
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    try:
        return chain[0].public_key().public_bytes(*form) == key.public_key().public_bytes(*form)
    except _UNREADABLE:
        return False


def _signed(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, *_UNREADABLE):
        return False
    return True


def _dns_names(certificate: x509.Certificate) -> frozenset[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        return frozenset(found.value.get_values_for_type(x509.DNSName))
    except (x509.ExtensionNotFound, *_UNREADABLE):
        return frozenset()
