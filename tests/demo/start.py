# SPDX-License-Identifier: Apache-2.0
"""The demo's part about starts: one Deployment on a cold node from a slow registry, the same from the cache, both
where the layers are there, and on a warm node without any registry. Called by `__main__`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

from imagecache_operator import names
from rich.console import Console
from rich.table import Table

from tests.cluster import Cluster
from tests.support import cold_node, pods, slow_link
from tests.support.install import REPOSITORY
from tests.support.kube import Cache, Object
from tests.support.upstream import PORT, SLOW_HOST, Upstream

NAME = "demo-start"
IMAGE = "team/app:2.1"
LINK = 1_000_000  # bytes a second: an image of 13 MB is then like one of 160 MB over 100 Mbit/s


def show(console: Console, step: Callable[[str], None], demo: Cache, upstream: Upstream) -> None:
    """`demo` is Available and has the image under its slow name. The last Deployment stays, to look at."""
    kube, node = demo.kube, demo.kube.cluster.nodes[-1]
    image, reference = upstream.images[IMAGE], f"{SLOW_HOST}:{PORT}/{IMAGE}"
    demo.wait_until_served()
    step(f"A Deployment of an image of {image.own.compressed_size / 1e6:.0f} MB, and which cache it would start from")
    console.print(f"         metadata.annotations of its Pods: {names.ANNOTATION_CACHE}: {demo.name}", markup=False)
    plain, asking = (pods.deployment(NAME, reference, node=node, cache=cache) for cache in ("", demo.name))
    for line in _match(kube.cluster, asking).splitlines():
        console.print(f"         {line}", markup=False)
    slow_link.start(kube.cluster, SLOW_HOST, upstream.host, PORT, LINK)
    kube.cluster.trust_registry(f"{SLOW_HOST}:{PORT}", upstream.ca_pem.decode())

    def once(deployment: Object, what: str, *, cold: bool = False, has: str = "has its layers") -> str:
        pods.remove(kube, deployment)
        step(f"It starts {what} on {node}, which {'has nothing of it' if cold else has}")
        if cold:
            cold_node.forget(kube.cluster, node, cold_node.FROM_TESTS, [image.own.diff_ids])
        seconds = pods.start(kube, deployment)
        injected = pods.running(kube, deployment)["metadata"].get("annotations", {}).get(names.ANNOTATION_INJECTED)
        wanted = demo.name if deployment is asking else None
        if injected != wanted:
            raise AssertionError(f"the Pod was to start from {wanted or 'no cache'}, and started from {injected}")
        return f"{seconds:.1f} s"

    registry, from_cache = f"from a registry at {LINK / 1e6:.0f} MB/s", "from the cache"
    cold = once(plain, registry, cold=True), once(asking, from_cache, cold=True)
    there = once(plain, registry), once(asking, from_cache)
    pods.remove(kube, asking)
    step(f"spec.warmNodes: {node} gets every image of the cache, and keeps it")
    _keep_warm(demo, node)
    slow_link.stop(kube.cluster, SLOW_HOST)
    warm = once(plain, "with its registry switched off", has="is kept warm")
    table = Table("kubectl create → running", registry, from_cache)
    table.add_row("cold node", *cold)
    table.add_row("layers on the node", *there)
    table.add_row("warm node, no registry", warm, "")
    console.print(table)


def _keep_warm(demo: Cache, node: str) -> None:
    """Returns when the node has every image of the cache."""
    spec = {"warmNodes": {"nodeSelector": {"kubernetes.io/hostname": node}}}
    kubectl, it = demo.kube.cluster.kubectl, f"imagecache/{demo.name}"
    kubectl("patch", it, "--type=merge", "-p", json.dumps({"spec": spec}))
    kubectl("wait", "--for=condition=Warm", it, "--timeout=120s")


def _match(cluster: Cluster, manifest: Object) -> str:
    """What the command says, run as a person would. Raises AssertionError if it fails."""
    environment = {**os.environ, **cluster.environment, "PYTHONPATH": str(REPOSITORY / "operator")}
    done = subprocess.run(
        [sys.executable, "-m", "imagecache_operator", "match", "-f", "-"],
        input=json.dumps(manifest), capture_output=True, text=True, check=False, env=environment,
    )
    if done.returncode:
        raise AssertionError(f"match: {done.stderr.strip()}")
    return done.stdout
