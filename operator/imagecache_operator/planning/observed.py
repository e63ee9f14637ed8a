# SPDX-License-Identifier: Apache-2.0
"""What one pass has seen: frozen facts, already parsed. `cluster/observe.py` makes them, `planning` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from imagecache_operator.api.conditions import ConditionReason
from imagecache_operator.api.credentials import Credential
from imagecache_operator.api.imagecache import Attempt, AttemptState, Phase, Spec, Status
from imagecache_operator.api.report import Outcome, Progress


@dataclass(frozen=True)
class Cache:
    """One ImageCache. `spec` is None where it does not follow the rules; `spec_error` then says why."""

    name: str
    uid: str
    generation: int
    created: datetime
    deleting: bool
    spec: Spec | None
    spec_error: str
    status: Status
    retry: str | None = None
    resource_version: str = ""


@dataclass(frozen=True)
class Namespace:
    """A namespace, as far as it matters to who may use a cache. A name that is used again gets another uid.

    `labels` and `created` are None where the namespace has not been seen: nothing is known of it but its name.
    """

    name: str
    uid: str = ""
    labels: Mapping[str, str] | None = field(default=None, hash=False)
    created: datetime | None = None


@dataclass(frozen=True)
class Kubelet:
    """A version of kubelet that is in the cluster, as it names itself, and one of the nodes that have it. `virtual`: it
    is no kubelet, but a program that makes something else look like a node."""

    version: str
    node: str
    virtual: bool = False


@dataclass(frozen=True)
class Volume:
    """The cache's PersistentVolumeClaim. `requested` is the size as Kubernetes writes it, e.g. "20Gi".

    `storage_class` is None while nobody has chosen one: neither the spec nor the cluster's default.
    """

    name: str
    uid: str
    phase: str
    requested: str
    deleting: bool = False
    storage_class: str | None = None


@dataclass(frozen=True)
class PullSecret:
    """A Secret that the spec lists, as `namespace:name`. `version` changes with its content; None: unknown for now.

    Where it cannot be used, `credentials` is empty, and `problem` and `words` say why; `words` continue a sentence
    that begins with the Secret's name.
    """

    reference: str
    version: str | None = ""
    credentials: tuple[Credential, ...] = field(default=(), repr=False)
    problem: ConditionReason | None = None
    words: str = ""


@dataclass(frozen=True)
class AttemptSecret:
    """The Secret with an attempt's credentials, in the operator's namespace; nothing of its content."""

    name: str
    attempt: int


@dataclass(frozen=True)
class Builder:
    """A builder Pod of this cache.

    `terminated` speaks of the builder *container*: sidecars may keep a Pod running after it. `outcome` is what it
    said at its end, None if it was ended before it could speak. `ended_because` then says what Kubernetes knows
    (OOMKilled, Evicted …); `waiting_for` is what holds up a builder that has not started.
    """

    name: str
    attempt: int
    created: datetime
    terminated: bool = False
    running: bool = False
    deleting: bool = False
    outcome: Outcome | None = None
    ended_because: str = ""
    waiting_for: str = ""


@dataclass(frozen=True)
class ServerPart:
    """A Deployment, a Service, an Ingress or a Pod of a cache's server. `version` stands for the manifest that it was
    made from (`children/server.py`); Pods have none."""

    kind: str
    name: str
    version: str = ""
    deleting: bool = False


@dataclass(frozen=True)
class Server:
    """What serves the volume, as far as it is there. `ready`: the Deployment as it was last applied has a Pod that
    answers. `waiting_for` is what holds one up. `behind_ingress`: its Service was made for an Ingress. The Ingress is
    among the parts only where the settings want one: else there may be no right to look."""

    parts: tuple[ServerPart, ...] = ()
    node_port: int | None = None
    behind_ingress: bool = False
    ready: bool = False
    waiting_for: str = ""

    def has(self, kind: str, version: str) -> bool:
        """Whether there is such an object of that version. One on its way out counts: its name is taken."""
        return any(p.kind == kind and (p.version == version or p.deleting) for p in self.parts)


@dataclass(frozen=True)
class Pool:
    """Nodes that take images in the same way, as far as can be told: their platform, what they have in common in
    `words`, and the names of those that are ready now."""

    words: str
    platform: str
    ready: tuple[str, ...]


@dataclass(frozen=True)
class Canary:
    """A Pod that tries a cache's server, at `address`, on a node for all of its pool. `over`: it has ended; `passed`:
    as it should. `waiting_for` is what holds it up, or why it has ended otherwise."""

    name: str
    address: str
    pool: str
    node: str
    created: datetime
    deleting: bool = False
    over: bool = False
    passed: bool = False
    waiting_for: str = ""


@dataclass(frozen=True)
class Warmer:
    """The DaemonSet that keeps images on nodes, in the `version` that it was made from. `warm` of `wanted` nodes hold
    every image; none counts as warm while its controller has not looked at what was applied last, and `wanted` is None
    while that has not looked at all."""

    name: str
    version: str = ""
    deleting: bool = False
    warm: int = 0
    wanted: int | None = None


@dataclass(frozen=True)
class WarmerSecret:
    """Credentials of a warmer, in the `version` that they were made from; nothing of their content."""

    name: str
    version: str = ""


@dataclass(frozen=True)
class Neighbour:
    """Any ImageCache of the cluster, this one included: enough to share slots and quota."""

    name: str
    created: datetime
    deleting: bool
    phase: Phase | None
    attempt: Attempt | None
    has_builder: bool

    @property
    def age_rank(self) -> tuple[datetime, str]:
        """Sorts the oldest first, the same way for everybody."""
        return (self.created, self.name)

    @property
    def is_building(self) -> bool:
        announced = self.attempt is not None and self.attempt.state in (AttemptState.STARTING, AttemptState.RUNNING)
        return self.has_builder or (announced and not self.deleting)

    @property
    def is_held_up(self) -> bool:
        """Announced, but with no builder and no hope of one for now: refused by the cluster, or expired."""
        return self.is_building and not self.has_builder and self.phase in (Phase.FAILED, Phase.UNAVAILABLE)


@dataclass(frozen=True)
class Observed:
    """Everything that one pass knows about one ImageCache and its surroundings.

    `storage_classes` are the cluster's, looked up only while the volume is pending. `last_used`: when the newest Pod
    was made that starts from it, as far as is known.
    """

    cache: Cache
    home_uid: str
    volume: Volume | None = None
    builders: tuple[Builder, ...] = ()
    attempt_secrets: tuple[AttemptSecret, ...] = ()
    server: Server = Server()
    canaries: tuple[Canary, ...] = ()
    warmer: Warmer | None = None
    warmer_secrets: tuple[WarmerSecret, ...] = ()
    pull_secrets: tuple[PullSecret, ...] = ()
    storage_classes: tuple[str, ...] = ()
    progress: Progress | None = None
    neighbours: tuple[Neighbour, ...] = ()
    platforms: tuple[str, ...] = field(default=("linux/amd64",))
    kubelets: tuple[Kubelet, ...] = ()
    pools: tuple[Pool, ...] = ()
    last_used: datetime | None = None

    def builder_of(self, attempt: int) -> Builder | None:
        """The builder Pod of that attempt, if there is one."""
        return next((b for b in self.builders if b.attempt == attempt), None)
