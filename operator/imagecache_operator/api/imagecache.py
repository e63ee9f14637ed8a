# SPDX-License-Identifier: Apache-2.0
"""The ImageCache itself: what users write (`Spec`) and what they read back (`Status`).

`api/crd.py` makes the CustomResourceDefinition from these models, `cluster/` parses objects with them and
`planning/` decides on them. Rules that JSON schema cannot say are CEL rules here, beside the field they guard,
so that the API server refuses a mistake with a sentence, before any controller sees it.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator

from imagecache_operator.api import reference
from imagecache_operator.api.access import AllowedNamespaces
from imagecache_operator.api.job import StoredAs
from imagecache_operator.api.model import Model, listed_once
from imagecache_operator.api.report import ImageState
from imagecache_operator.api.serving import ServerStatus
from imagecache_operator.api.warming import WarmNodes, WarmNodesStatus

MAX_NAME_LENGTH = 128
NAME_PATTERN = f"^[a-z]([-a-z0-9]{{0,{MAX_NAME_LENGTH - 2}}}[a-z0-9])?$"

# namespace:secretName. A namespace is a DNS label, a Secret's name a DNS subdomain.
PULL_SECRET_PATTERN = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?:[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"  # noqa: S105
UID_PATTERN = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"


def _cel(rule: str, message: str) -> dict[str, str]:
    return {"rule": rule, "message": message}


def _rules(*rules: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"x-kubernetes-validations": list(rules), **more}


def _fixed(field: str, why: str) -> dict[str, str]:
    """A rule for an optional field that may not appear, change or vanish after creation.

    It stands on the object around the field: a rule on an optional field itself is not run when the field
    appears or vanishes.
    """
    return _cel(
        f"has(self.{field}) == has(oldSelf.{field}) && "
        f"(!has(self.{field}) || self.{field} == oldSelf.{field})",
        f"{field} cannot change: {why}; create another ImageCache instead",
    )


class OnExpiry(StrEnum):
    """What happens to an expired cache."""

    DELETE = "Delete"
    RELEASE = "Release"


ImageReference = Annotated[str, Field(
    min_length=1, max_length=reference.MAX_LENGTH, pattern=reference.PATTERN,
)]
PullSecretReference = Annotated[str, Field(max_length=317, pattern=PULL_SECRET_PATTERN)]


class BuildingConfig(Model):
    """Where and with which credentials the cache is built."""

    cluster: Annotated[str, Field(max_length=36, pattern=UID_PATTERN)] | None = Field(
        default=None,
        description="UID of the cluster in which builder and volume live: the UID of its kube-system namespace. "
        "Absent: the cluster that this ImageCache lives in.",
    )
    image_pull_secrets: tuple[PullSecretReference, ...] | None = Field(
        default=None,
        max_length=20,
        description='Secrets with registry credentials, each as "namespace:secretName". '
        "Without a valid one only public images can be pulled.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )

    @field_validator("image_pull_secrets")
    @classmethod
    def _secrets_once(cls, secrets: tuple[str, ...] | None) -> tuple[str, ...] | None:
        listed_once(secrets or ())
        return secrets


class Spec(Model):
    """What is wanted."""

    model_config = ConfigDict(json_schema_extra=_rules(
        _fixed("storageClassName", "a volume cannot move to another class"),
        _cel(
            "(has(self.buildingConfig) && has(self.buildingConfig.cluster) ? self.buildingConfig.cluster : '') == "
            "(has(oldSelf.buildingConfig) && has(oldSelf.buildingConfig.cluster) ? "
            "oldSelf.buildingConfig.cluster : '')",
            "buildingConfig.cluster cannot change: a volume cannot move to another cluster; "
            "create another ImageCache instead",
        ),
    ))

    images: tuple[ImageReference, ...] = Field(
        min_length=1,
        max_length=20,
        description="The images to cache, 1 to 20 references as a Pod would write them: by tag, by digest or both. "
        "If one of them cannot be pulled, the cache fails and its message names it.",
        json_schema_extra=_rules(
            _cel("self.all(x, self.exists_one(y, x == y))", "an image is listed twice"),
            _cel("self == oldSelf", "images cannot change yet; create another ImageCache instead"),
            **{"x-kubernetes-list-type": "atomic"},
        ),
    )
    image_cache_size: int = Field(
        default=20,
        strict=True,
        ge=20,
        le=400,
        description="Size of the volume in GiB. It holds the decompressed images; "
        "three times their compressed size is a good start. It may grow later, where the StorageClass can.",
        json_schema_extra=_rules(_cel(
            "self >= oldSelf", "imageCacheSize cannot shrink: volumes only grow; create another ImageCache instead",
        )),
    )
    retention_days: int = Field(
        default=0,
        strict=True,
        ge=0,
        le=10000,
        description="Days until the cache expires, counted from its creation. 0 keeps it for ever.",
    )
    stored_as: StoredAs = Field(
        default=StoredAs.DECOMPRESSED,
        description="The form in which layers lie on the volume: Decompressed (plain tars), Original (as pulled: "
        "digests and signatures hold, and it is built fastest) or Zstd (smallest, and fastest to unpack on nodes).",
        json_schema_extra=_rules(_cel("self == oldSelf", "storedAs cannot change; create another ImageCache instead")),
    )
    storage_class_name: Annotated[str, Field(min_length=1, max_length=253)] | None = Field(
        default=None, description="StorageClass of the volume. Absent: the cluster's default class.",
    )
    on_expiry: OnExpiry = Field(
        default=OnExpiry.DELETE,
        description="What happens when the cache expires: Delete removes this ImageCache; Release frees the volume "
        "and keeps the object, for tools that would create it again.",
    )
    serve: bool = Field(
        default=True,
        strict=True,
        description="Whether nodes can take the images from this cache: a small registry then runs on its volume. "
        "false: the volume is filled and nothing else.",
    )
    allowed_namespaces: AllowedNamespaces | None = Field(
        default=None,
        description="Namespaces whose Pods may start from this cache. Absent: all, where it was built without "
        "pull Secrets; else the namespace whose Secrets pulled every image that was pulled with one.",
    )
    warm_nodes: WarmNodes | None = Field(
        default=None,
        description="Nodes that hold the images before any Pod asks for them, and keep them: a DaemonSet pulls them "
        "there, the layers from this cache. Absent: none. An empty object: all Linux nodes without taints.",
    )
    building_config: BuildingConfig | None = Field(default=None, description="Where and how the cache is built.")

    @property
    def pull_secrets(self) -> tuple[str, ...]:
        """The Secrets that it lists, as `namespace:secretName`."""
        return (self.building_config and self.building_config.image_pull_secrets) or ()

    @field_validator("images")
    @classmethod
    def _images_once(cls, images: tuple[str, ...]) -> tuple[str, ...]:
        listed_once(images)
        return images

    @field_validator("image_cache_size", "retention_days", mode="before")
    @classmethod
    def _whole_number(cls, value: object) -> object:
        """To the API server 25.0 is 25, while true and "25" are no numbers: what `strict` says, but for 25.0."""
        return int(value) if isinstance(value, float) and value.is_integer() else value


class Phase(StrEnum):
    """The state of a cache in one word."""

    CREATING = "Creating"
    AVAILABLE = "Available"
    UNAVAILABLE = "Unavailable"
    DELETING = "Deleting"
    FAILED = "Failed"


class AttemptState(StrEnum):
    """Where an attempt is. Starting: announced here, its Pod may not exist yet. Running: its Pod has been seen."""

    STARTING = "Starting"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    LOST = "Lost"


class ImageStatus(Model):
    """One image of the cache."""

    reference: str = Field(description="The reference as in spec.images.")
    digest: str | None = Field(default=None, description="What the reference resolved to at its registry.")
    state: ImageState
    bytes_done: int | None = Field(default=None, description="Compressed bytes fetched so far.")
    bytes_total: int | None = Field(default=None, description="Compressed bytes to fetch.")
    carrier: str | None = Field(
        default=None, description="Digest of the manifest by which nodes take the image's layers from the cache.",
    )
    pull_secret: str | None = Field(
        default=None, description="The listed Secret that it was pulled with, or (unknown). Absent: without any.",
    )
    size: int | None = Field(default=None, description="Bytes that the image takes on the volume.")
    reason: str | None = Field(default=None, description="Why the image failed, in one word.")
    message: str | None = Field(default=None, description="Why the image failed, in a sentence.")


class Attempt(Model):
    """The latest attempt: one builder Pod."""

    number: int = Field(description="Counts up for the life of the cache.")
    observed_generation: int | None = Field(
        default=None, description="The ImageCache's generation that it was made for. A later one asks for another.",
    )
    pull_secrets: str | None = Field(
        default=None, description="Which versions of the listed Secrets it was made with. Others ask for another.",
    )
    with_secrets: bool = Field(default=False, description="Whether it, or one before it, had Secrets listed.")
    failures: int = Field(default=0, description="Attempts that ended without success since the last good one.")
    state: AttemptState
    reason: str | None = Field(default=None, description="Why it ended without success, in one word.")
    message: str | None = Field(default=None, description="Why it ended without success, in a sentence.")
    finished_at: datetime | None = Field(default=None, description="When its end was seen.")


class VolumeStatus(Model):
    """The PersistentVolumeClaim that holds the layout, in the operator's namespace."""

    name: str
    uid: str | None = Field(default=None, description="Set when the images are complete on it.")


