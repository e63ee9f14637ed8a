# SPDX-License-Identifier: Apache-2.0
"""Pushes test images to a registry, over HTTPS. Called by `upstream` and by tests with a registry process.

Not skopeo: tests use that to judge results, and a registry should hold exactly the bytes that `images` made,
an index with all its entries too. Pushing again what is there costs one request an image.
"""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import urllib3

from .images import Blob, Image, Manifest

TIMEOUT = urllib3.Timeout(connect=5, read=60)


class PushError(Exception):
    """The registry did not do what was asked of it; the message says what it answered."""


class Pusher:
    """Pushes to one registry: `address` is host:port as this process reaches it."""

    def __init__(self, address: str, ca_file: Path, credentials: tuple[str, str] | None = None) -> None:
        self.address = address
        self._base = f"https://{address}"
        self._pool = urllib3.PoolManager(ca_certs=str(ca_file), timeout=TIMEOUT, retries=False)
        basic = ":".join(credentials) if credentials else None
        self._headers = dict(urllib3.make_headers(basic_auth=basic))

    def answers(self) -> bool:
        """Whether a registry answers, whatever it thinks of us."""
        try:
            return self._pool.request("GET", f"{self._base}/v2/", headers=self._headers).status in (200, 401)
        except urllib3.exceptions.HTTPError:
            return False

    def push(self, image: Image) -> None:
        """Everything of one image: blobs, then the manifests of the platforms, the tagged one last."""
        if self._tagged(image) == image.digest:
            return
        for manifest in image.manifests:
            for blob in manifest.blobs:
                self._push_blob(image.repository, blob)
            reference = image.tag if manifest == image.top else manifest.digest
            self._push_manifest(image.repository, reference, manifest)

    def _tagged(self, image: Image) -> str | None:
        """The digest that the tag has now. Registries deny manifests of a type that we don't accept."""
        url = f"{self._base}/v2/{image.repository}/manifests/{image.tag}"
        answer = self._request("HEAD", url, (200, 404), {"Accept": image.top.media_type})
        return answer.headers.get("Docker-Content-Digest") if answer.status == 200 else None

    def _push_blob(self, repository: str, blob: Blob) -> None:
        blobs = f"{self._base}/v2/{repository}/blobs/"
        if self._request("HEAD", blobs + blob.digest, (200, 404)).status == 200:
            return
        begun = self._request("POST", blobs + "uploads/", (202,))
        location = urljoin(blobs, begun.headers["Location"])
        if urlsplit(location).netloc != urlsplit(self._base).netloc:
            raise PushError(f"{self._base} sends uploads to another host: {urlsplit(location).netloc}")
        location += ("&" if "?" in location else "?") + f"digest={blob.digest}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
        with blob.path.open("rb") as file:
            self._request("PUT", location, (201,), headers, file)

    def _push_manifest(self, repository: str, reference: str, manifest: Manifest) -> None:
        url = f"{self._base}/v2/{repository}/manifests/{reference}"
        headers = {"Content-Type": manifest.media_type}
        answer = self._request("PUT", url, (201,), headers, manifest.data)
        stored = answer.headers.get("Docker-Content-Digest")
        if stored != manifest.digest:
            raise PushError(f"{url}: stored as {stored}, but it is {manifest.digest}")

    def _request(
        self,
        method: str,
        url: str,
        expected: tuple[int, ...],
        headers: dict[str, str] | None = None,
        body: BinaryIO | bytes | None = None,
    ) -> urllib3.BaseHTTPResponse:
        answer = self._pool.request(method, url, headers=self._headers | (headers or {}), body=body, redirect=False)
        if answer.status not in expected:
            raise PushError(f"{method} {url}: status {answer.status}: {answer.data[:500]!r}")
        return answer
