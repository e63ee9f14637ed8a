# SPDX-License-Identifier: Apache-2.0
"""`make demo`: see it work, on a real cluster, from nothing to Pods that start from a cache, private
images, images that cannot be had, and a cache that is deleted.

It uses what the end-to-end tests use, and leaves everything running to look around.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import click
from imagecache_operator import names
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn

from tests.cluster import DEFAULT_NAME, ClusterError, cache, up
from tests.support import private_registry, slow_link, volume_server
from tests.support.install import install
from tests.support.kube import Cache, Kube
from tests.support.upstream import PORT, SLOW_HOST, Upstream

from . import start

CACHE, PRIVATE, BROKEN = "demo", "demo-private", "demo-broken"
# About two seconds a megabyte would bore, no limit at all would show nothing: 4 MB/s lets the bars move.
LINK = 4_000_000
PATIENCE = 180.0
TEAMS = ("team-a", "team-b")
ENDED = ("Available", "Failed")


@click.command()
@click.option("--name", default=DEFAULT_NAME, show_default=True, help="The cluster's name.")
def main(name: str) -> None:
    """A kind cluster, the operator in it, an ImageCache of five images, and Pods started from it."""
    try:
        _demo(name)
    except (ClusterError, AssertionError) as error:
        raise click.ClickException(str(error)) from None


def _demo(name: str) -> None:
    console, started = Console(highlight=False, soft_wrap=True), time.monotonic()

    def step(text: str) -> None:
        console.print(f"[bold cyan]{time.monotonic() - started:5.0f} s  {text}")

    step("A kind cluster with two nodes")
    cluster = up(name)
    step("A registry with images of every kind, behind a slow link")
    upstream = Upstream.start(cluster, cache.home() / "upstream")
    slow_link.start(cluster, SLOW_HOST, upstream.host, PORT, LINK)
    step("The operator, as a user installs it")
    install(cluster, upstream.ca_pem, lambda text: console.print(f"         {text}"))
    kube = Kube(cluster)
    demo = Cache(kube, CACHE)
    volume_server.remove_all(kube)
    for earlier in (CACHE, PRIVATE, BROKEN):
        Cache(kube, earlier).delete()

    step("kubectl apply: an ImageCache of these images")
    references = [f"{SLOW_HOST}:{PORT}/{image}" for image in upstream.images]
    demo.apply(references)
    status = _follow(console, demo)
    if status.get("phase") != "Available":
        raise click.ClickException(f"the cache did not become Available: {status.get('message')}")
    step("kubectl get imc -o wide")
    console.print(cluster.kubectl("get", "imc", "-o", "wide"))

    step("The proof, first: every byte on the volume is hashed again")
    volume_server.check(demo)
    console.print("         all blobs have the digests they are named by")
    step("The proof, second: a plain read-only registry on the volume, and a Pod from each image by a real kubelet")
    server = volume_server.serve(demo)
    for number, reference in enumerate(references):
        node, pod = cluster.nodes[number % len(cluster.nodes)], f"demo-{number}"
        begun = time.monotonic()
        server.start_pod(pod, reference, node)
        console.print(f"         {server.on_node(reference):62} runs on {node} after {time.monotonic() - begun:.1f} s")
    volume_server.remove_all(kube)
    start.show(console, step, demo, upstream)
    _private(console, step, upstream, kube)
    step("Done")
    console.print(
        f"""
Look around:
  eval "$(.venv/bin/python -m tests.cluster env --name {name})"
  kubectl get imagecaches -o wide
  kubectl describe imagecache {CACHE}
  kubectl -n imagecache-system get pods,pvc,secrets
  kubectl explain imagecache.spec
  kubectl describe pods -l app={start.NAME}
Start a Pod of your own from the cache (docs/how-to/start-from-a-cache.md): any of its images, and the annotation
  {names.ANNOTATION_CACHE}: {CACHE}
See which cache that would be, and why, before you do:
  .venv/bin/python -m imagecache_operator match -f pod.yaml
Remove the caches, with their volumes:
  kubectl delete imagecaches --all
Remove everything:
  make cluster-down NAME={name}
""",
        markup=False,
    )


def _private(console: Console, step: Callable[[str], None], upstream: Upstream, kube: Kube) -> None:
    """What two teams keep to themselves; what nobody can have; and that a deleted cache leaves nothing."""
    step("A registry that asks who is there, and two teams with a pull Secret each, in namespaces of their own")
    registry = private_registry.start_token(upstream, cache.home() / "private")
    host, kubectl = f"{registry.host}:{PORT}", kube.cluster.kubectl
    for team, server in zip(TEAMS, (host, f"{host}/team-b"), strict=True):
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": team}})
        kubectl("-n", team, "delete", "secret", "regcred", "--ignore-not-found")
        kubectl(
            "-n", team, "create", "secret", "docker-registry", "regcred", f"--docker-server={server}",
            f"--docker-username={team}", f"--docker-password={registry.accounts[team].password}",
        )
        console.print(f"         Secret {team}:regcred is for {server}")
    private, broken = Cache(kube, PRIVATE), Cache(kube, BROKEN)
    private.apply(map(registry.reference, ("team-a/tools:1.0", "team-b/data:1.0")), _secrets(*TEAMS))
    broken.apply(
        [registry.reference("team-a/tools:1.0"), f"{host}/team-a/tools:no-such-tag",
         registry.reference("closed/tools:1.0")],
        _secrets("team-a"),
    )
    step("An ImageCache of a private image of each team, and one of a missing and a forbidden image")
    for made in (private, broken):
        status = _follow(console, made)
        console.print(f"         {made.name} is {status.get('phase')}: {status.get('message')}")
    if (private.status["phase"], broken.status["phase"]) != ("Available", "Failed"):
        raise click.ClickException("that is not what should have become of them")

    step(f"kubectl delete imagecache {PRIVATE}")
    uid = private.uid
    private.delete()
    left = [f"{child['kind']} {child['metadata']['name']}" for child in private.children(uid)]
    if left:
        raise click.ClickException(f"still there: {', '.join(left)}")
    console.print("         its volume, its builder Pod and the copies of its Secrets are gone")


def _secrets(*teams: str) -> dict[str, Any]:
    return {"buildingConfig": {"imagePullSecrets": [f"{team}:regcred" for team in teams]}}


def _follow(console: Console, demo: Cache) -> dict[str, Any]:
    """Show each image's progress until the cache has ended one way or the other; the last status."""
    columns = (
        TextColumn("         {task.description:34}"), BarColumn(16), TextColumn("{task.fields[state]:8}"),
        DownloadColumn(),
    )
    deadline, bars = time.monotonic() + PATIENCE, dict[str, TaskID]()
    with Progress(*columns, console=console, refresh_per_second=4) as progress:
        while True:
            status = demo.status
            for image in status.get("images", []):
                reference, state = image["reference"], image["state"]
                if reference not in bars:
                    bars[reference] = progress.add_task(reference, total=None, state=state)
                # While it is pulled: compressed bytes of the network; afterwards: bytes on the volume.
                total, done = image.get("bytesTotal"), image.get("bytesDone", 0)
                if state == "Pulled":
                    total = done = image.get("size") or total
                progress.update(bars[reference], state=state, total=total, completed=done)
            if status.get("phase") in ENDED or time.monotonic() > deadline:
                return status
            time.sleep(0.5)


if __name__ == "__main__":
    main()
