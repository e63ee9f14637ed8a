# SPDX-License-Identifier: Apache-2.0
"""Registry credentials, by kubelet's rules: what a pull Secret holds, and which images each entry is for.

The operator reads users' Secrets with it and hands a builder just what its images need; the builder picks the
candidates for each image. The rules are those of kubelet's keyring (pkg/credentialprovider of Kubernetes 1.37), not
Docker's, because people write these Secrets for kubelet: the same Secret must open the same images here.

No text of this module, and no repr of its models, holds anything of a Secret but the names of its entries.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ConfigDict, Field

from imagecache_operator.api.model import Model
from imagecache_operator.api.reference import DEFAULT_HOST, Reference

# A Secret with what `parse` reads, as Kubernetes knows it.
SECRET_TYPE = "kubernetes.io/dockerconfigjson"  # noqa: S105 - a type
SECRET_KEY = ".dockerconfigjson"  # noqa: S105 - a key

_DOCKER_HUB = "index.docker.io"  # what `docker login` calls it, whatever images call it
_LONGEST_KEY_SHOWN = 100
_FIELDS = ("username", "password", "auth", "identitytoken", "registrytoken")
_HALF_A_PAIR = re.compile("[\\ud800-\\udfff]")


class InvalidCredentials(ValueError):
    """The text holds no usable credentials; the message continues a sentence that begins with the Secret's name."""


class Credential(Model):
    """One way to log in to the images that `match` is for."""

    model_config = ConfigDict(hide_input_in_errors=True)

    match: str = Field(description="Host, optional port, optional path prefix; `*` stands for a part of the host.")
    source: str = Field(default="", description="Where it comes from, as namespace:secretName.")
    username: str = Field(default="", repr=False)
    password: str = Field(default="", repr=False)
    identity_token: str = Field(default="", repr=False, description="Buys access tokens at the token service.")
    registry_token: str = Field(default="", repr=False, description="Is an access token already.")

    def is_for(self, reference: Reference) -> bool:
        """Whether kubelet would try it for that image: same port, same number of host parts, path a prefix."""
        host, slash, prefix = self.match.partition("/")
        pattern, port = _split_port(host)
        wanted, wanted_port = _split_port(reference.host)
        return (
            port == wanted_port
            and f"/{reference.path}".startswith(slash + prefix)
            and _matches(pattern.lower(), wanted)
        )


class Credentials(Model):
    """What an attempt's Secret holds: the credentials that its images need, in the order of the Secrets listed."""

    model_config = ConfigDict(hide_input_in_errors=True)

    entries: tuple[Credential, ...] = ()

    def candidates(self, reference: Reference) -> tuple[Credential, ...]:
        """Those to try for an image, in kubelet's order: keys in reverse alphabetical order, so that a longer path
        comes before a shorter one and a name before a pattern; for one key in the order of the Secrets."""
        found = [entry for entry in self.entries if entry.is_for(reference)]
        if not found and reference.host == DEFAULT_HOST:
            found = [entry for entry in self.entries if entry.match == _DOCKER_HUB]
        return tuple(sorted(found, key=lambda entry: entry.match, reverse=True))

    def needed_by(self, references: Iterable[Reference]) -> Credentials:
        """Only what some of these images are tried with."""
        wanted = {entry for reference in references for entry in self.candidates(reference)}
        return Credentials(entries=tuple(entry for entry in self.entries if entry in wanted))


def secret_data(auths: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """The data of such a Secret with these entries."""
    return {SECRET_KEY: base64.b64encode(json.dumps({"auths": auths}).encode()).decode()}


def parse(text: str, source: str, *, legacy: bool = False) -> tuple[Credential, ...]:
    """The entries of a Docker configuration: `{"auths": {key: entry}}`, or just the map where `legacy` (.dockercfg).

    Raises InvalidCredentials; one entry that cannot be read spoils all, as for kubelet.
    """
    data: object = ...
    with suppress(ValueError, RecursionError):  # not chained: the decoder's error carries the whole text
        data = json.loads(text)
    if data is ...:
        raise InvalidCredentials("is not JSON")
    auths = data if legacy else _fields(data).get("auths")
    if not isinstance(auths, dict):
        raise InvalidCredentials("has no map of registries" + ("" if legacy else ' under the key "auths"'))
    entries = [_entry(key, value, source) for key, value in auths.items() if value is not None]
    found = tuple(e for e in entries if e.username or e.password or e.identity_token or e.registry_token)
    if not found:
        raise InvalidCredentials("holds no credentials (one that points to a credential store does not either)")
    return found


def _entry(key: str, value: object, source: str) -> Credential:
    match = _normalised(key)
    fields = _fields(value)
    texts = ["" if fields.get(name) is None else fields[name] for name in _FIELDS]
    if not isinstance(value, dict) or not all(map(_is_text, (match, *texts))):
        raise InvalidCredentials(f"has an entry {_shown(match)} that is no set of texts")
    username, password, auth, identity_token, registry_token = texts
    if auth:
        username, password = _decoded(auth, match)
    return Credential(
        match=match, source=source, username=username, password=password,
        identity_token=identity_token, registry_token=registry_token,
    )


def _fields(value: object) -> dict[str, Any]:
    """An object's fields by name in lower case, because Go's decoder, and so kubelet, takes `Auths` for `auths`."""
    return {name.lower(): content for name, content in value.items()} if isinstance(value, dict) else {}


def _is_text(value: object) -> bool:
    """JSON can spell half a surrogate pair, which can neither be sent nor written down again."""
    return isinstance(value, str) and not _HALF_A_PAIR.search(value)


def _decoded(auth: str, match: str) -> tuple[str, str]:
    encoded = auth.replace("\r", "").replace("\n", "")  # `base64` breaks its lines
    if not encoded.endswith("="):
        encoded += "=" * (-len(encoded) % 4)  # kubelet takes it with padding and without
    colon = ""
    with suppress(ValueError):  # as above
        username, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    if not colon:
        raise InvalidCredentials(f'has an entry {_shown(match)} whose "auth" is not base64 of username:password')
    return username, password


def _normalised(key: str) -> str:
    """Without scheme, user, query and fragment: kubelet reads a key as a URL, and what is left out may be secret.

    `/v1/` and `/v2/` in front of the path mean nothing, nor does a path that is only a slash.
    """
    host, slash, path = re.split("[?#]", re.sub("^https?://", "", key))[0].partition("/")
    path = slash + path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return host.rpartition("@")[2] + ("" if path == "/" else path)


def _matches(pattern: str, host: str) -> bool:
    """Whether each part of the host is what the pattern's part says, `*` standing for any text within a part."""
    parts, wanted = pattern.split("."), host.split(".")
    return len(parts) == len(wanted) and all(map(_part_matches, parts, wanted))


def _part_matches(pattern: str, part: str) -> bool:
    """By search from left to right: a regular expression with many stars would try for hours, and users write these."""
    first, *others = pattern.split("*")
    if not others:
        return pattern == part
    *middle, last = others
    at, end = len(first), len(part) - len(last)
    if at > end or not (part.startswith(first) and part.endswith(last)):
        return False
    for piece in middle:
        at = part.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def _split_port(host: str) -> tuple[str, str]:
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and not host.endswith("]") else (host, "")


def _shown(match: str) -> str:
    # Whatever stands before an @ may be a password, also in a key that is no URL.
    return json.dumps(match.rpartition("@")[2][:_LONGEST_KEY_SHOWN])
