# SPDX-License-Identifier: Apache-2.0
"""The Pod that tries on a node how Pods start from a cache; `planning/canaries.py` says when. Created, never applied.

It is injected as every Pod is, but with the canary (`api/canary.py`), and with two things more. The first volume is of
an image that the cache does not have: what cannot be had must not keep a Pod from starting. And the last one is
mounted, so that the container starts only where the node has found the canary's layer by what it is, not by its name;
its program ends at once. So the Pod succeeds where the node reaches the server, pulls volumes in their order, lets
nobody wait for those that nobody mounts, and shares layers between images: what a start from a cache rests on. It asks
the server each time, whatever the node has.
"""

from __future__ import annotations

from typing import Any

from imagecache_operator import names
from imagecache_operator.api import canary
from imagecache_operator.planning.children import owner, restricted
from imagecache_operator.planning.observed import Cache, Pool
from imagecache_operator.settings import Settings

MOUNT_PATH = "/canary"


def manifest(
    cache: Cache, pool: Pool, node: str, address: str, home_uid: str, settings: Settings, *, password: bool,
) -> dict[str, Any]:
    """The Pod, bound to that node: whatever keeps other Pods away from it, it is the node that is tried."""
    volumes = {
        "absent": canary.ABSENT, "layers": canary.layers(pool.platform).path, "image": canary.image(pool.platform).path,
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.canary_name(home_uid, cache.uid, address, node),
            "namespace": settings.namespace,
            "labels": {
                **names.child_labels(names.COMPONENT_CANARY, home_uid, cache.uid), "sidecar.istio.io/inject": "false",
            },
            "annotations": {
                names.ANNOTATION_CACHE_NAME: cache.name,
                names.ANNOTATION_CACHE: names.NONE,
                names.ANNOTATION_CANARY_ADDRESS: address,
                names.ANNOTATION_CANARY_POOL: pool.words,
                "linkerd.io/inject": "disabled",
            },
            "ownerReferences": [owner.reference(cache)],
        },
        "spec": {
            "nodeName": node,
            "tolerations": [{"operator": "Exists"}],
            "restartPolicy": "Never",
            # Should nobody be there to end it: that is the operator's deadline, three times.
            "activeDeadlineSeconds": 3 * int(settings.canary_deadline.total_seconds()),
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": [{"name": names.ACCESS_SECRET}] if password else [],
            "securityContext": restricted.POD,
            "containers": [{
                "name": names.COMPONENT_CANARY,
                # That of servers: no further image that a cluster would have to reach.
                "image": settings.server_image,
                "imagePullPolicy": "IfNotPresent",
                "args": ["--version"],
                "resources": {"requests": {"cpu": "1m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
                "securityContext": restricted.CONTAINER,
                "volumeMounts": [{"name": "image", "mountPath": MOUNT_PATH, "readOnly": True}],
            }],
            "volumes": [
                {"name": name, "image": {"reference": f"{address}/{path}", "pullPolicy": "Always"}}
                for name, path in volumes.items()
            ],
        },
    }
