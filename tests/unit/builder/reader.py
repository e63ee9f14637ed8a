# SPDX-License-Identifier: Apache-2.0
"""Pulls an image from a stock registry on a volume. Called by tests of what readers see there, and when."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import urllib3
from imagecache_operator.api.reference import parse
from imagecache_operator.builder.manifest import ACCEPTED

from tests.support.registry_process import RegistryProcess


class Reader:
    """Pulls as a node does: manifest by tag, then all that it names, each compared with its digest."""

    def __init__(self, server: RegistryProcess, reference: str) -> None:
        stored = parse(reference)
        self._pool = urllib3.PoolManager(ca_certs=str(server.authority.ca_file), retries=False)
        self._base = f"https://{server.address}/v2/{stored.stored_repository}"
        self._tag = stored.stored_tag
        self._manifest: dict[str, Any] = {}
        self.seen: list[str | None] = []  # config digests; None where there was no image

    def pull(self) -> None:
        if self._manifest:  # that of the last time: a node may take its time between manifest and layers
            self._pull_blobs()
        answer = self._get(f"manifests/{self._tag}")
        assert answer.status in (200, 404), answer.data
        self._manifest = json.loads(answer.data) if answer.status == 200 else {}
        self.seen.append(self._pull_blobs() if self._manifest else None)

    def _pull_blobs(self) -> str:
        digests: list[str] = [blob["digest"] for blob in (self._manifest["config"], *self._manifest["layers"])]
        for digest in digests:
            answer = self._get(f"blobs/{digest}")
            assert answer.status == 200, (digest, answer.data)
            assert f"sha256:{hashlib.sha256(answer.data).hexdigest()}" == digest
        return digests[0]

    def _get(self, path: str) -> urllib3.BaseHTTPResponse:
        return self._pool.request("GET", f"{self._base}/{path}", headers={"Accept": ", ".join(ACCEPTED)})
