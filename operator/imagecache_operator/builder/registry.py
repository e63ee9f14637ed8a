# SPDX-License-Identifier: Apache-2.0
"""The distribution API as the builder needs it: manifests and blobs by repository, for `plan.py` and `fetch.py`."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from imagecache_operator.api.credentials import Credentials
from imagecache_operator.api.job import WORKERS
from imagecache_operator.api.oci import digest_of
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import DEFAULT_HOST, Reference
from imagecache_operator.builder.access import Access, Login, Refused
from imagecache_operator.builder.connections import open_pools
from imagecache_operator.builder.errors import ImageError, cancelled
from imagecache_operator.builder.manifest import ACCEPTED, MAX_SIZE, Descriptor, is_digest
from imagecache_operator.builder.patience import Limits, Patience, Trouble
from imagecache_operator.builder.transport import Reply, Transport

PIECE = 256 * 1024  # bytes a read; smaller costs time, larger gains nothing

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


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

    `length` is how many follow up to the blob's end by the registry's word, or None. A context manager.
    """

    def __init__(self, reply: Reply, start: int, length: int | None, stop: threading.Event) -> None:
        self.start = start
        self.length = length
        self._reply = reply
        self._stop = stop

    def __iter__(self) -> Iterator[bytes]:
        """Pieces of at most PIECE bytes. Raises Trouble when the connection breaks, Cancelled on stop."""
        while True:
            if self._stop.is_set():
                raise cancelled()
            piece = self._reply.read(PIECE)
            if not piece:
                return
            yield piece

    def __enter__(self) -> BlobStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None,
    ) -> None:
        self._reply.release()


class Registries:
    """All registries of a job. Shared by all threads.

    `stop` ends waiting and reading within seconds; `ca_file` is trusted besides the system's authorities; proxies are
    those that the environment names.
    """

    def __init__(
        self,
        stop: threading.Event,
        plain_http: tuple[str, ...] = (),
        ca_file: str | None = None,
        workers: int = WORKERS,
        limits: Limits | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self.stop = stop
        self.limits = limits or Limits()
        pools = open_pools(self.limits, workers, ca_file)
        self._transport = Transport(pools, frozenset(host.lower() for host in plain_http))
        self._access = Access(self._transport, credentials or Credentials())

    def manifest(self, reference: Reference, digest: str | None = None) -> Document:
        """The manifest that the reference names, or the one with `digest` in its repository, verified.

        Raises ImageError.
        """
        wanted = digest or reference.digest or reference.tag or ""
        return self._patience().insist(lambda: self._document(reference, wanted))

    def small_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        """A whole blob (a config), verified. Raises ImageError."""
        return self._patience().insist(lambda: self._small_blob(reference, blob))

    def open_blob(self, reference: Reference, digest: str, start: int = 0) -> BlobStream:
        """One try to read a blob from byte `start` on. Raises Trouble and ImageError."""
        headers, more = ({"Range": f"bytes={start}-"}, (206, 416)) if start else ({}, ())
        reply = self._get(reference, f"blobs/{digest}", headers, more)
        if reply.status == 416:  # it has fewer bytes than have come: all of them anew, the digest tells what is right
            reply.release()
            return self.open_blob(reference, digest)
        if reply.status == 200:
            return BlobStream(reply, 0, reply.length, self.stop)
        try:
            return BlobStream(reply, start, _left(reply, start), self.stop)
        except Trouble:
            reply.release()
            raise

    def pulled_with(self, reference: Reference) -> frozenset[str]:
        """Where the credentials come from that some request for the image was let in with; empty where none was asked
        for any. What another image has fetched for both is not the question: the manifest is asked for each time."""
        return self._access.sources(reference)

    def _document(self, reference: Reference, name: str) -> Document:
        reply = self._get(reference, f"manifests/{name}", {"Accept": ", ".join(ACCEPTED)})
        content_type = reply.headers.get("Content-Type", "")
        # What a tag means is the registry's word only; a body that was cut off or changed on the way is not it.
        known = content_type.partition(";")[0].strip() in ACCEPTED
        told = reply.headers.get("Docker-Content-Digest", "") if known else ""
        promised = name if is_digest(name) else told
        document = Document(_whole(reply, reference), content_type)
        if is_digest(promised) and document.digest != promised:
            raise _wrong_bytes(reference, "manifest")
        return document

    def _small_blob(self, reference: Reference, blob: Descriptor) -> bytes:
        data = _whole(self._get(reference, f"blobs/{blob.digest}", {}), reference)
        if digest_of(data) != blob.digest:
            raise _wrong_bytes(reference, "config")
        return data

    def _get(
        self, reference: Reference, what: str, headers: dict[str, str], more: tuple[int, ...] = (),
    ) -> Reply:
        """The reply to the first login that is let in: 200, or one of `more`. Raises Trouble, and ImageError when none
        is."""
        refusals: list[tuple[Login, int]] = []
        for login in self._access.logins(reference):
            try:
                reply, sent = self._get_as(login, reference, what, headers)
            except Refused as refused:
                refusals.append((login, refused.status))
                continue
            if reply.status in (200, *more):
                self._access.served(reference, login, sent)
                return reply
            reply.release()
            refusals.append((login, reply.status))
            # Registries hide what somebody may not see: to the next login, "not found" may turn into the image.
            if reply.status not in (401, 403, 404):
                break
        raise _refusal(refusals, reference, what)

    def _get_as(
        self, login: Login, reference: Reference, what: str, headers: dict[str, str],
    ) -> tuple[Reply, str | None]:
        """The registry's reply to this login, and by which header it showed itself, if it had to. Raises Refused where
        it does not even get a token."""
        host, path = reference.host, reference.path
        name = "registry-1.docker.io" if host == DEFAULT_HOST else host
        url = f"{self._transport.scheme(name)}://{name}/v2/{path}/{what}"
        sent = self._access.authorization(host, path, login)
        reply = self._transport.get(url, host, headers, sent)
        if reply.status == 401:
            demand = ", ".join(reply.headers.getlist("WWW-Authenticate"))
            reply.release()
            sent = self._access.answer(host, path, login, demand, sent)
            reply = self._transport.get(url, host, headers, sent)
        return reply, sent

    def _patience(self) -> Patience:
        return Patience(self.limits, self.stop)


def _whole(reply: Reply, reference: Reference) -> bytes:
    data = reply.whole(MAX_SIZE)
    if data is None:
        raise ImageError(
            Reason.MANIFEST_INVALID,
            f"{reference.canonical} has a manifest or config of more than {MAX_SIZE >> 20} MiB.",
        )
    return data


def _left(reply: Reply, start: int) -> int | None:
    """How much the blob has from `start` on, by a 206 that begins there; it may end before the blob does."""
    match = _CONTENT_RANGE.fullmatch(reply.headers.get("Content-Range", ""))
    if not match or int(match[1]) != start or int(match[2]) < start:
        raise Trouble(Reason.REGISTRY_UNAVAILABLE, f"The {reply.peer} sends a wrong part of a blob.")
    return None if match[3] == "*" else int(match[3]) - start


def _wrong_bytes(reference: Reference, what: str) -> Trouble:
    """Proxies send those for a moment; what stays wrong is the registry's fault."""
    return Trouble(
        Reason.DIGEST_MISMATCH,
        f"The registry {reference.host} sends another {what} for {reference.path} than its digest asks for.",
    )


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
