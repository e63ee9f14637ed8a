# SPDX-License-Identifier: Apache-2.0
"""What has to be done so that the right namespaces, and no others, can log in to caches that are not for everybody.

`controller/access.py` looks, asks `plan`, and carries out. It is about all caches and all namespaces at once, since a
namespace has one Secret for all caches. What is in the Secrets, `children/access.py` says; who is admitted,
`access.py`. Why in this way: docs/decisions/0009-private-caches.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from imagecache_operator.api.conditions import ConditionReason, ConditionType
from imagecache_operator.planning.access import admitted
from imagecache_operator.planning.children import access
from imagecache_operator.planning.children.access import Login, login
from imagecache_operator.planning.decision import Manifest
from imagecache_operator.planning.observed import Cache, Namespace

LOOK_AGAIN = timedelta(minutes=10)
GO_ON = timedelta(seconds=1)

LIFETIME = timedelta(days=30)
# A new key's passwords are handed out when every server has read them (kubelet: within about a minute and a half), and
# those of the old key work until no node can have them in memory any more.
SPREAD = timedelta(minutes=5)
OVERLAP = timedelta(hours=1)


class KeyTask(StrEnum):
    """What is to be done about the key. Each is one write, and the next look sees it."""

    MAKE = "made"
    RENEW = "renewed"
    FORGET = "the one before it forgotten"
    DISCARD = "discarded"


@dataclass(frozen=True)
class Key:
    """The Secret with the key. `current` is None where it cannot be read; `changeable`: not immutable, right type.
    `since`: when `current` became that."""

    uid: str
    changeable: bool = True
    current: bytes | None = field(default=None, repr=False)
    previous: bytes | None = field(default=None, repr=False)
    since: datetime | None = None


@dataclass(frozen=True)
class Stored:
    """A Secret of ours as it is. `data` by key, in base64."""

    name: str
    namespace: str
    uid: str
    type: str = ""
    immutable: bool = False
    ours: bool = True
    data: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Observed:
    """All that one look finds. `namespaces` are those that are there to stay; `pull_secrets` all Secrets of our name,
    `htpasswds` those of our servers."""

    namespace: str
    home_uid: str
    caches: tuple[Cache, ...]
    namespaces: tuple[Namespace, ...] = ()
    key: Key | None = None
    pull_secrets: tuple[Stored, ...] = ()
    htpasswds: tuple[Stored, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Deletions come first: among them are those that stand in the way of `apply`."""

    again_in: timedelta
    key: KeyTask | None = None
    delete: tuple[Stored, ...] = ()
    apply: tuple[Manifest, ...] = field(default=(), repr=False)


def has_password(cache: Cache) -> bool:
    """Whether the cache's server, if there is to be one, asks who is there."""
    return not admitted(cache).everybody


def plan(seen: Observed, now: datetime) -> Plan:
    """What to do now."""
    private = [cache for cache in seen.caches if _is_served(cache) and has_password(cache)]
    key = seen.key
    if not private:
        # The key stays: a cache may come back, and Pods that wait would have to learn another password.
        return Plan(LOOK_AGAIN, delete=(*_surplus(seen.pull_secrets, ()), *_surplus(seen.htpasswds, ())))
    task, left = _key_task(key, now)
    if task is not None:
        return Plan(GO_ON, key=task)
    if key is None or key.current is None or key.since is None:
        raise AssertionError("a key that is all right is there")
    handed_out = key.previous if key.previous and now - key.since < SPREAD else key.current
    valid = [known for known in (key.current, key.previous) if known]
    files = [
        access.htpasswd(cache, seen.home_uid, seen.namespace, [
            login(one, cache.uid, namespace) for namespace in _admits(cache, seen) for one in valid
        ]) for cache in private
    ]
    logins: dict[str, dict[str, Login]] = {}
    for cache in private:
        if cache.status.server is None:
            continue  # nobody knows its address yet
        for namespace in _admits(cache, seen):
            one = login(handed_out, cache.uid, namespace)
            logins.setdefault(namespace.name, {})[cache.status.server.address] = one
    pull_secrets = [access.pull_secret(name, by_address) for name, by_address in sorted(logins.items())]
    return Plan(
        left,
        delete=(*_surplus(seen.pull_secrets, pull_secrets), *_surplus(seen.htpasswds, files)),
        # What lets in before what is let in with.
        apply=(*_stale(files, seen.htpasswds), *_stale(pull_secrets, seen.pull_secrets)),
    )


def _is_served(cache: Cache) -> bool:
    """Whether there is to be a server, as the last pass over the cache has told."""
    told = next((c.reason for c in cache.status.conditions if c.type == ConditionType.SERVED), "")
    return not cache.deleting and told in (ConditionReason.SERVING, ConditionReason.SERVER_PENDING)


def _admits(cache: Cache, seen: Observed) -> Iterator[Namespace]:
    """The namespaces that get a password, ours among them where nodes are kept warm: the warmer is there."""
    rule = admitted(cache)
    warms = cache.spec is not None and cache.spec.warm_nodes is not None
    for namespace in seen.namespaces:
        if rule.has(namespace) or (warms and namespace.name == seen.namespace):
            yield namespace


def _key_task(key: Key | None, now: datetime) -> tuple[KeyTask | None, timedelta]:
    """What the key needs now; else the time until it needs something, or a look is due."""
    if key is None:
        return KeyTask.MAKE, GO_ON
    if not key.changeable or key.current is None or key.since is None:
        return KeyTask.DISCARD, GO_ON
    age = now - key.since
    if age >= LIFETIME:
        return KeyTask.RENEW, GO_ON
    if key.previous and age >= OVERLAP:
        return KeyTask.FORGET, GO_ON
    ahead = [end - age for end in (LIFETIME, *((SPREAD, OVERLAP) if key.previous else ())) if end > age]
    return None, min(LOOK_AGAIN, *ahead)


def _stale(wanted: list[Manifest], stored: tuple[Stored, ...]) -> list[Manifest]:
    """Of what is wanted, that which is not there as it should be."""
    there = {(one.namespace, one.name): one for one in stored}
    return [manifest for manifest in wanted if not _is_as(there.get(_place(manifest)), manifest)]


def _is_as(found: Stored | None, manifest: Manifest) -> bool:
    return found is not None and found.ours and found.type == manifest["type"] and found.data == manifest["data"]


def _surplus(stored: tuple[Stored, ...], wanted: list[Manifest] | tuple[()]) -> Iterator[Stored]:
    """What of ours is to go: nobody wants it, or it cannot be changed into what is wanted. What is somebody else's
    stays, and to write over it may be refused."""
    places = {_place(manifest): manifest for manifest in wanted}
    for found in stored:
        manifest = places.get((found.namespace, found.name))
        unfit = manifest is not None and (
            found.type != manifest["type"] or (found.immutable and found.data != manifest["data"])
        )
        if found.ours and (manifest is None or unfit):
            yield found


def _place(manifest: Manifest) -> tuple[str, str]:
    return manifest["metadata"]["namespace"], manifest["metadata"]["name"]
