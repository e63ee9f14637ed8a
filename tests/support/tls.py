# SPDX-License-Identifier: Apache-2.0
"""Certificates of the test registries: an authority of our own and what it issues.

The product always verifies TLS, so a registry of a test needs a certificate that somebody can verify. Called
by `upstream` (a registry beside the cluster) and by tests that start a registry process. Files that are there
and are good for another week are used again: nodes and Pods that trust the authority keep trusting it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
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

LIFETIME = timedelta(days=90)
RENEW_BEFORE = timedelta(days=7)
HOUR = timedelta(hours=1)  # so much a container's clock may be behind


@dataclass(frozen=True)
class Authority:
    """A certificate authority whose key and certificate are files of one folder.

    The folder can be skopeo's --cert-dir: that trusts every *.crt and dislikes a *.key without a *.cert.
    """

    ca_file: Path
    key_file: Path

    @classmethod
    def create(cls, folder: Path) -> Authority:
        """The authority of this folder: the one that is there, else a new one."""
        folder.mkdir(parents=True, exist_ok=True)
        authority = cls(folder / "ca.crt", folder / "ca-key.pem")
        if _usable(authority.ca_file, authority.key_file) is None:
            key = ec.generate_private_key(ec.SECP256R1())
            # A name of its own for every new authority: verifiers that know an older one are not confused.
            fingerprint = hashlib.sha256(_public_bytes(key)).hexdigest()[:8]
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"imagecache test authority {fingerprint}")])
            usage = x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            )
            builder = (
                _certificate(name, name, key.public_key())
                .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
                .add_extension(usage, critical=True)
                .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            )
            _write_pair(builder.sign(key, hashes.SHA256()), key, authority.ca_file, authority.key_file)
        return authority

    @property
    def ca_pem(self) -> bytes:
        return self.ca_file.read_bytes()

    def issue(self, names: Sequence[str], folder: Path, begins: timedelta = -HOUR) -> tuple[Path, Path]:
        """A server certificate for DNS names and IP addresses: (certificate file, key file).

        `begins` is from now; LIFETIME later it ends. One of other times than usual is for a folder of its own.
        """
        folder.mkdir(parents=True, exist_ok=True)
        ca = x509.load_pem_x509_certificate(self.ca_pem)
        ca_key = load_pem_private_key(self.key_file.read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        wanted = x509.SubjectAlternativeName([_general_name(name) for name in names])
        stem = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
        cert_file, key_file = folder / f"server-{stem}.pem", folder / f"server-{stem}-key.pem"

        present = _usable(cert_file, key_file)
        if present is not None and present.issuer == ca.subject:  # the subject holds the key's fingerprint
            return cert_file, key_file

        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "imagecache test registry")])
        builder = (
            _certificate(subject, ca.subject, key.public_key(), begins)
            .add_extension(wanted, critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        )
        _write_pair(builder.sign(ca_key, hashes.SHA256()), key, cert_file, key_file)
        return cert_file, key_file


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, begins: timedelta = -HOUR
) -> x509.CertificateBuilder:
    begin = datetime.now(UTC) + begins
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + LIFETIME)
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usable(cert_file: Path, key_file: Path) -> x509.Certificate | None:
    """The certificate, if it is there, has not ended in a week, and the key beside it is its own."""
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = load_pem_private_key(key_file.read_bytes(), None)
    except (OSError, ValueError):
        return None
    if certificate.not_valid_after_utc < datetime.now(UTC) + RENEW_BEFORE:
        return None
    return certificate if certificate.public_key() == key.public_key() else None


def _public_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _write_pair(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, cert_file: Path, key_file: Path
) -> None:
    """Key first, each by a rename: a reader never sees half a file; a killed run leaves no usable pair."""
    pem_key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for path, content in ((key_file, pem_key), (cert_file, certificate.public_bytes(Encoding.PEM))):
        descriptor, partial = tempfile.mkstemp(dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        Path(partial).replace(path)
    cert_file.chmod(0o644)
