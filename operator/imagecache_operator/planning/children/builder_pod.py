# SPDX-License-Identifier: Apache-2.0
"""The builder Pod of one attempt. It is created once and never applied again: an apply would bring back a Pod that
somebody deleted, and would be refused for a running Pod after an upgrade of the operator.

The Pod asks for nothing that a serverless cluster or Pod Security `restricted` refuses: no privilege, no host path,
port or network, no service account token, requests equal to limits.
"""

from __future__ import annotations

from typing import Any

from imagecache_operator import names
from imagecache_operator.api.job import GIB, BuildJob
from imagecache_operator.planning.children import owner, restricted
from imagecache_operator.planning.observed import Cache
from imagecache_operator.settings import Settings

CA_FOLDER = "/etc/imagecache/registry-ca"
CREDENTIALS_FOLDER = "/etc/imagecache/credentials"
# Images cannot be edited yet, so there is one generation of them.
GENERATION = 1
PROXY_KEYS = ("HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")

# A file, not a variable: variables show in `kubectl describe` and in the process table.
_CREDENTIALS_FILE = {"name": names.ENV_CREDENTIALS_FILE, "value": f"{CREDENTIALS_FOLDER}/{names.CREDENTIALS_KEY}"}
_CREDENTIALS_MOUNT = {"name": "credentials", "mountPath": CREDENTIALS_FOLDER, "readOnly": True}


def manifest(
    cache: Cache, attempt: int, platforms: tuple[str, ...], home_uid: str, settings: Settings,
    *, with_credentials: bool = False,
) -> dict[str, Any]:
    """The Pod. The cache's spec must be valid. `with_credentials`: it waits for its Secret (`credentials.py`)."""
    if cache.spec is None:
        raise ValueError("a builder needs a valid spec")
    job = BuildJob(
        images=cache.spec.images,
        platforms=platforms,
        stored_as=cache.spec.stored_as,
        capacity=cache.spec.image_cache_size * GIB,
        plain_http=settings.plain_http_registries,
    )
    name = names.builder_name(home_uid, cache.uid, GENERATION, attempt)
    resources = {"cpu": settings.builder_cpu, "memory": settings.builder_memory}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": {
                **names.child_labels(names.COMPONENT_BUILDER, home_uid, cache.uid),
                names.LABEL_GENERATION: str(GENERATION),
                names.LABEL_ATTEMPT: str(attempt),
                # A mesh's sidecar would hold up the Pod's end and may cut its network.
                "sidecar.istio.io/inject": "false",
            },
            "annotations": {
                names.ANNOTATION_CACHE_NAME: cache.name,
                "linkerd.io/inject": "disabled",
                # An autoscaler that moves the builder away would throw half of its work away.
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            },
            "ownerReferences": [owner.reference(cache)],
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": int(settings.builder_deadline.total_seconds()),
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 30,
            "securityContext": restricted.POD_WITH_VOLUME,
            "containers": [{
                "name": names.BUILDER_CONTAINER,
                "image": settings.builder_image,
                "args": ["builder", *_limits(settings)],
                "env": [
                    {"name": names.ENV_JOB, "value": job.model_dump_json(by_alias=True, exclude_defaults=True)},
                    {"name": names.ENV_CA_FILE, "value": f"{CA_FOLDER}/ca.crt"},
                    *(_proxy_variable(key, settings.registry_proxy) for key in PROXY_KEYS),
                    *([_CREDENTIALS_FILE] if with_credentials else []),
                ],
                "resources": {"requests": resources, "limits": resources},
                "securityContext": restricted.CONTAINER,
                "volumeMounts": [
                    {"name": "cache", "mountPath": names.VOLUME_PATH},
                    {"name": "registry-ca", "mountPath": CA_FOLDER, "readOnly": True},
                    *([_CREDENTIALS_MOUNT] if with_credentials else []),
                ],
            }],
            "volumes": [
                {"name": "cache", "persistentVolumeClaim": {"claimName": names.volume_name(home_uid, cache.uid)}},
                {"name": "registry-ca", "configMap": {"name": settings.registry_ca, "optional": True}},
                # Readable by the group, which is the Pod's fsGroup, and by nobody else.
                *([{"name": "credentials", "secret": {"secretName": name, "defaultMode": 0o440}}]
                  if with_credentials else []),
            ],
        },
    }


def _limits(settings: Settings) -> list[str]:
    """The builder's own options: `imagecache_operator builder --help` explains them."""
    connections = settings.builder_connections
    return [
        f"--workers={settings.builder_workers}",
        *([f"--connections={connections}"] if connections else []),
        f"--retries={settings.builder_retries}",
        f"--stall-timeout={settings.builder_stall_timeout.total_seconds():g}",
    ]


def _proxy_variable(key: str, secret: str) -> dict[str, Any]:
    # From a Secret, because the address of a proxy may hold a password.
    return {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
