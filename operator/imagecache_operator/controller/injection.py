# SPDX-License-Identifier: Apache-2.0
"""One look at what makes Pods start from caches: the webhook's certificate and its registration.

observe → plan (`planning/webhook.py`) → carry out, like a pass over a cache; `controller/handlers.py` makes one look
after the other, in a thread, for as long as the operator runs. Two operators at once come to one end: each look is at
what is there, and a write to something that has changed since is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime

from imagecache_operator import names
from imagecache_operator.cluster import nodes
from imagecache_operator.cluster.api import Api, Object, Unavailable
from imagecache_operator.controller import certificates, own_secrets
from imagecache_operator.controller.reconciler import Pass, utc_now
from imagecache_operator.planning.webhook import Observed, Renewal, Stored, plan, service_names
from imagecache_operator.settings import PREFIX, Settings
from imagecache_operator.settings import Injection as Setting

log = logging.getLogger(__name__)

SECRET_TYPE = "kubernetes.io/tls"  # noqa: S105 - a type, not a password
CONFIGURATION = "MutatingWebhookConfiguration"


class Injection:
    """Keeps the webhook's Secret and the MutatingWebhookConfiguration as they should be. For one thread at a time."""

    def __init__(self, api: Api, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self._api = api
        self._settings = settings
        self._clock = clock
        self._told: str | None = None  # why it is off, as the log says it; empty where it is on

    def run_once(self) -> Pass:
        """One look, and at most one write. Raises a ClusterError where either does not succeed."""
        namespace = self._settings.namespace
        secret = self._api.get("Secret", names.WEBHOOK_SECRET, namespace)
        now = self._clock().replace(microsecond=0)
        seen = Observed(
            namespace=namespace,
            namespace_uid=self._namespace_uid(),
            stored=_stored(secret) if secret else None,
            available=_available(self._api.get("Deployment", names.WEBHOOK, namespace)),
            configuration=self._api.get(CONFIGURATION, names.WEBHOOK_CONFIGURATION),
            kubelets=() if self._settings.injection is Setting.OFF else nodes.kubelets(self._api.list("Node")),
        )
        todo = plan(seen, self._settings.injection, now)
        self._tell(todo.off)
        if todo.remove:
            self._api.delete(CONFIGURATION, names.WEBHOOK_CONFIGURATION)
            log.info("deleted %s %s", CONFIGURATION, names.WEBHOOK_CONFIGURATION)
        if todo.discard and seen.stored:
            self._api.delete("Secret", names.WEBHOOK_SECRET, namespace, seen.stored.uid)
            log.warning("deleted Secret %s, which could not be changed", names.WEBHOOK_SECRET)
        if todo.renew:
            self._renew(secret, todo.renew, now)
        if todo.apply:
            self._api.apply(todo.apply)
            log.info("applied %s %s", CONFIGURATION, names.WEBHOOK_CONFIGURATION)
        return Pass(again_in=todo.again_in)

    def _tell(self, off: str) -> None:
        """Once: looks come every minute."""
        if off == self._told:
            return
        self._told = off
        setting = f"{PREFIX}INJECTION={self._settings.injection}"
        log.info("injection is off (%s): %s" if off else "injection is on (%s)%s", setting, off)

    def _namespace_uid(self) -> str:
        found = self._api.get("Namespace", self._settings.namespace)
        if found is None:
            raise Unavailable(f"namespace {self._settings.namespace} is not there")
        return str(found["metadata"]["uid"])

    def _renew(self, secret: Object | None, renewal: Renewal, now: datetime) -> None:
        namespace = self._settings.namespace
        files = certificates.renewed(own_secrets.content(secret or {}), renewal, service_names(namespace), now)
        own_secrets.write(self._api, secret, names.WEBHOOK_SECRET, namespace, SECRET_TYPE, files)
        log.info("renewed Secret %s: %s", names.WEBHOOK_SECRET, renewal.why)


def _stored(secret: Object) -> Stored:
    files = own_secrets.content(secret)
    return Stored(
        uid=secret["metadata"]["uid"],
        changeable=own_secrets.is_changeable(secret, SECRET_TYPE),
        authorities=certificates.authorities(files),
        can_sign=certificates.can_sign(files),
        server=certificates.server(files),
    )


def _available(deployment: Object | None) -> bool:
    return bool(((deployment or {}).get("status") or {}).get("readyReplicas"))
