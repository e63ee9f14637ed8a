# SPDX-License-Identifier: Apache-2.0
"""The life of a cluster: `up`, `down`, `find`. Called by the CLI, the end-to-end tests and the demo.

The two providers differ in where the engine and the images come from. From `kind create cluster` on it is one path,
with one exception: the Pod network of our own node image (pod_network.py).
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from . import cache, kind_config, machine, own_engine, pod_network, releases, requirements
from .base_images import BaseImages
from .binaries import Binaries, copy_into
from .cluster import LABEL, Cluster
from .engine import Engine
from .node_image import NodeImage
from .progress import ClusterError, Progress, Say
from .releases import Release

DEFAULT_NAME = "imagecache"
AUDIT_POLICY = cache.HERE / "kind" / "audit-policy.yaml"
PUBLIC_IMAGES = {
    "python": "python:3.13-slim",
    "registry": "registry:3",
    "pause": "registry.k8s.io/pause:3.10",
}
PUBLIC_INGRESS = "traefik:v3.6.12"


def up(name: str = DEFAULT_NAME, say: Say = print, in_memory: bool = False) -> Cluster:
    """Returns the running cluster of this name; makes it when it isn't there, isn't healthy or isn't the wanted one.

    `in_memory`: its nodes keep images in memory, as fast as a disk of their own would be (at most 6 GiB each).
    """
    progress = Progress(say)
    release = releases.chosen()
    with cache.lock(progress):
        if requirements.docker_answers():
            requirements.check_docker()
            engine = _docker()
            node_image = os.environ.get("IMAGECACHE_NODE_IMAGE") or release.node_image
        else:
            requirements.check_own_engine(progress)
            engine, node_image = _own_engine(release, progress)
        cluster = Cluster(name, release.kubernetes, engine, _folder(name))
        slot = _slot(name)
        own_address = engine.host_address if engine.provider == "own-engine" else None
        config = kind_config.render(node_image, cluster.folder, own_address, slot, in_memory)
        files = [AUDIT_POLICY, *([kind_config.IN_MEMORY] if in_memory else [])]
        stamp = cache.stamp(config, cluster.network, *files)
        state = _state(cluster.folder)
        if state.get("stamp") == stamp and _healthy(cluster):
            progress.note(f"cluster {name} runs already and is healthy: using it")
            return replace(cluster, kubernetes=state["kubernetes"])
        _remove(cluster, progress)
        cluster.folder.mkdir(parents=True)
        _save(cluster, "unfinished", slot)  # so that `down` finds it, should anything below fail
        if own_address is not None:
            own_engine.ensure_network(cluster.network, kind_config.node_subnet(slot))
        _create(cluster, config, progress)
        if own_address is not None:
            pod_network.connect(cluster, kind_config.pod_subnet(slot), progress)
        _settle(cluster, progress)
        version = "jsonpath={.items[0].status.nodeInfo.kubeletVersion}"
        cluster = replace(cluster, kubernetes=cluster.kubectl("get", "nodes", "--output", version))
        _save(cluster, stamp, slot)
        progress.note(f"cluster {name} is up: Kubernetes {cluster.kubernetes}, {len(cluster.nodes)} nodes")
        return cluster


def down(name: str = DEFAULT_NAME, say: Say = print) -> None:
    """Removes the cluster and its containers; with the last one on it, our own engine too."""
    progress = Progress(say)
    with cache.lock(progress):
        cluster = find(name)
        if cluster is not None and (cluster.provider == "docker" or own_engine.running()):
            _remove(cluster, progress)
        shutil.rmtree(_folder(name), ignore_errors=True)
        others = [folder.name for folder in _clusters() if _on_own_engine(folder)]
        if others and own_engine.running():
            progress.note(f"our own engine stays for: {', '.join(others)}")
        elif requirements.is_linux_root() and own_engine.is_ours():
            own_engine.stop(progress)
            _forget_dead_clusters()
        progress.note(f"cluster {name} is down")


def ingress_image(cluster: Cluster, say: Say = print) -> str:
    """The reference, in the cluster's engine, of the image of an Ingress controller: Traefik. No cluster has it by
    itself. Where it can't be pulled, the first who asks waits for some minutes until it is built."""
    engine, progress = cluster.engine, Progress(say)
    if cluster.provider == "docker":
        if not engine.has_image(PUBLIC_INGRESS):
            progress.note(f"pulling {PUBLIC_INGRESS}")
            engine.docker("pull", "--quiet", PUBLIC_INGRESS)
        return PUBLIC_INGRESS
    with cache.lock(progress):
        binaries = Binaries(releases.chosen())
        binaries.build_one("traefik", progress)
        return BaseImages(engine, binaries, progress).on_demand("traefik")


def find(name: str = DEFAULT_NAME) -> Cluster | None:
    """The cluster as `up` left it, without starting or checking anything."""
    state = _state(_folder(name))
    if not state:
        return None
    engine = Engine(**state["engine"])
    return Cluster(name, state["kubernetes"], engine, _folder(name))


def names() -> list[str]:
    return [folder.name for folder in _clusters()]


def _docker() -> Engine:
    return Engine("docker", "127.0.0.1", "127.0.0.1", PUBLIC_IMAGES)


