# SPDX-License-Identifier: Apache-2.0
"""Looks into a cache's volume from outside: a checker that re-hashes every blob, and a plain, read-only distribution
registry that serves the layout to kubelets (`localhost:<NodePort>`) and to tools on the host.

End-to-end tests prove with it what a builder has made; the demo shows it.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from imagecache_operator import names
from imagecache_operator.api.reference import parse

from tests.support.images import machine_architecture
from tests.support.install import IMAGE, SERVER_IMAGE
from tests.support.kube import NAMESPACE, Cache, Kube, until
from tests.support.programs import skopeo

# On everything made here, so that whatever an interrupted run left can be found and removed.
LABEL = {"made-by": "volume-server"}
SELECTOR = "made-by=volume-server"
_CONFIG = """
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: /cache}
  maintenance: {readonly: {enabled: true}}
http: {addr: ":5000"}
"""
_POD_SECURITY = {
    "runAsNonRoot": True, "runAsUser": 65534, "runAsGroup": 65534, "fsGroup": 65534,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}


def check(cache: Cache) -> str:
    """Walk the volume and re-hash every blob. Returns what the checker said; raises if anything is wrong."""
    kube, name = cache.kube, f"check-{cache.uid[:8]}"
    kube.delete("pod", name)
    kube.apply(_pod(name, cache, {"image": IMAGE, "args": ["builder", "--check", "--output", names.VOLUME_PATH]}))
    try:
        until(lambda: _phase(kube, name) in ("Succeeded", "Failed"), f"Pod {name} has ended", 120)
        said = kube.cluster.kubectl("-n", NAMESPACE, "logs", name)
        if _phase(kube, name) != "Succeeded":
            raise AssertionError(f"the volume of {cache.name} is damaged:\n{said}")
        return said
    finally:
        kube.delete("pod", name)


@dataclass(frozen=True)
class VolumeServer:
    """A running registry on a cache's volume."""

    kube: Kube
    name: str
    node_port: int

    def on_node(self, reference: str) -> str:
        """How a Pod names the stored image: every node reaches the NodePort as localhost."""
        parsed = parse(reference)
        return f"localhost:{self.node_port}/{parsed.stored_repository}:{parsed.stored_tag}"

    @contextmanager
    def from_host(self) -> Iterator[str]:
        """host:port on this machine, for as long as the context lasts, by `kubectl port-forward`."""
        engine = self.kube.cluster.engine
        command = ["kubectl", "--kubeconfig", str(self.kube.cluster.kubeconfig), "-n", NAMESPACE, "port-forward",
                   f"service/{self.name}", ":5000"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=engine.full_environment()) as forward:
            try:
                line = forward.stdout.readline() if forward.stdout else ""
                found = re.search(r"127\.0\.0\.1:(\d+)", line)
                if not found:
                    raise AssertionError(f"kubectl port-forward said: {line!r}")
                yield f"127.0.0.1:{found.group(1)}"
            finally:
                forward.terminate()

    def start_pod(self, name: str, reference: str, node: str) -> None:
        """A Pod of the stored image on that node; returns when its container runs."""
        pod = {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": LABEL},
            "spec": {
                "nodeName": node, "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 0,
                "securityContext": _POD_SECURITY,
                "containers": [{
                    "name": "c", "image": self.on_node(reference), "imagePullPolicy": "Always",
                    "securityContext": _CONTAINER_SECURITY,
                }],
            },
        }
        self.kube.apply(pod)

        def running() -> bool:
            return _phase(self.kube, name) == "Running"

        until(running, f"a Pod runs from {self.on_node(reference)} on {node}", 90, lambda: self._why(name))

    def _why(self, pod: str) -> str:
        return self.kube.cluster.kubectl("-n", NAMESPACE, "describe", "pod", pod, check=False)[-2000:]


def remove_all(kube: Kube) -> None:
    """Every Pod, Service and ConfigMap that was made here. Pods hold volumes: remove them before a cache."""
    kube.cluster.kubectl("-n", NAMESPACE, "delete", "pod,service,configmap", "-l", SELECTOR, "--grace-period=1")


def serve(cache: Cache) -> VolumeServer:
    """Start the registry on the cache's volume and wait until it answers."""
    kube, name = cache.kube, f"serve-{cache.uid[:8]}"
    cluster = kube.cluster
    kube.apply({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": LABEL},
        "data": {"config.yml": _CONFIG},
    })
    kube.apply(_pod(name, cache, {
        "image": SERVER_IMAGE,
        "args": ["serve", "/etc/registry/config.yml"],
        "env": [{"name": "OTEL_TRACES_EXPORTER", "value": "none"}],
        "readinessProbe": {"httpGet": {"path": "/v2/", "port": 5000}, "periodSeconds": 1},
    }, config=name))
    kube.apply({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": LABEL},
        "spec": {"type": "NodePort", "selector": {"server": name}, "ports": [{"port": 5000}]},
    })
    cluster.kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=90s")
    service = kube.get("service", name)
    if service is None:
        raise AssertionError(f"Service {name} is gone")
    return VolumeServer(kube, name, int(service["spec"]["ports"][0]["nodePort"]))


def _pod(name: str, cache: Cache, container: dict[str, Any], config: str | None = None) -> dict[str, Any]:
    mounts = [{"name": "cache", "mountPath": names.VOLUME_PATH, "readOnly": True}]
    volumes: list[dict[str, Any]] = [
        {"name": "cache", "persistentVolumeClaim": {"claimName": cache.volume()["metadata"]["name"], "readOnly": True}},
    ]
    if config:
        mounts.append({"name": "config", "mountPath": "/etc/registry", "readOnly": True})
        volumes.append({"name": "config", "configMap": {"name": config}})
    return {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"server": name, **LABEL}},
        "spec": {
            "restartPolicy": "Never", "automountServiceAccountToken": False, "terminationGracePeriodSeconds": 1,
            "securityContext": _POD_SECURITY, "volumes": volumes,
            "containers": [{
                "name": "c", "imagePullPolicy": "IfNotPresent", "securityContext": _CONTAINER_SECURITY,
                "volumeMounts": mounts, **container,
            }],
        },
    }


def _phase(kube: Kube, pod: str) -> str:
    return str(((kube.get("pod", pod) or {}).get("status") or {}).get("phase"))


def config_and_diff_ids(repository: str, tag: str, *options: str) -> tuple[str, list[str]]:
    """What skopeo, which is not ours, says an image is on this machine's platform: config digest and diff_ids.

    `repository` is host/path; `tag` is ":tag" or "@digest".
    """
    reference = f"docker://{repository}{tag}"
    manifest = json.loads(_skopeo("inspect", "--raw", *options, reference))
    if "manifests" in manifest:
        mine = next(m for m in manifest["manifests"] if m["platform"]["architecture"] == machine_architecture())
        return config_and_diff_ids(repository, f"@{mine['digest']}", *options)
    config = json.loads(_skopeo("inspect", "--config", "--raw", *options, reference))
    return manifest["config"]["digest"], config["rootfs"]["diff_ids"]


def _skopeo(*arguments: str) -> str:
    done = subprocess.run([skopeo(), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"skopeo {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
