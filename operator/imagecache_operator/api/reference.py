# SPDX-License-Identifier: Apache-2.0
"""Image references: what users write, made unambiguous, and where such an image lies on the volume.

The builder parses with it what it pulls, the server's side and injection find with it what was stored, and
`api/imagecache.py` takes `PATTERN` and `MAX_LENGTH` into the CRD. The normalisation is the one of containerd and
kubelet: `busybox` is `docker.io/library/busybox:latest` everywhere.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass

# Real references stay under 200 characters. The bound keeps 20 of them small in a builder Pod's environment and
# keeps the CRD's rule that compares every pair of images within the API server's cost budget.
MAX_LENGTH = 512
MAX_PATH_LENGTH = 255  # the distribution specification's limit, which kubelet enforces too
MAX_STORED_LENGTH = 255

DEFAULT_HOST = "docker.io"
DEFAULT_TAG = "latest"

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_UNDOTTED = r"[a-z0-9]+(?:(?:_|__|-+)[a-z0-9]+)*"
_LABEL = r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?"
_PORT = r":[0-9]{1,5}"
_IPV6 = r"\[[a-fA-F0-9:]+\]"
_HOST = rf"(?:localhost|{_LABEL}(?:\.{_LABEL})+|{_IPV6})(?:{_PORT})?|{_LABEL}{_PORT}"
_TAG = r"[a-zA-Z0-9_][-a-zA-Z0-9_.]{0,127}"
_DIGEST = r"sha256:[a-f0-9]{64}"

# Valid for RE2 (the API server) and for Rust's regex (pydantic): no look-around. What no regular expression of
# sane size can say is left to `parse`: lengths, port numbers, IPv6 addresses, and 64 hex digits, which stand for an
# image ID.
PATTERN = (
    rf"^(?:(?:{_HOST})/{_COMPONENT}(?:/{_COMPONENT})*|{_UNDOTTED}(?:/{_COMPONENT})+|{_COMPONENT})"
    rf"(?::{_TAG})?(?:@{_DIGEST})?$"
)

_WHOLE = re.compile(PATTERN)
_STARTS_WITH_HOST = re.compile(rf"({_HOST})/")
_LOOKS_LIKE_DIGEST_TAG = re.compile(r"sha256-[a-f0-9]{64}")
_HEX_64 = re.compile(r"[a-f0-9]{64}")


class InvalidReference(ValueError):
    """The text is no image reference that can be cached; the message is a sentence for a person."""


@dataclass(frozen=True)
class Reference:
    """One image by its full name. `host` is in lower case and may carry a port; `path` has no leading slash.

    `tag` is None only where `digest` (`sha256:<hex>`) is set; with both, the digest decides, as in containerd.
    """

    host: str
    path: str
    tag: str | None
    digest: str | None

    @property
    def name(self) -> str:
        """Host and path: the repository, without tag and digest."""
        return f"{self.host}/{self.path}"

    @property
    def canonical(self) -> str:
        """The full text. Two references with one canonical text are the same image: a tag beside a digest is
        left out, because nobody asks for it."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"

    @property
    def stored_repository(self) -> str:
        """The image's repository on the volume: legal for the distribution registry, at most 255 characters.

        A host's port follows an underscore, which no host name contains. What cannot be written that way goes by
        its hash below `by__hash`, which no host can be called: long names, IPv6 hosts, and tags that look like
        the tag of a stored digest (one repository holds both, so they would meet).
        """
        plain = f"{self.host.replace(':', '_')}/{self.path}"
        if self._tag_looks_like_digest:
            return _by_hash(self.canonical)
        if self.host.startswith("[") or len(plain) > MAX_STORED_LENGTH:
            return _by_hash(self.name)
        return plain

    @property
    def carrier_repository(self) -> str:
        """The repository of the image's carrier, which nodes take the layers from: see `builder/carrier.py`."""
        plain = f"carrier/{self.stored_repository}"
        return plain if len(plain) <= MAX_STORED_LENGTH else f"carrier/{_by_hash(self.name)}"

    @property
    def stored_tag(self) -> str:
        """The image's tag on the volume; for a reference with digest `sha256-<hex>`."""
        if self.digest:
            return self.digest.replace(":", "-")
        return self.tag or DEFAULT_TAG

    @property
    def _tag_looks_like_digest(self) -> bool:
        return self.digest is None and bool(_LOOKS_LIKE_DIGEST_TAG.fullmatch(self.tag or ""))


def parse(text: str) -> Reference:
    """The reference that `text` stands for. Raises InvalidReference, and nothing else, for any other text."""
    if len(text) > MAX_LENGTH:
        raise InvalidReference(f"An image reference has at most {MAX_LENGTH} characters; this one has {len(text)}.")
    if not _WHOLE.fullmatch(text):
        raise InvalidReference(_what_is_wrong(text))
    if _HEX_64.fullmatch(text):
        raise InvalidReference("64 hexadecimal digits are an image ID, not a reference: write the image's name.")
    rest, _, digest = text.partition("@")
    host, path_and_tag = _split_host(rest)
    path, _, tag = path_and_tag.partition(":")
    if host == DEFAULT_HOST and "/" not in path:
        path = f"library/{path}"
    if len(path) > MAX_PATH_LENGTH:
        raise InvalidReference(f"A repository's path has at most {MAX_PATH_LENGTH} characters, this one {len(path)}.")
    if not tag and not digest:
        tag = DEFAULT_TAG
    return Reference(host, path, tag or None, digest or None)


def canonical(text: str) -> str:
    """The full text that `text` stands for, or `text` itself where it stands for no image."""
    try:
        return parse(text).canonical
    except InvalidReference:
        return text


def _split_host(text: str) -> tuple[str, str]:
    match = _STARTS_WITH_HOST.match(text)
    if not match:
        return DEFAULT_HOST, text
    host = match[1].lower()
    address, bracket, rest = host.rpartition("]")
    if bracket:
        _check_address(address.removeprefix("["))
    _, _, port = rest.partition(":")
    if port and not 1 <= int(port) <= 65535:
        raise InvalidReference(f"{port} is no port: ports are numbers from 1 to 65535.")
    return DEFAULT_HOST if host == "index.docker.io" else host, text[match.end():]


def _check_address(address: str) -> None:
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        raise InvalidReference(f"[{address[:50]}] is no IPv6 address.") from None


def _by_hash(name: str) -> str:
    return f"by__hash/{hashlib.sha256(name.encode()).hexdigest()}"


def _what_is_wrong(text: str) -> str:
    shown = ascii(text) if len(text) <= 100 else f"{text[:99]!a}…"
    if not text:
        return "An image reference is empty."
    if "://" in text:
        return f"{shown} is no image reference: leave out https:// or any other scheme."
    if any(character.isspace() for character in text):
        return f"{shown} is no image reference: it contains a space or a line break."
    name, _, digest = text.partition("@")
    if digest.startswith("sha512:"):
        return f"{shown} has a sha512 digest; images can be named by sha256 digests only."
    if "@" in text and not re.fullmatch(_DIGEST, digest):
        return f"{shown} has a broken digest: sha256: and 64 lower-case hexadecimal digits are needed."
    last = name.rpartition("/")[2]
    _, colon, tag = last.partition(":")
    if colon and not re.fullmatch(_TAG, tag):
        return f"{shown} has a broken tag: up to 128 letters, digits, '_', '.' and '-' are allowed."
    if name.lower() != name:
        return f"{shown} is no image reference: a repository's name is written in lower case."
    return f"{shown} is no image reference: expected host/repository:tag or host/repository@sha256:digest."
