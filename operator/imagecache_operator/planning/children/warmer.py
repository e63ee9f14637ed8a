# SPDX-License-Identifier: Apache-2.0
"""What keeps a cache's images on nodes: a DaemonSet whose Pods do nothing but have them as image volumes. Applied by
server-side apply, once the cache is served; `planning/warming.py` says when.

Kubelet pulls image volumes before containers, one after another in the order of the list. For each image there is its
carrier first, which brings the layers from the cache, then the image under its own name, for which only a manifest and
a config are left to fetch. Nobody mounts a carrier, so one that cannot be had is an event and no more. The image is
mounted: a container starts only when it is there, and what is mounted is not collected when a disk fills up. Each image
has a container of its own, so that one that cannot be had does not hide the others. Nothing of an image is ever run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imagecache_operator import names
from imagecache_operator.api.warming import WarmNodes
from imagecache_operator.planning.children import owner, restricted
from imagecache_operator.planning.children.applied import versioned
from imagecache_operator.planning.observed import Cache
from imagecache_operator.settings import Settings

MOUNT_PATH = "/image"


def manifest(
    cache: Cache, nodes: WarmNodes, images: Mapping[str, str | None], home_uid: str, settings: Settings,
    pull_secrets: Sequence[str] = (),
) -> dict[str, Any]:
    """The DaemonSet. `images`: each reference as the spec has it, with that of its carrier at the cache's server, or
    None for an image that has no layers. `pull_secrets`: names of Secrets, for the server and for registries."""
    labels = names.child_labels(names.COMPONENT_WARMER, home_uid, cache.uid)
    # Without the labels of children: there may be one on each of a thousand nodes, and what matters of them is in the
    # DaemonSet's status. So their changes wake nobody.
    of_pods = {key: labels[key] for key in (names.LABEL_COMPONENT, names.LABEL_CACHE)}
    return versioned({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {
            "name": names.warmer_name(home_uid, cache.uid),
            "namespace": settings.namespace,
            "labels": labels,
            "annotations": {names.ANNOTATION_CACHE_NAME: cache.name},
            "ownerReferences": [owner.reference(cache)],
        },
        "spec": {
            # Nobody waits for a Pod of it, so all of them may be replaced at once.
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "100%"}},
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": of_pods},
            "template": {
                "metadata": {
                    "labels": {**of_pods, "sidecar.istio.io/inject": "false"},
                    "annotations": {
                        names.ANNOTATION_CACHE_NAME: cache.name,
                        names.ANNOTATION_CACHE: names.NONE,
                        "linkerd.io/inject": "disabled",
                    },
                },
                "spec": _pod(nodes, images, settings.warmer_image, pull_secrets),
            },
        },
    })


def _pod(
    nodes: WarmNodes, images: Mapping[str, str | None], program: str, pull_secrets: Sequence[str],
) -> dict[str, Any]:
    volumes: list[dict[str, Any]] = []
    for number, (image, carrier) in enumerate(images.items()):
        if carrier is not None:
            volumes.append(_volume(f"carrier-{number}", carrier))
        volumes.append(_volume(f"image-{number}", image))
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "imagePullSecrets": [{"name": name} for name in pull_secrets],
        "terminationGracePeriodSeconds": 1,
        # What a cache holds is for Linux; a DaemonSet would reach other nodes too.
        "nodeSelector": {"kubernetes.io/os": "linux", **(nodes.node_selector or {})},
        "tolerations": [toleration.to_json_dict() for toleration in nodes.tolerations or ()],
        "securityContext": restricted.POD,
        "containers": [_container(number, program) for number in range(len(images))],
        "volumes": volumes,
    }


def _volume(name: str, reference: str) -> dict[str, Any]:
    # What is on the node already is right: a carrier goes by digest, and a tag that is there is what Pods start from.
    return {"name": name, "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}


def _container(number: int, program: str) -> dict[str, Any]:
    return {
        "name": f"image-{number}",
        "image": program,
        "imagePullPolicy": "IfNotPresent",
        # It sleeps: 1 MiB was seen, and 4.5 MiB at its start. What starts it is counted too, and some versions of runc
        # copy themselves into memory first, so the limit leaves room.
        "resources": {"requests": {"cpu": "1m", "memory": "2Mi"}, "limits": {"memory": "32Mi"}},
        "securityContext": restricted.CONTAINER,
        "volumeMounts": [{"name": f"image-{number}", "mountPath": MOUNT_PATH, "readOnly": True}],
    }
