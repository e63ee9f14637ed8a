# SPDX-License-Identifier: Apache-2.0
"""One look at who can log in to which cache: the key, the files of servers, the Secrets of namespaces.

observe → plan (`planning/passwords.py`) → carry out, like a pass over a cache; `controller/handlers.py` makes one look
after the other, in a thread, for as long as the operator runs.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any

from imagecache_operator import names
from imagecache_operator.cluster import reading
from imagecache_operator.cluster.api import Api, ClusterError, Conflict, Object, Rejected
from imagecache_operator.controller import own_secrets
from imagecache_operator.controller.reconciler import Pass, utc_now
from imagecache_operator.planning.decision import Manifest
from imagecache_operator.planning.passwords import LOOK_AGAIN_AT_PASSWORDS, Key, KeyTask, Observed, Stored, plan
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
        for manifest in todo.files:
            if self._written(partial(self._api.apply, manifest), manifest["metadata"]):
                self._tell_server(manifest)
        for stored in todo.delete:
            place = {"name": stored.name, "namespace": stored.namespace}
            if self._written(partial(self._api.delete, "Secret", uid=stored.uid, **place), place):
                log.info("deleted Secret %(name)s in namespace %(namespace)s", place)
        refused = sum(not self._written(partial(self._api.apply, m), m["metadata"]) for m in todo.logins)
        # Somebody's quota or policy: what it refuses is tried again when a look is due, and not before.
        return Pass(again_in=todo.again_in if not refused else max(todo.again_in, LOOK_AGAIN_AT_PASSWORDS))

    def _written(self, write: Callable[[], None], where: Mapping[str, Any]) -> bool:
        """What the cluster refuses in one place is told and stops nothing else; what is no answer at all stops all."""
        try:
            write()
        except (Rejected, Conflict) as refusal:
            log.warning("Secret %s in namespace %s cannot be written: %s", where["name"], where["namespace"], refusal)
            return False
        return True

    def _observed(self, key: Object | None) -> Observed:
        htpasswds = names.child_selector(self._home, names.COMPONENT_ACCESS)
        namespaces = self._api.list_metadata("Namespace")
        return Observed(
            namespace=self._namespace,
            home_uid=self._home,
            caches=tuple(map(reading.cache, self._api.list(names.KIND))),
            # In one that is on its way out nothing can be made.
            namespaces=tuple(reading.namespace(n) for n in namespaces if "deletionTimestamp" not in n["metadata"]),
            key=_key(key) if key else None,
            pull_secrets=tuple(map(_stored, self._api.list_named_metadata("Secret", names.ACCESS_SECRET))),
            htpasswds=tuple(map(_stored, self._api.list_metadata("Secret", self._namespace, htpasswds))),
        )

    def _see_to_key(self, task: KeyTask, secret: Object | None, now: datetime) -> None:
        if secret is not None and task is KeyTask.DISCARD:
            self._api.delete("Secret", names.ACCESS_KEY_SECRET, self._namespace, secret["metadata"]["uid"])
        else:
            data = own_secrets.content(secret or {})
            # Emptied, not left out: what somebody else has written too (a restored backup) would stay.
            previous = data[_CURRENT] if task is KeyTask.RENEW else b""
            if task is not KeyTask.FORGET:
                data = {_CURRENT: secrets.token_bytes(KEY_BYTES), _SINCE: now.isoformat().encode()}
            own_secrets.write(
                self._api, secret, names.ACCESS_KEY_SECRET, self._namespace, KEY_TYPE,
                {_CURRENT: data[_CURRENT], _SINCE: data[_SINCE], _PREVIOUS: previous},
            )
        log.info("Secret %s: the key is %s", names.ACCESS_KEY_SECRET, task)

    def _tell_server(self, htpasswd: Manifest) -> None:
        """Make the server's node look at the file now: by itself it does so once in a minute or so. A courtesy: where
        it fails, that is what happens."""
        meta = htpasswd["metadata"]
        version, uid = meta["annotations"][names.ANNOTATION_LOGINS], meta["labels"][names.LABEL_CACHE]
        server = names.child_selector(self._home, names.COMPONENT_SERVER, uid)
        with suppress(ClusterError):
            for pod in self._api.list_metadata("Pod", self._namespace, server):
                self._api.apply({
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {
                        "name": pod["metadata"]["name"], "namespace": self._namespace, "uid": pod["metadata"]["uid"],
                        "annotations": {names.ANNOTATION_LOGINS: version},
                    },
                })


def _key(secret: Object) -> Key:
    data = own_secrets.content(secret)
    since = None
    with suppress(ValueError):  # what cannot be read is absent, and the key is made anew
        found = datetime.fromisoformat(data.get(_SINCE, b"").decode())
        since = found if found.tzinfo else None
    # A key that somebody has shortened is one that can be guessed.
    whole = {name: value for name, value in data.items() if len(value) >= KEY_BYTES}
    return Key(
        uid=secret["metadata"]["uid"],
        changeable=own_secrets.is_changeable(secret, KEY_TYPE),
        current=whole.get(_CURRENT),
        previous=whole.get(_PREVIOUS),
        since=since,
    )


def _stored(secret: Object) -> Stored:
    """From its metadata."""
    meta = secret["metadata"]
    return Stored(
        name=meta["name"],
        namespace=meta["namespace"],
        uid=meta["uid"],
        version=(meta.get("annotations") or {}).get(names.ANNOTATION_LOGINS, ""),
        ours=(meta.get("labels") or {}).get(names.LABEL_MANAGED_BY) == names.PROGRAM,
    )
