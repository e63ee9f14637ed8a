# SPDX-License-Identifier: Apache-2.0
"""Pushes test images to a registry, over HTTPS. Called by whoever starts one, and by tests.

Not skopeo: tests use that to judge results, and a registry should hold exactly the bytes that `images` made,
an index with all its entries too. Pushing again what is there costs one request an image, with tokens three.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urljoin, urlsplit

import urllib3

from .images import Blob, Image, Manifest
from .token_service.service import Account

TIMEOUT = urllib3.Timeout(connect=5, read=60)


class PushError(Exception):
    """The registry did not do what was asked of it; the message says what it answered."""


class Pusher:
    """Pushes to one registry: `address` is host:port as this process reaches it.

    So is `token_address` for the token service, whose name may be known only beside the cluster.
    """

    def __init__(
        self, address: str, ca_file: Path, account: Account | None = None, token_address: str | None = None
    ) -> None:
        self.address = address
        self._base = f"https://{address}"
        self._token_address = token_address
        self._pool = urllib3.PoolManager(ca_certs=str(ca_file), timeout=TIMEOUT, retries=False)
        basic = f"{account.name}:{account.password}" if account else None
        self._login = dict(urllib3.make_headers(basic_auth=basic))
        self._authorization = self._login

    def answers(self) -> bool:
        """Whether a registry answers, and lets us in."""
        try:
            return self._send("GET", f"{self._base}/v2/").status == 200
        except (urllib3.exceptions.HTTPError, PushError):
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

    def remove(self, image: Image) -> None:
        """The image's tag and its manifest; blobs stay."""
        self._request("DELETE", f"{self._base}/v2/{image.repository}/manifests/{image.digest}", (202,))

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
        answer = self._send(method, url, headers, body)
        if answer.status not in expected:
            raise PushError(f"{method} {url}: status {answer.status}: {answer.data[:500]!r}")
        return answer

    def _send(
        self, method: str, url: str, headers: dict[str, str] | None = None, body: BinaryIO | bytes | None = None
    ) -> urllib3.BaseHTTPResponse:
        """Once; and once more with the token that the registry asks for."""
        answer = self._send_once(method, url, headers, body)
        asked = challenge(answer)
        if answer.status != 401 or "realm" not in asked:
            return answer
        self._authorization = {"Authorization": f"Bearer {self._token(asked)}"}
        return self._send_once(method, url, headers, body)

    def _send_once(
        self, method: str, url: str, headers: dict[str, str] | None, body: BinaryIO | bytes | None
    ) -> urllib3.BaseHTTPResponse:
        if body is not None and not isinstance(body, bytes):
            body.seek(0)
        sent = self._authorization | (headers or {})
        return self._pool.request(method, url, headers=sent, body=body, redirect=False)

    def _token(self, asked: dict[str, str]) -> str:
        realm = urlsplit(asked["realm"])
        url = realm._replace(netloc=self._token_address or realm.netloc).geturl()
        query = [(name, asked[name]) for name in ("service", "scope") if name in asked]
        answer = self._pool.request("GET", url, fields=query, headers=self._login)
        if answer.status != 200:
            raise PushError(f"{url}: status {answer.status}: {answer.data[:500]!r}")
        return str(json.loads(answer.data)["token"])


def challenge(answer: urllib3.BaseHTTPResponse) -> dict[str, str]:
    """What a registry wants to see instead, if that is a token: realm, service, scope, error."""
    demand = answer.headers.get("WWW-Authenticate", "")
    return dict(re.findall(r'(\w+)="([^"]*)"', demand)) if demand.startswith("Bearer ") else {}
