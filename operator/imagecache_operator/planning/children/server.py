# SPDX-License-Identifier: Apache-2.0
"""What serves a complete cache to nodes: a plain, read-only distribution registry on its volume (a Deployment), and
the port of every node that leads to it (a Service), or a host name (a Service and an Ingress, see `ingress.py`). All
are applied by server-side apply.

A server must refuse or answer, never be silent: a node that pulls waits for it with its Pods. So whatever does not
answer its probes is taken out of the Service, whose port then refuses at once, and is started again.
"""

from __future__ import annotations

from typing import Any

from imagecache_operator import names
from imagecache_operator.planning.children import access, ingress, owner, restricted
from imagecache_operator.planning.children.applied import versioned
from imagecache_operator.planning.observed import Cache
from imagecache_operator.settings import Settings

PORT = 5000
PORT_NAME = "registry"
# deploy/base ships it: there is nothing of a cache in it.
CONFIG_MAP = "imagecache-server"
CONFIG_FOLDER = "/etc/imagecache/server"
CONFIG_KEY = "config.yml"

# Answered to everybody, and only while the volume can be read.
_PROBE = {"httpGet": {"path": "/", "port": PORT}}

PASSWORDS_FOLDER = "/etc/imagecache/passwords"
# What distribution's configuration says otherwise, said here, so that one ConfigMap is enough.
_ASK_FOR_PASSWORD = (
    {"name": "REGISTRY_AUTH", "value": "htpasswd"},
    {"name": "REGISTRY_AUTH_HTPASSWD_REALM", "value": "ImageCache"},
    {"name": "REGISTRY_AUTH_HTPASSWD_PATH", "value": f"{PASSWORDS_FOLDER}/{access.HTPASSWD_KEY}"},
)


def manifests(
    cache: Cache, home_uid: str, settings: Settings, *, password: bool,
) -> tuple[dict[str, Any], ...]:
    """The Service, the Ingress where there is to be one, and the Deployment, in the order in which they are applied:
    where ports or host names are forbidden or used up, no Pod is started that nobody could reach. `password`: it
    answers only whoever has one."""
    metadata = _metadata(cache, home_uid, settings.namespace)
    host = ingress.host(metadata["name"], settings)
    return (
        versioned(_service(cache, home_uid, settings)),
        *([versioned(ingress.manifest(metadata, host, PORT_NAME, settings))] if host else ()),
        versioned(_deployment(cache, home_uid, settings, password=password)),
    )


def address(name: str, node_port: int | None, settings: Settings) -> str | None:
    """Where nodes reach the server of that name; None while it is to have a node port and has none yet."""
    return ingress.host(name, settings) or (f"localhost:{node_port}" if node_port is not None else None)


def _metadata(cache: Cache, home_uid: str, namespace: str) -> dict[str, Any]:
    return {
        "name": names.server_name(home_uid, cache.uid),
        "namespace": namespace,
        "labels": names.child_labels(names.COMPONENT_SERVER, home_uid, cache.uid),
        "annotations": {names.ANNOTATION_CACHE_NAME: cache.name},
        "ownerReferences": [owner.reference(cache)],
    }


def _service(cache: Cache, home_uid: str, settings: Settings) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(cache, home_uid, settings.namespace),
        "spec": {
            # `cluster/reading.py` tells by it which one has an Ingress before it.
            "type": "ClusterIP" if settings.server_domain else "NodePort",
            "selector": names.child_labels(names.COMPONENT_SERVER, home_uid, cache.uid),
            # The node port is the API server's choice. It is not said here, so an apply leaves it as it is.
            "ports": [{"name": PORT_NAME, "protocol": "TCP", "port": PORT, "targetPort": PORT}],
        },
    }


def _deployment(cache: Cache, home_uid: str, settings: Settings, *, password: bool) -> dict[str, Any]:
    labels = names.child_labels(names.COMPONENT_SERVER, home_uid, cache.uid)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(cache, home_uid, settings.namespace),
        "spec": {
            "replicas": 1,
            # A volume that one node at a time may mount: a second Pod elsewhere would wait for it.
            "strategy": {"type": "Recreate"},
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {
                    # Nodes speak plain HTTP to it: a mesh's sidecar would not understand them.
                    "labels": {**labels, "sidecar.istio.io/inject": "false"},
                    "annotations": {names.ANNOTATION_CACHE_NAME: cache.name, "linkerd.io/inject": "disabled"},
                },
                "spec": _pod(
                    names.volume_name(home_uid, cache.uid), settings.server_image,
                    names.server_name(home_uid, cache.uid) if password else None,
                ),
            },
        },
    }


def _pod(claim: str, image: str, passwords: str | None) -> dict[str, Any]:
    """`passwords`: the Secret with the htpasswd file. The Pod waits for it: a server without one would be open."""
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        # It only reads, and a node asks again for what was cut off.
        "terminationGracePeriodSeconds": 5,
        "securityContext": restricted.POD_WITH_VOLUME,
        "containers": [{
            "name": names.COMPONENT_SERVER,
            "image": image,
            "imagePullPolicy": "IfNotPresent",
            "args": ["serve", f"{CONFIG_FOLDER}/{CONFIG_KEY}"],
            # Without it, distribution looks for a collector of traces on its own host, and complains.
            "env": [{"name": "OTEL_TRACES_EXPORTER", "value": "none"}, *(_ASK_FOR_PASSWORD if passwords else ())],
            "ports": [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}],
            "readinessProbe": {**_PROBE, "periodSeconds": 2, "timeoutSeconds": 2, "failureThreshold": 2},
            "livenessProbe": {**_PROBE, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 3},
            # It sends files as they are, so many readers cost it little; no CPU limit, which would slow them down.
            "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
            "securityContext": restricted.CONTAINER,
            "volumeMounts": [
                {"name": "cache", "mountPath": names.VOLUME_PATH, "readOnly": True},
                {"name": "config", "mountPath": CONFIG_FOLDER, "readOnly": True},
                *([{"name": "passwords", "mountPath": PASSWORDS_FOLDER, "readOnly": True}] if passwords else ()),
            ],
        }],
        "volumes": [
            {"name": "cache", "persistentVolumeClaim": {"claimName": claim, "readOnly": True}},
            {"name": "config", "configMap": {"name": CONFIG_MAP}},
            *([{"name": "passwords", "secret": {"secretName": passwords}}] if passwords else ()),
        ],
    }
