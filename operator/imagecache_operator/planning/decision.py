# SPDX-License-Identifier: Apache-2.0
"""The shapes that the thinking speaks in: a decision about one cache, and the plan that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from imagecache_operator.api.conditions import ConditionReason
from imagecache_operator.api.imagecache import Attempt, ImageStatus, Phase, Status, VolumeStatus
from imagecache_operator.api.serving import ServerStatus
from imagecache_operator.api.warming import WarmNodesStatus

Manifest = dict[str, Any]

# When to look again, where something is under way.
AT_ONCE = timedelta(0)
SOON = timedelta(seconds=5)


@dataclass(frozen=True)
class ObjectRef:
    """One object to delete. With a uid, only that very object, not one that took its name since. `if_allowed`: where
    the cluster refuses, all else goes on."""

    kind: str
    name: str
    uid: str | None = None
    if_allowed: bool = False


@dataclass(frozen=True)
class Event:
    """One Kubernetes event on the ImageCache. `key` makes its name, so that telling twice is telling once."""

    type: str
    reason: str
    message: str
    key: str


@dataclass(frozen=True)
class Decision:
    """What is true of a cache now, and what is to be done about it.

    `apply`, `create`, `delete`, `serve`, `trials` and `warm` are carried out in that order; `again_in` None means at
    the next resync. `gone` means that nothing of a deleted cache is left. `serve` and `warm` are applied, and `trials`
    (Pods) created, by themselves: where the cluster refuses them, the cache is complete all the same, and only not
    served, or not on nodes. `warmed` None: nobody asks for warm nodes.
    """

    phase: Phase
    reason: ConditionReason
    message: str
    apply: tuple[Manifest, ...] = ()
    create: tuple[Manifest, ...] = ()
    delete: tuple[ObjectRef, ...] = ()
    serve: tuple[Manifest, ...] = ()
    attempt: Attempt | None = None
    images: tuple[ImageStatus, ...] | None = None
    volume: VolumeStatus | None = None
    server: ServerStatus | None = None
    served: ConditionReason = ConditionReason.NOT_AVAILABLE
    served_message: str = ""
    trials: tuple[Manifest, ...] = ()
    warm: tuple[Manifest, ...] = ()
    warm_nodes: WarmNodesStatus | None = None
    warmed: ConditionReason | None = None
    warmed_message: str = ""
    size: str | None = None
    progress: str | None = None
    handled_retry: str | None = None
    again_in: timedelta | None = None
    gone: bool = False


@dataclass(frozen=True)
class Plan:
    """What one pass carries out and reports."""

    apply: tuple[Manifest, ...]
    create: tuple[Manifest, ...]
    delete: tuple[ObjectRef, ...]
    serve: tuple[Manifest, ...]
    trials: tuple[Manifest, ...]
    warm: tuple[Manifest, ...]
    status: Status
    events: tuple[Event, ...]
    again_in: timedelta
    gone: bool = False
    # It waits for a slot or for quota: the end of another cache's builder, or of another cache, is worth a pass.
    waits_for_others: bool = False
