# SPDX-License-Identifier: Apache-2.0
"""Pods that start from a cache, or as if there were none, and where their layers came from: the registry's own access
log is the witness.

End-to-end tests have it as the fixture `starts`, which removes the Pods of a test when that is over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from imagecache_operator import names

from . import cold_node
from .images import Image
from .kube import Kube, Object, until
from .registry_container import PORT, RegistryContainer
from .upstream import Upstream

CACHE, SPACE = "e2e-start", "e2e-start"
IMAGES = ("team/app:2.1", "team/web:zstd", "team/multi:1.0")

_LAYERS = re.compile(r'"GET /v2/\S+/blobs/(sha256:[0-9a-f]{64}) ')
_SECURITY: Object = {
    "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True, "runAsUser": 65534,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Starts:
    """Pods in one namespace, `space`. An image is named as in the upstream registry, or given as it was made."""

    kube: Kube
    upstream: Upstream
    space: str
    made: list[str] = field(default_factory=list)

    def reference(self, image: str | Image) -> str:
        return f"{self.upstream.host}:{PORT}/{self._image(image).name}"

    def start(self, name: str, *images: str, ask: str | None = CACHE, node: int = 0, **spec: Any) -> Object:
        """Makes a Pod of these references, and returns it when it runs."""
        self.create(name, *images, ask=ask, node=node, **spec)
        return self.runs(name)

    def create(self, name: str, *images: str, ask: str | None = CACHE, node: int = 0, **spec: Any) -> None:
        self.made.append(name)
        self.kube.apply(self.manifest(name, *images, ask=ask, node=self.kube.cluster.nodes[node], **spec))

    def runs(self, name: str, seconds: float = 90) -> Object:
        """The Pod, once it runs."""
        until(lambda: self.phase(name) == "Running", f"Pod {name} runs", seconds, lambda: self._described(name))
        return self.find(name)

    def remove(self) -> None:
        """All that were made. What they have on their nodes is let go a moment later."""
        if self.made:
            self.kube.cluster.kubectl(
                "-n", self.space, "delete", "pod", *self.made, "--ignore-not-found", "--grace-period=0", "--force",
            )

    def manifest(self, name: str, *images: str, ask: str | None = CACHE, node: str = "", **spec: Any) -> Object:
        """A Pod that a namespace takes which enforces `restricted`."""
        return {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "namespace": self.space, "annotations": {names.ANNOTATION_CACHE: ask} if ask else {},
            },
            "spec": {
                **({"nodeName": node} if node else {}),
                "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
                "containers": [container(f"c{number}", image) for number, image in enumerate(images)],
                **spec,
            },
        }

    def dry_run(self, manifest: Object) -> Object:
        """What would become of it: the webhook is asked, nothing is made."""
        text = json.dumps(manifest)
        return dict(json.loads(self.kube.cluster.kubectl(
            "create", "-f", "-", "--dry-run=server", "-o", "json", input=text,
        )))

    def would_be_injected(self, image: str, ask: str = CACHE) -> bool:
        """Whether a new Pod of that reference would be. The webhook hears of a change a moment after we do."""
        return bool(volumes(self.dry_run(self.manifest("would-be", image, ask=ask))))

    def find(self, name: str) -> Object:
        return self.kube.get("pod", name, self.space) or {}

    def phase(self, name: str) -> str:
        return str(self.find(name).get("status", {}).get("phase"))

    def events(self, name: str) -> list[Object]:
        selector = f"involvedObject.name={name}"
        text = self.kube.cluster.kubectl("-n", self.space, "get", "events", "--field-selector", selector, "-o", "json")
        return list(json.loads(text)["items"])

    def failed_at_the_cache(self, name: str) -> bool:
        """Whether the node has told that it could not take something from a cache."""
        return any(e["reason"] == "Failed" and "/carrier/" in e["message"] for e in self.events(name))

    def forget(self, *images: str | Image, node: int = 0) -> None:
        """Makes the node cold, and waits until nothing of these images is left there."""
        layers = [self._image(image).own.diff_ids for image in images]
        cold_node.forget(self.kube.cluster, self.kube.cluster.nodes[node], cold_node.FROM_TESTS, layers)

    def logged(self) -> int:
        """Where the registry's access log is now: for `layers_asked`."""
        return len(self.upstream.access_log())

    def layers_asked(self, since: int, *images: str | Image) -> set[str]:
        """Which of the images' layers the registry was asked for since then."""
        wanted = (digest for image in images for digest in self._image(image).own.layer_digests)
        return layers_asked(self.upstream, since, wanted)

    def _image(self, image: str | Image) -> Image:
        return self.upstream.images[image] if isinstance(image, str) else image

    def _described(self, name: str) -> str:
        return self.kube.cluster.kubectl("-n", self.space, "describe", "pod", name, check=False)[-3000:]


def container(name: str, image: str, **more: Any) -> Object:
    return {"name": name, "image": image, "securityContext": _SECURITY, **more}


def layers_asked(registry: RegistryContainer, since: int, wanted: Iterable[str]) -> set[str]:
    """Which of these layers the registry was asked for since that line of its log."""
    return set(wanted) & {m[1] for line in registry.access_log()[since:] if (m := _LAYERS.search(line))}


def volumes(pod: Object) -> list[str]:
    """What the Pod takes from a cache: the references of the volumes that were added to it."""
    return [v["image"]["reference"] for v in pod["spec"].get("volumes", []) if v["name"].startswith("imagecache-")]


def reason(pod: Object) -> str:
    """Why it starts without a cache, as it is told on the Pod."""
    return str(pod["metadata"].get("annotations", {}).get(names.ANNOTATION_NOT_INJECTED, ""))


def images_of(pod: Object) -> list[tuple[str, str]]:
    """What kubelet says of each container: image and image ID."""
    return [(s["image"], s["imageID"]) for s in pod["status"]["containerStatuses"]]
