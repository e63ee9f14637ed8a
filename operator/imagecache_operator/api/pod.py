# SPDX-License-Identifier: Apache-2.0
"""What of a Pod decides about caches: the few fields that `planning/matching.py` and `planning/injection.py` read.

The API server has checked types and nothing else when it asks a mutating webhook, and a file on a command line may hold
anything: whoever parses a Pod with this gets a ValidationError that names the field, and no surprise later.
"""

from __future__ import annotations

from imagecache_operator.api.model import Model


class ObjectMeta(Model):
    """`None` and empty are told apart: a JSON patch adds a key to what is there, and puts there what is not."""

    name: str | None = None
    generate_name: str | None = None
    namespace: str | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Container(Model):
    """A container or an init container."""

    image: str | None = None


class ImageSource(Model):
    """A volume that is an image."""

    reference: str | None = None


class Volume(Model):
    """Any volume."""

    name: str | None = None
    image: ImageSource | None = None


class SecretReference(Model):
    """A Secret of the Pod's namespace, by name."""

    name: str | None = None


class OperatingSystem(Model):
    """Of the nodes that the Pod is for."""

    name: str | None = None


class PodSpec(Model):
    """Lists are None where there is no such field (or null)."""

    init_containers: tuple[Container, ...] | None = None
    containers: tuple[Container, ...] | None = None
    volumes: tuple[Volume, ...] | None = None
    image_pull_secrets: tuple[SecretReference, ...] | None = None
    os: OperatingSystem | None = None
    runtime_class_name: str | None = None


class Pod(Model):
    """A Pod, or the template of one."""

    metadata: ObjectMeta
    spec: PodSpec

    @property
    def images(self) -> tuple[str, ...]:
        """Every image that it names, each once, as written: of init containers, of containers, of its own volumes."""
        containers = (*(self.spec.init_containers or ()), *(self.spec.containers or ()))
        volumes = (v.image.reference for v in self.spec.volumes or () if v.image is not None)
        return tuple(dict.fromkeys(image for image in (*(c.image for c in containers), *volumes) if image))
