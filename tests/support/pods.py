# SPDX-License-Identifier: Apache-2.0
"""Ordinary Pods, as users have them: manifests that `restricted` namespaces take, and how long one takes to run.

Called by end-to-end tests, the demo and the benchmark of starts, which ask whether Pods start from a cache.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from imagecache_operator import names

from tests.cluster import ClusterError

from .kube import Kube, Object

NAMESPACE = "default"
LABEL = "app"  # on every Pod made here, with the name of what it belongs to
_RUNS = {"Pod": "{.status.phase}=Running", "Deployment": "{.status.readyReplicas}=1"}


def pod(
    name: str, image: str, *, node: str = "", cache: str = "", command: Sequence[str] = (), namespace: str = NAMESPACE,
) -> Object:
    """A Pod of one container; on that node, and asking for that cache, if they are named."""
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, **_marks(name, cache)},
        "spec": _spec(image, node, command),
    }


def deployment(
    name: str, image: str, *, node: str = "", cache: str = "", command: Sequence[str] = (), namespace: str = NAMESPACE,
) -> Object:
    """A Deployment of one such Pod."""
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {LABEL: name}},
            "template": {"metadata": _marks(name, cache), "spec": _spec(image, node, command)},
        },
    }


def start(kube: Kube, manifest: Object, seconds: float = 90) -> float:
    """Creates it, and returns when its container runs: after how many seconds, kubectl's own 0.2 included.

    Raises what `runs` raises.
    """
    begun = time.monotonic()
    kube.cluster.kubectl("create", "-f", "-", input=json.dumps(manifest))
    runs(kube, manifest, seconds)
    return time.monotonic() - begun


def runs(kube: Kube, manifest: Object, seconds: float = 90) -> None:
    """Returns when its container runs. Raises AssertionError with what the Pod's events say."""
    kind, metadata = manifest["kind"], manifest["metadata"]
    try:
        kube.cluster.kubectl(
            "-n", metadata["namespace"], "wait", f"--for=jsonpath={_RUNS[kind]}", f"--timeout={seconds:.0f}s",
            f"{kind.lower()}/{metadata['name']}",
        )
    except ClusterError:
        why = kube.cluster.kubectl("-n", metadata["namespace"], "describe", "pods", "-l", _selector(manifest))
        raise AssertionError(f"not within {seconds:.0f} s: {kind} {metadata['name']} runs.\n{why[-2000:]}") from None


def running(kube: Kube, manifest: Object) -> Object:
    """The Pod of it that is there now, as the API server has it: what was injected, its image, its ID."""
    found = kube.list("pods", _selector(manifest), manifest["metadata"]["namespace"])
    pods = [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]
    if len(pods) != 1:
        raise AssertionError(f"{manifest['metadata']['name']} has {len(pods)} Pods")
    return pods[0]


def remove(kube: Kube, manifest: Object) -> None:
    """Returns when it is gone, its Pods too. Also right when it is not there."""
    metadata, options = manifest["metadata"], ["--timeout=60s"]
    if manifest["kind"] != "Pod":
        options.append("--cascade=foreground")  # waits for the Pods, and takes a second more
    kube.delete(manifest["kind"], metadata["name"], metadata["namespace"], *options)


def _selector(manifest: Object) -> str:
    return f"{LABEL}={manifest['metadata']['name']}"


def _marks(name: str, cache: str) -> Object:
    return {"labels": {LABEL: name}, **({"annotations": {names.ANNOTATION_CACHE: cache}} if cache else {})}


def _spec(image: str, node: str, command: Sequence[str]) -> Object:
    container: Object = {
        "name": "c", "image": image,
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
        },
    }
    if command:
        container["command"] = list(command)
    return {
        "automountServiceAccountToken": False,
        # With 0 the Pod would be gone for the API server while its container still runs.
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        **({"nodeSelector": {"kubernetes.io/hostname": node}} if node else {}),
    }
