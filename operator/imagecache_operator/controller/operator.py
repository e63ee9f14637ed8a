# SPDX-License-Identifier: Apache-2.0
"""Puts the controller together and runs it. Called by `__main__` with everything that it needs; tests call it too."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import kopf

from imagecache_operator import names
from imagecache_operator.cluster.api import Api, Rejected
from imagecache_operator.cluster.observe import home_uid
from imagecache_operator.controller import handlers
from imagecache_operator.controller.access import Access
from imagecache_operator.controller.injection import Injection
from imagecache_operator.controller.pods import PodApi, PodWatch, Uses
from imagecache_operator.controller.reconciler import Reconciler
from imagecache_operator.settings import Settings

log = logging.getLogger(__name__)

# Passes that run at once. Each is a handful of small calls, so this is about waiting, not about processors.
THREADS = 8
# Beside them there are the two watches of Pods.
CONNECTIONS = THREADS + 2
# Children whose changes are worth a pass, as group, version and plural.
CHILDREN = (
    ("", "v1", "pods"), ("", "v1", "persistentvolumeclaims"), ("", "v1", "services"), ("apps", "v1", "deployments"),
    ("apps", "v1", "daemonsets"),
)
# Only where servers are to have host names: else there is no right to watch them.
INGRESSES = ("networking.k8s.io", "v1", "ingresses")
LIVENESS = "http://0.0.0.0:8080/healthz"


class NoDiffBase(kopf.DiffBaseStorage):
    """kopf would copy each object into an annotation of itself to find what has changed. Passes look at what is
    there, not at what has changed, so nothing is stored and no ImageCache is written to for it."""

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        return None


def registry(home: str, children: Sequence[tuple[str, str, str]] = CHILDREN) -> kopf.OperatorRegistry:
    """All handlers. `home` is the UID of the cluster whose `children` wake anybody."""
    found = kopf.OperatorRegistry()

    @kopf.on.startup(registry=found)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.peering.standalone = True
        settings.scanning.disabled = True  # the CRD and the namespace are there before the operator is
        settings.posting.enabled = False  # events come from the plan
        settings.persistence.finalizer = names.FINALIZER
        settings.persistence.diffbase_storage = NoDiffBase()
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=names.GROUP)
        settings.background.cancellation_polling = 1
        settings.networking.request_timeout = 30
        for child in children:
            settings.watching.label_selectors[child[-1]] = names.managed_selector(home)

    @kopf.on.login(registry=found)
    def log_in(**options: Any) -> kopf.ConnectionInfo | None:
        # In a Pod by its service account; elsewhere as the person at the keyboard.
        return kopf.login_with_service_account(**options) or kopf.login_with_kubeconfig(**options)

    resource = (names.GROUP, names.VERSION, names.PLURAL)
    kopf.daemon(*resource, registry=found)(handlers.live)
    kopf.on.delete(*resource, registry=found)(handlers.remove)
    kopf.on.event(*resource, registry=found)(handlers.wake_cache)
    for child in children:
        kopf.on.event(*child, registry=found)(handlers.wake_owner)
    kopf.on.event("", "v1", "namespaces", registry=found)(handlers.wake_access)
    kopf.on.probe(registry=found)(handlers.healthy)
    for begin in (handlers.begin_metrics, handlers.begin_watching_pods, handlers.begin_looking):
        kopf.on.startup(registry=found)(begin)
    for end in (handlers.end_looking, handlers.end_watching_pods, handlers.end_metrics):
        kopf.on.cleanup(registry=found)(end)
    return found


def watched(api: Api, settings: Settings) -> tuple[tuple[str, str, str], ...]:
    """The children whose changes wake somebody: Ingresses too, where they are wanted and may be looked at. (kopf does
    not bear to be refused. A cache whose Ingress may not be applied says so itself.)"""
    if settings.server_domain is None:
        return CHILDREN
    try:
        api.list("Ingress", settings.namespace)
    except Rejected as refusal:
        log.warning("Ingresses are not watched: %s", refusal)
        return CHILDREN
    return (*CHILDREN, INGRESSES)


def run(
    api: PodApi, settings: Settings, *, liveness: str | None = LIVENESS, metrics_port: int = 0, **kopf_options: Any,
) -> None:
    """Run until SIGTERM or SIGINT. Raises ClusterError where the API server cannot be reached at the start."""
    for noisy in ("kopf", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    home = home_uid(api)
    with ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="pass") as executor:
        uses = Uses()
        memo = handlers.Memo(
            Reconciler(api, settings, home, last_used=uses.newest), executor, Injection(api, settings),
            Access(api, settings, home), pods=PodWatch(api, uses), metrics_port=metrics_port,
        )
        kopf.run(
            registry=registry(home, watched(api, settings)),
            memo=memo,
            standalone=True,
            namespaces=[settings.namespace],
            liveness_endpoint=liveness,
            **kopf_options,
        )
