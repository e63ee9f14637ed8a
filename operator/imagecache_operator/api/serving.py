# SPDX-License-Identifier: Apache-2.0
"""What status says of a cache's server. `imagecache.py` has it as status.server."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from imagecache_operator.api.model import Model


class CanaryStatus(Model):
    """How nodes of one pool start Pods from this server: what the last trial on one of them has shown."""

    pool: str = Field(description="What these nodes have in common: kubelet, container runtime, platform, node pool.")
    node: str = Field(description="The node that has tried.")
    passed: bool = Field(description="Whether a Pod that is injected would have started from the cache there.")
    failures: int = Field(default=0, description="Trials in a row that have failed.")
    message: str | None = Field(default=None, description="Why it has failed, in the node's words.")
    tried_at: datetime = Field(description="When its end was seen. One that has failed is tried again.")


class ServerStatus(Model):
    """What serves the volume to nodes: a Deployment and a Service of one name, in the operator's namespace, and where
    servers have host names an Ingress."""

    name: str
    address: str = Field(description="Where every node reaches it: host:port, or a host name (port 443).")
    ready: bool = Field(default=False, description="Whether it answers.")
    canaries: tuple[CanaryStatus, ...] = Field(
        default=(),
        description="What trials on nodes have shown, where Pods are injected: they are only once one has passed, and "
        "while none has failed.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["pool"]},
    )
