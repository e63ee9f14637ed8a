# SPDX-License-Identifier: Apache-2.0
"""Where the looks at the webhook are made in tests: a cluster in memory, and what is right there at the end."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from imagecache_operator import names
from imagecache_operator.cluster.api import Object
from imagecache_operator.controller import certificates
from imagecache_operator.controller.injection import CONFIGURATION, Injection
from imagecache_operator.planning.webhook import LOOK_AGAIN
from imagecache_operator.settings import Injection as Setting
from imagecache_operator.settings import Settings

from tests.support.memory_api import MemoryApi

from .world import Mortal

BEGIN = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SETTINGS = Settings(builder_image="none is started")
ON = SETTINGS.model_copy(update={"injection": Setting.ON})
OFF = SETTINGS.model_copy(update={"injection": Setting.OFF})


class Place:
    """A cluster with the webhook's Deployment in it, and the operator's looks at it, by a clock of its own."""

    def __init__(self, *, ready: int = 2) -> None:
        self.now = BEGIN
        self.memory = MemoryApi(lambda: self.now)
        self.api = Mortal(self.memory)
        self.memory.create({
            "apiVersion": "apps/v1", "kind": "Deployment", "spec": {},
            "metadata": {"name": names.WEBHOOK, "namespace": names.NAMESPACE},
        })
        self.ready(ready)
        self.node("node-1", "v1.37.2")

    def node(self, name: str, version: str, **metadata: Any) -> None:
        self.memory.create({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, **metadata},
            "status": {"nodeInfo": {"kubeletVersion": version}},
        })

    def ready(self, replicas: int) -> None:
        self.memory.edit(
            "Deployment", names.WEBHOOK, lambda o: o.update(status={"readyReplicas": replicas}), names.NAMESPACE,
        )

    def operator(self, settings: Settings = SETTINGS) -> Injection:
        return Injection(self.api, settings, lambda: self.now)

    def look(self, settings: Settings = SETTINGS) -> int:
        """Looks until it rests. How many writes that took."""
        before, operator = self.api.writes, self.operator(settings)
        for _ in range(20):
            if operator.run_once().again_in == LOOK_AGAIN:
                return self.api.writes - before
        raise AssertionError("it never rests")

    @property
    def secret(self) -> Any:
        return self.memory.get("Secret", names.WEBHOOK_SECRET, names.NAMESPACE)

    @property
    def files(self) -> dict[str, bytes]:
        return {k: base64.b64decode(v) for k, v in self.secret["data"].items()}

    @property
    def configuration(self) -> Any:
        return self.memory.get(CONFIGURATION, names.WEBHOOK_CONFIGURATION)

    def damage(self, change: Callable[[Object], object]) -> None:
        self.memory.edit("Secret", names.WEBHOOK_SECRET, change, names.NAMESPACE)

    def check(self) -> None:
        """The end of it all: a certificate that is valid now, and an API server that trusts who signed it."""
        authority = certificates.authorities(self.files)[0]
        server = certificates.server(self.files)
        assert server
        assert server.signed_by == 0
        assert certificates.can_sign(self.files)
        for certificate in (authority, server):
            assert certificate.not_before <= self.now < certificate.not_after
        assert self.secret["type"] == "kubernetes.io/tls"
        assert set(self.secret["data"]) == {"ca.crt", "ca.key", "tls.crt", "tls.key"}
        for entry in self.configuration["webhooks"]:
            assert base64.b64decode(entry["clientConfig"]["caBundle"]) == self.files["ca.crt"]
