# SPDX-License-Identifier: Apache-2.0
"""Caches with passwords as end-to-end tests see them: who has which login, what a server answers, what a Pod got."""

from __future__ import annotations

import base64
import json

from imagecache_operator import names

from tests.support import pods
from tests.support.kube import Cache, Kube, Object, until
from tests.support.starts import reason

CACHE, OTHER = "e2e-private", "e2e-private-other"
OURS, THEIRS = "e2e-access-ours", "e2e-access-theirs"
IMAGE, OTHERS_IMAGE = "team-a/tools:1.0", "base/tools:1.0"
SECRET = names.ACCESS_SECRET
_REFUSED = ("ErrImagePull", "ImagePullBackOff")


def make_namespace(kube: Kube, name: str) -> None:
    kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


def refused(kube: Kube, manifest: Object) -> None:
    """Kubelet has tried to pull what it needs, and was refused."""
    def waits() -> str:
        meta = manifest["metadata"]
        statuses = (kube.get("pod", meta["name"], meta["namespace"]) or {})["status"].get("containerStatuses", [])
        return str([s["state"].get("waiting", {}).get("reason") or list(s["state"]) for s in statuses])

    until(lambda: any(why in waits() for why in _REFUSED), "the pull is refused", 60, waits)


def told(kube: Kube, manifest: Object) -> str:
    return reason(pods.running(kube, manifest))


def pull_secrets(pod: Object) -> list[str]:
    return [one["name"] for one in pod["spec"].get("imagePullSecrets", [])]


def address(cache: Cache) -> str:
    return str(cache.status["server"]["address"])


def login(kube: Kube, namespace: str, cache: Cache) -> str | None:
    """user:password of that namespace at that cache."""
    secret = kube.get("secret", SECRET, namespace)
    if secret is None:
        return None
    auths = json.loads(base64.b64decode(secret["data"][".dockerconfigjson"]))["auths"]
    found = auths.get(address(cache))
    return f"{found['username']}:{found['password']}" if found else None


def answer(kube: Kube, url: str, user: str | None = None, *options: str) -> str:
    """The status with which a node is answered."""
    who = f"-u '{user}'" if user else ""
    return kube.cluster.on_node(
        kube.cluster.nodes[0], f"curl -s -m 10 -o /dev/null -w '%{{http_code}}' {who} {' '.join(options)} http://{url}",
    )


def carrier(cache: Cache) -> str:
    """Of its only image, as nodes take it."""
    image, = cache.status["images"]
    return f"carrier/{image['reference'].rpartition(':')[0].replace(':', '_')}@{image['carrier']}"


def allow(cache: Cache, namespaces: list[str]) -> None:
    cache.edit(allowedNamespaces={"names": namespaces})


def works(kube: Kube, namespace: str, cache: Cache) -> str:
    """Waits until the namespace's password lets it in. The password."""
    def lets_in() -> bool:
        user = login(kube, namespace, cache)
        return user is not None and answer(kube, f"{address(cache)}/v2/", user) == "200"

    until(lets_in, f"the password of {namespace} works", 100)
    return login(kube, namespace, cache) or ""
