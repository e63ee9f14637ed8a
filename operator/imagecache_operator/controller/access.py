# SPDX-License-Identifier: Apache-2.0
"""One look at who can log in to which cache: the key, the files of servers, the Secrets of namespaces.

observe → plan (`planning/passwords.py`) → carry out, like a pass over a cache; `controller/handlers.py` makes one look
after the other, in a thread, for as long as the operator runs.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from functools import partial

from imagecache_operator import names
from imagecache_operator.cluster import reading
from imagecache_operator.cluster.api import Api, ClusterError, Object
from imagecache_operator.controller.reconciler import RETRY_AFTER_REFUSAL, Pass, utc_now
from imagecache_operator.planning.decision import Manifest
from imagecache_operator.planning.passwords import Key, KeyTask, Observed, Stored, plan
from imagecache_operator.settings import Settings

log = logging.getLogger(__name__)

KEY_TYPE = "Opaque"
KEY_BYTES = 32
_CURRENT, _PREVIOUS, _SINCE = "current", "previous", "since"


class Access:
    """Keeps the passwords of caches that are not for everybody. For one thread at a time."""

    def __init__(
        self, api: Api, settings: Settings, home_uid: str, clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._api = api
        self._namespace = settings.namespace
        self._home = home_uid
        self._clock = clock

    def run_once(self) -> Pass:
        """One look. What the cluster refuses in one namespace does not stop the others. Raises a ClusterError where it
        cannot even look, or not do what all the rest waits for."""
        now = self._clock().replace(microsecond=0)
        secret = self._api.get("Secret", names.ACCESS_KEY_SECRET, self._namespace)
        seen = self._observed(secret)
        todo = plan(seen, now)
        if todo.key:
            self._see_to_key(todo.key, secret, now)
        writes = [(partial(self._delete, stored), stored.namespace, stored.name) for stored in todo.delete]
        writes += [
            (partial(self._api.apply, manifest), manifest["metadata"]["namespace"], manifest["metadata"]["name"])
            for manifest in todo.apply
        ]
        refused = False
        for write, namespace, name in writes:
            try:
                write()
            except ClusterError as trouble:
                log.warning("Secret %s in namespace %s could not be written: %s", name, namespace, trouble)
                refused = True
        for manifest in todo.apply:
            self._tell_server(manifest)
        return Pass(again_in=min(RETRY_AFTER_REFUSAL, todo.again_in) if refused else todo.again_in)

    def _observed(self, key: Object | None) -> Observed:
        htpasswds = f"{names.managed_selector(self._home)},{names.LABEL_COMPONENT}={names.COMPONENT_ACCESS}"
        namespaces = self._api.list_metadata("Namespace")
        return Observed(
            namespace=self._namespace,
            home_uid=self._home,
            caches=tuple(map(reading.cache, self._api.list(names.KIND))),
            # In one that is on its way out nothing can be made.
            namespaces=tuple(reading.namespace(n) for n in namespaces if "deletionTimestamp" not in n["metadata"]),
            key=_key(key) if key else None,
            pull_secrets=tuple(map(_stored, self._api.list_named("Secret", names.ACCESS_SECRET))),
            htpasswds=tuple(map(_stored, self._api.list("Secret", self._namespace, htpasswds))),
        )

    def _delete(self, stored: Stored) -> None:
        self._api.delete("Secret", stored.name, stored.namespace, stored.uid)
        log.info("deleted Secret %s in namespace %s", stored.name, stored.namespace)

    def _see_to_key(self, task: KeyTask, secret: Object | None, now: datetime) -> None:
        data = {} if secret is None else secret.get("data") or {}
        if secret is not None and task is KeyTask.DISCARD:
            self._api.delete("Secret", names.ACCESS_KEY_SECRET, self._namespace, secret["metadata"]["uid"])
        elif task is KeyTask.FORGET:
            self._write_key(secret, {key: data[key] for key in (_CURRENT, _SINCE)})
        else:
            kept = {_PREVIOUS: data[_CURRENT]} if task is KeyTask.RENEW else {}
            fresh = {_CURRENT: secrets.token_bytes(KEY_BYTES), _SINCE: now.isoformat().encode()}
            self._write_key(secret, {**kept, **{k: base64.b64encode(v).decode() for k, v in fresh.items()}})
        log.info("Secret %s: the key is %s", names.ACCESS_KEY_SECRET, task)

    def _write_key(self, secret: Object | None, data: dict[str, str]) -> None:
        manifest: Object = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": KEY_TYPE,
            "metadata": {
                "name": names.ACCESS_KEY_SECRET, "namespace": self._namespace,
                "labels": {names.LABEL_MANAGED_BY: names.PROGRAM},
            },
            "data": data,
        }
        if secret is None:
            self._api.create(manifest)  # where somebody else was faster, his is as good
        else:
            # Of what was read, and of nothing else: another operator may have renewed it a moment ago.
            manifest["metadata"] |= {field: secret["metadata"][field] for field in ("uid", "resourceVersion")}
            self._api.apply(manifest)

    def _tell_server(self, htpasswd: Manifest) -> None:
        """Make the server's node look at the file now: by itself it does so once in a minute or so. A courtesy: where
        it fails, that is what happens."""
        uid = htpasswd["metadata"]["labels"].get(names.LABEL_CACHE)
        if uid is None:
            return  # of a namespace, not of a server
        version = hashlib.sha256(repr(htpasswd["data"]).encode()).hexdigest()[:16]
        server = f"{names.managed_selector(self._home)},{names.LABEL_CACHE}={uid},"
        with suppress(ClusterError):
            for pod in self._api.list_metadata("Pod", self._namespace, server + _SERVERS):
                self._api.apply({
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": pod["metadata"]["name"], "namespace": self._namespace, "uid": pod["metadata"]["uid"],
                        "annotations": {names.ANNOTATION_LOGINS: version},
                    },
                })


_SERVERS = f"{names.LABEL_COMPONENT}={names.COMPONENT_SERVER}"


def _key(secret: Object) -> Key:
    data = secret.get("data") or {}
    since = None
    with suppress(ValueError):  # what cannot be read is absent, and the key is made anew
        found = datetime.fromisoformat((_decoded(data.get(_SINCE)) or b"").decode())
        since = found if found.tzinfo else None
    current, previous = _decoded(data.get(_CURRENT)), _decoded(data.get(_PREVIOUS))
    return Key(
        uid=secret["metadata"]["uid"],
        changeable=secret.get("type") == KEY_TYPE and not secret.get("immutable"),
        # A key that somebody has shortened is one that can be guessed.
        current=current if current and len(current) >= KEY_BYTES else None,
        previous=previous if previous and len(previous) >= KEY_BYTES else None,
        since=since,
    )


def _decoded(text: str | None) -> bytes | None:
    try:
        return base64.b64decode(text or "")
    except binascii.Error:  # the API server would not have taken it
        return None


def _stored(secret: Object) -> Stored:
    meta = secret["metadata"]
    labels = meta.get("labels") or {}
    return Stored(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        type=secret.get("type") or "",
        immutable=bool(secret.get("immutable")),
        ours=labels.get(names.LABEL_MANAGED_BY) == names.PROGRAM,
        data=secret.get("data") or {},
    )
