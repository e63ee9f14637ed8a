# SPDX-License-Identifier: Apache-2.0
"""The distribution API as the builder needs it: manifests and blobs by repository, for `plan.py` and `fetch.py`."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import urllib3

from imagecache_operator.api.credentials import Credentials
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import DEFAULT_HOST, Reference
from imagecache_operator.builder.access import Access, Login, Refused
from imagecache_operator.builder.connections import open_pools
from imagecache_operator.builder.errors import ImageError, cancelled
from imagecache_operator.builder.manifest import ACCEPTED, MAX_SIZE, Descriptor, digest_of
from imagecache_operator.builder.patience import Limits, Patience, Trouble
from imagecache_operator.builder.transport import Transport, failures_in_words, raise_for_trouble

PIECE = 256 * 1024  # bytes a read; smaller costs time, larger gains nothing

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)")


@dataclass(frozen=True)
class Document:
    """A manifest or index as it came."""

    body: bytes
    content_type: str

    @property
    def digest(self) -> str:
        return digest_of(self.body)


class BlobStream:
    """A blob's bytes from `start` on, which is where they were asked for, or 0 if the registry knows no ranges.

    `length` is the number of bytes to come as the registry announced it, or None. A context manager.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, host: str, start: int, stop: threading.Event) -> None:
        self._response = response
        self._host = host
        self._stop = stop
        self.start = start
        length = response.headers.get("Content-Length", "")
        self.length = int(length) if re.fullmatch("[0-9]{1,18}", length) else None

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of at most PIECE bytes. Raises Trouble when the connection breaks, Cancelled on stop."""
        while True:
            if self._stop.is_set():
                raise cancelled()
            with failures_in_words(self._host):
                piece = self._response.read(PIECE, decode_content=False)
            if not piece:
                return
            yield piece

    def __enter__(self) -> BlobStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        self._response.close()


class Registries:
    """All registries of a job. Shared by all threads.

    `stop` ends waiting and reading within seconds; `ca_file` is trusted besides the system's authorities.
    """

    def __init__(
        self,
        stop: threading.Event,
        plain_http: tuple[str, ...] = (),
        ca_file: str | None = None,
        workers: int = 4,
        limits: Limits | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self.stop = stop
        self.limits = limits or Limits()
        self._transport = Transport(open_pools(workers, ca_file), frozenset(host.lower() for host in plain_http))
        self._access = Access(self._transport, credentials or Credentials())

    def manifest(self, reference: Reference, digest: str | None = None) -> Document:
        """The manifest that the reference names, or the one with `digest` in its repository, verified.

        Raises ImageError.
        """
        wanted = digest or reference.digest
        document = self._patience().insist(lambda: self._document(reference, wanted or reference.tag or ""))
        if wanted and document.digest != wanted:
            raise ImageError(
                Reason.DIGEST_MISMATCH,
                f"The registry {reference.host} sends another manifest for {reference.path} than the digest asks for.",
            )
        return document

    def small_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        """A whole blob (a config), verified. Raises ImageError."""
        data = self._patience().insist(lambda: self._small_blob(reference, blob))
        if digest_of(data) != blob.digest:
            raise ImageError(
                Reason.DIGEST_MISMATCH,
                f"The registry {reference.host} sends another config for {reference.path} than its digest asks for.",
            )
        return data

    def open_blob(self, reference: Reference, digest: str, start: int = 0) -> BlobStream:
        """One try to read a blob from byte `start` on. Raises Trouble and ImageError."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        response = self._get(reference, f"blobs/{digest}", headers)
        if start and response.status == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not match or int(match[1]) != start:
                response.close()
                raise Trouble(
                    Reason.REGISTRY_UNAVAILABLE, f"The registry {reference.host} sends a wrong part of a blob.",
                )
            return BlobStream(response, reference.host, start, self.stop)
        return BlobStream(response, reference.host, 0, self.stop)

    def _document(self, reference: Reference, name: str) -> Document:
        response = self._get(reference, f"manifests/{name}", {"Accept": ", ".join(ACCEPTED)})
        content_type = response.headers.get("Content-Type", "")
        return Document(self._read(BlobStream(response, reference.host, 0, self.stop), reference), content_type)

    def _small_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        return self._read(self.open_blob(reference, blob.digest), reference)

    def _read(self, stream: BlobStream, reference: Reference) -> bytes:
        data = bytearray()
        with stream:
            for piece in stream:
                data += piece
                if len(data) > MAX_SIZE:
                    raise ImageError(
                        Reason.MANIFEST_INVALID,
                        f"{reference.canonical} has a manifest or config of more than {MAX_SIZE >> 20} MiB.",
                    )
        return bytes(data)

    def _get(self, reference: Reference, what: str, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        """The answer to the first login that is let in. Raises Trouble, and ImageError when none is."""
        refusals: list[tuple[Login, int]] = []
        for login in self._access.logins(reference):
            try:
                response = self._get_as(login, reference, what, headers)
            except Refused as refused:
                refusals.append((login, refused.status))
                continue
            status = response.status
            if status in (200, 206):
                self._access.served(reference, login)
                return response
            response.close()
            refusals.append((login, status))
            # Registries hide what somebody may not see: to the next login, "not found" may turn into the image.
            if status not in (401, 403, 404):
                break
        raise _refusal(refusals, reference, what)

    def _get_as(
        self, login: Login, reference: Reference, what: str, headers: dict[str, str],
    ) -> urllib3.BaseHTTPResponse:
        """The registry's answer to this login. Raises Refused where it does not even get a token."""
        host, path = reference.host, reference.path
        name = "registry-1.docker.io" if host == DEFAULT_HOST else host
        url = f"{self._transport.scheme(name)}://{name}/v2/{path}/{what}"
        sent = self._access.authorization(host, path, login)
        response = self._transport.get(url, headers, sent)
        if response.status == 401:
            demand = ", ".join(response.headers.getlist("WWW-Authenticate"))
            response.close()
            response = self._transport.get(url, headers, self._access.answer(host, path, login, demand, sent))
        raise_for_trouble(response, host)
        return response

    def _patience(self) -> Patience:
        return Patience(self.limits, self.stop)


def _refusal(refusals: list[tuple[Login, int]], reference: Reference, what: str) -> ImageError:
    """What to say when no login got the image: the first answer that is more than "who are you?" counts."""
    host, path = reference.host, reference.path
    status = next((status for _, status in refusals if status != 401), 401)
    secrets = ", ".join(dict.fromkeys(login.source for login, code in refusals if login and code in (401, 403)))
    if status == 401 and secrets:
        return ImageError(
            Reason.UNAUTHORIZED,
            f"The registry {host} does not take the credentials of {secrets} for {path}, nor give it to everybody: "
            "correct the Secret, or the image's name.",
        )
    if status == 401:
        return ImageError(
            Reason.UNAUTHORIZED,
            f"The registry {host} does not give {path} to everybody: the image is private or its name is misspelt.",
        )
    if status == 403:
        who = f" to the credentials of {secrets}" if secrets else ""
        return ImageError(Reason.DENIED, f"The registry {host} denies access to {path}{who}.")
    if status == 404 and "sha256:" in what and not what.endswith(reference.digest or ":"):
        return ImageError(
            Reason.NOT_FOUND, f"The registry {host} has lost a part of {path}: push the image again.",
        )
    if status == 404:
        refused = f" (the credentials of {secrets} are not taken)" if secrets else ""
        return ImageError(
            Reason.NOT_FOUND,
            f"The registry {host} has no image {reference.canonical}{refused}: check name and tag.",
        )
    return ImageError(Reason.REGISTRY_UNAVAILABLE, f"The registry {host} answers {status} for {path}.")
