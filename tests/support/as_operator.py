# SPDX-License-Identifier: Apache-2.0
"""The operator's own passes under its own account, from a test: what time brings, without waiting for it.

The API server dates what is created itself, and no cache lives for less than a day; so it is the clock that is another
one. Called by end-to-end tests.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from imagecache_operator.cluster.client import Client
from imagecache_operator.cluster.observe import home_uid
from imagecache_operator.controller.reconciler import Reconciler
from imagecache_operator.settings import Settings

from .audit import ACCOUNT
from .kube import NAMESPACE, Kube, configuration


def client(kube: Kube) -> Client:
    """One with the rights of the operator, and no others."""
    its = configuration(str(kube.cluster.kubeconfig))
    its.cert_file = its.key_file = None  # an administrator's
    token = kube.cluster.kubectl("-n", NAMESPACE, "create", "token", ACCOUNT).strip()
    its.api_key = {"BearerToken": f"Bearer {token}"}
    return Client(its)


def the_day_after_tomorrow(kube: Kube) -> Reconciler:
    """For one pass; the operator in the cluster does the rest, by the real clock."""
    api = client(kube)
    settings = Settings(builder_image="none is started")
    return Reconciler(api, settings, home_uid(api), lambda: datetime.now(UTC) + timedelta(days=2))