def _own_engine(release: Release, progress: Progress) -> tuple[Engine, str]:
    binaries = Binaries(release)
    binaries.build(progress)
    if own_engine.start(progress):
        _forget_dead_clusters()
    engine = Engine(
        provider="own-engine",
        host_address=machine.ENGINE_ADDRESS,
        bind_address="0.0.0.0",  # noqa: S104 - all addresses of the engine's own network namespace
        # BuildKit: Debian's engine has none, and a newer client would ask for a plugin.
        environment={"DOCKER_HOST": own_engine.DOCKER_HOST, "DOCKER_BUILDKIT": "0"},
        programs=binaries.path,
    )
    os.umask(0o022)  # what is written from here on goes into images, where other users must be able to read it
    base = BaseImages(engine, binaries, progress)
    base.ensure()
    node = NodeImage(base, binaries, release, progress)
    node.ensure()
    roles = {"python": base.python, "registry": base.registry, "pause": base.pause}
    return replace(engine, images=roles), node.reference


def _create(cluster: Cluster, config: str, progress: Progress) -> None:
    audit = cluster.audit_log
    audit.parent.mkdir()
    # The API server runs as root and would make a file that only root can read. It keeps the mode of one that exists.
    audit.touch(mode=0o644)
    # Copies: API server and node read them again when they restart, and this clone may be gone by then.
    copy_into(cluster.folder / "audit-policy", AUDIT_POLICY)
    copy_into(cluster.folder, kind_config.IN_MEMORY)
    file = cluster.folder / "kind.yaml"
    file.write_text(config)
    command = ["kind", "create", "cluster", "--name", cluster.name, "--config", str(file)]
    progress.run(
        f"creating cluster {cluster.name}",
        [*command, "--kubeconfig", str(cluster.kubeconfig)],
        cache.home() / "logs" / f"create-{cluster.name}.log",
        env=cluster.engine.full_environment() | {"KIND_EXPERIMENTAL_DOCKER_NETWORK": cluster.network},
    )


def _settle(cluster: Cluster, progress: Progress) -> None:
    """Ordinary Pods may run on every node, and everything they rely on is there."""
    kubectl = cluster.kubectl
    taint = "node-role.kubernetes.io/control-plane:NoSchedule-"
    kubectl("taint", "node", cluster.nodes[0], taint, check=False)  # fails where there is none
    progress.wait_until("all nodes are Ready", lambda: _nodes_ready(cluster), timeout=180)
    # Pods are refused until a controller has made it.
    account = ("get", "serviceaccount", "default", "--output", "name")
    progress.wait_until("the default ServiceAccount exists", lambda: bool(kubectl(*account, check=False)), timeout=60)
    for namespace, deployment in (("kube-system", "coredns"), ("local-path-storage", "local-path-provisioner")):
        progress.note(f"waiting for {deployment}")
        kubectl("--namespace", namespace, "rollout", "status", f"deployment/{deployment}", "--timeout=180s")


def _healthy(cluster: Cluster) -> bool:
    """By what the API server says now; a status that is minutes old may look fine on a dead node."""
    try:
        cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=5s")
        containers = cluster.engine.docker("ps", "--format", "{{.Names}}").split()
        return set(cluster.nodes) <= set(containers) and _nodes_ready(cluster)
    except ClusterError:
        return False


def _nodes_ready(cluster: Cluster) -> bool:
    nodes = json.loads(cluster.kubectl("get", "nodes", "--output", "json"))["items"]
    ready = [
        condition["status"] == "True"
        for node in nodes
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    ]
    return len(ready) == len(cluster.nodes) and all(ready)


def _remove(cluster: Cluster, progress: Progress) -> None:
    """Nodes and companions go by label: like `kind delete cluster`, but also when our kind has been rebuilt since."""
    docker = cluster.engine.docker
    labels = (f"io.x-k8s.kind.cluster={cluster.name}", f"{LABEL}={cluster.name}")
    found = [line for label in labels for line in docker("ps", "-aq", "--filter", f"label={label}").split()]
    if found:
        progress.note(f"removing {len(found)} containers of cluster {cluster.name}")
        docker("rm", "--force", "--volumes", *found)
    docker("network", "rm", cluster.network, check=False)
    shutil.rmtree(cluster.folder, ignore_errors=True)


def _folder(name: str) -> Path:
    return cache.home() / "clusters" / name


def _clusters() -> list[Path]:
    return sorted(folder for folder in (cache.home() / "clusters").glob("*") if (folder / "state.json").exists())


def _state(folder: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((folder / "state.json").read_text())
    except (OSError, ValueError):
        return {}
    return state


def _save(cluster: Cluster, stamp: str, slot: int) -> None:
    """What `up`, `down` and `find` of other processes know about a cluster."""
    state = {"stamp": stamp, "slot": slot, "kubernetes": cluster.kubernetes, "engine": asdict(cluster.engine)}
    partial = cluster.folder / "state.json.partial"
    partial.write_text(json.dumps(state, indent=2))
    partial.rename(cluster.folder / "state.json")


def _slot(name: str) -> int:
    """A number that no other cluster has; this cluster's own when it has one already."""
    taken = {int(_state(folder)["slot"]) for folder in _clusters() if folder.name != name}
    own = _state(_folder(name)).get("slot")
    free = [slot for slot in range(kind_config.SLOTS) if slot not in taken]
    if own in free:
        return int(own)
    if not free:
        raise ClusterError(f"{kind_config.SLOTS} clusters run already: `down` one of them")
    return free[0]


def _forget_dead_clusters() -> None:
    """Clusters on our own engine end with it, whether or not anybody called `down`."""
    for folder in filter(_on_own_engine, _clusters()):
        shutil.rmtree(folder)


def _on_own_engine(folder: Path) -> bool:
    return bool(_state(folder).get("engine", {}).get("provider") == "own-engine")
