# SPDX-License-Identifier: Apache-2.0
"""A token service for a private registry, on a host of its own, as Docker Hub has one; with rights by path.

`service.py` is the program. Here are the files that it and its registry read. Called by those who start the two:
`private_registry` as containers, `registry_process` as processes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa

from tests.support import private_files
from tests.support.token_service.service import PATH, Account

PROGRAM = Path(__file__).with_name("service.py")
ISSUER = "imagecache test tokens"

Key = Mapping[str, str]  # a JSON Web Key


def signing_key(folder: Path) -> Key:
    """The private key of this folder, made at the first call."""
    key: Key = json.loads(private_files.kept(folder / "signing-key.json", lambda: json.dumps(_new_key())))
    return key


def settings(
    service: str, signing: Key, certificate: tuple[Path, Path], accounts: Iterable[Account],
) -> str:
    """What the program reads, from a file in the folder of its certificate."""
    return json.dumps({
        "issuer": ISSUER,
        "service": service,
        "certificate": certificate[0].name,
        "key": certificate[1].name,
        "signing_key": signing,
        "accounts": [asdict(account) for account in accounts],
    })


def jwks(signing: Key) -> str:
    """The public half, for the registry."""
    return json.dumps({"keys": [{name: value for name, value in signing.items() if name != "d"}]})


def registry_auth(host_port: str, service: str, jwks_path: str) -> dict[str, str]:
    """The registry's settings below `auth.token`."""
    return {"realm": f"https://{host_port}{PATH}", "service": service, "issuer": ISSUER, "jwks": jwks_path}


def _new_key() -> Key:
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    modulus = _base64(numbers.public_numbers.n)
    return {
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": hashlib.sha256(modulus.encode()).hexdigest()[:16],
        "n": modulus, "e": _base64(numbers.public_numbers.e), "d": _base64(numbers.d),
    }


def _base64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()
