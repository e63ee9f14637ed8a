# SPDX-License-Identifier: Apache-2.0
"""Bytes that a real registry says it has sent are those that came, and nothing but blobs counts."""

from __future__ import annotations

import os
from pathlib import Path

import urllib3

from tests.bench.traffic import watched_registry
from tests.support.images import make_images
from tests.support.kube import until
from tests.support.tls import Authority


def test_the_registry_tells_what_it_sends(tmp_path: Path) -> None:
    before = dict(os.environ)
    authority = Authority.create(tmp_path / "authority")
    image = make_images(tmp_path / "blobs")["base/tools:1.0"]
    whole, part, other = image.own.layers[0], image.own.layers[1], image.own.config
    with watched_registry(tmp_path / "content", tmp_path, authority) as (registry, traffic):
        registry.pusher.push(image)
        assert not traffic.since(0), "what is pushed is not sent"
        pool = urllib3.PoolManager(ca_certs=str(authority.ca_file), retries=False)
        base = f"https://{registry.address}/v2/{image.repository}"

        def get(what: str, method: str = "GET", **headers: str) -> int:
            return len(pool.request(method, f"{base}/{what}", headers=headers).data)

        assert get(f"blobs/{other.digest}") == other.size
        until(lambda: traffic.since(0).total() == other.size, "the config is in the log")
        moment = traffic.now()
        get(f"blobs/{part.digest}", "HEAD")
        get(f"blobs/sha256:{'0' * 64}")
        get(f"manifests/{image.tag}", Accept=image.top.media_type)
        came = get(f"blobs/{part.digest}", Range="bytes=1000-") + get(f"blobs/{part.digest}", Range="bytes=0-9")
        assert came == part.size - 1000 + 10
        assert get(f"blobs/{whole.digest}") + get(f"blobs/{whole.digest}") == 2 * whole.size
        sent = {part.digest: came, whole.digest: 2 * whole.size}
        until(lambda: traffic.since(moment) == sent, "the log has all of it", 10, lambda: str(traffic.since(moment)))
    assert dict(os.environ) == before