class Condition(Model):
    """A condition as everywhere in Kubernetes; the kstatus types Ready, Reconciling and Stalled are always there."""

    type: str
    status: str
    reason: str
    message: str = ""
    observed_generation: int = 0
    last_transition_time: datetime


class Status(Model):
    """What is."""

    phase: Phase | None = None
    message: str | None = Field(default=None, description="One sentence for a person.")
    observed_generation: int | None = Field(default=None, description="The generation that this status speaks of.")
    handled_retry: str | None = Field(
        default=None, description="The value of the annotation imagecache.dev/retry that was acted on last.",
    )
    image_count: int | None = Field(default=None, description="How many images the cache lists.")
    size: str | None = Field(default=None, description="Bytes that the layout takes, of what was asked for.")
    progress: str | None = Field(default=None, description="How far the attempt is, 100 % once the cache is complete.")
    expires_at: datetime | None = Field(default=None, description="When the cache expires.")
    last_used_time: datetime | None = Field(
        default=None, description="When a Pod was last made that starts from the cache; about an hour behind at most.",
    )
    volume: VolumeStatus | None = Field(default=None, description="The cache's volume.")
    server: ServerStatus | None = Field(default=None, description="What serves the cache to nodes.")
    warm_nodes: WarmNodesStatus | None = Field(default=None, description="Nodes that hold every image of the cache.")
    attempt: Attempt | None = Field(default=None, description="The latest attempt to build the cache.")
    images: tuple[ImageStatus, ...] = Field(
        default=(),
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["reference"]},
    )
    conditions: tuple[Condition, ...] = Field(
        default=(),
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )

    def condition(self, kind: str) -> Condition | None:
        """The condition of that type; None where there is none."""
        return next((c for c in self.conditions if c.type == kind), None)
