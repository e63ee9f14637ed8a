# SPDX-License-Identifier: Apache-2.0
"""What has to be done so that the right namespaces, and no others, can log in to caches that are not for everybody.

`controller/access.py` looks, asks `plan`, and carries out. It is about all caches and all namespaces at once, since a
namespace has one Secret for all caches. What is in the Secrets, `children/access.py` says; who is admitted,
`access.py`. Why in this way: docs/decisions/0009-private-caches.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from imagecache_operator import names
from imagecache_operator.api.conditions import WITH_SERVER, ConditionType
from imagecache_operator.planning.access import Admitted, admitted
from imagecache_operator.planning.children import access
from imagecache_operator.planning.children.access import Login, login
from imagecache_operator.planning.decision import Manifest
from imagecache_operator.planning.observed import Cache, Namespace

LOOK_AGAIN = timedelta(minutes=10)
# While there are passwords: nobody tells of a Secret that somebody has deleted, be it the key after a leak.
LOOK_AGAIN_AT_PASSWORDS = timedelta(minutes=1)
GO_ON = timedelta(seconds=1)
MOST_WRITES = 200  # in one look: it has to end, and liveness to see that it does

LIFETIME = timedelta(days=30)
# A new key's passwords are handed out when every server has read them (kubelet: within about a minute and a half), and
# those of the old key work until no node can have them in memory any more.
SPREAD = timedelta(minutes=5)
OVERLAP = timedelta(hours=1)
# A key from later than that is one by a clock that was wrong.
SKEW = timedelta(hours=1)


Place = tuple[str, str]  # namespace, name


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
    """A Secret of ours by name: from its metadata, for in other people's namespaces anything may be in it. `version`
    stands for the logins that it was made for; `ours`: it has our label."""

    name: str
    namespace: str
    uid: str
    version: str = ""
    ours: bool = True


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
    """In the order in which it is carried out: the key; what servers let in, which is also how a right is taken back;
    what is surplus; what namespaces log in with."""

    again_in: timedelta
    key: KeyTask | None = None
    files: tuple[Manifest, ...] = field(default=(), repr=False)
    delete: tuple[Stored, ...] = ()
    logins: tuple[Manifest, ...] = field(default=(), repr=False)


def plan(seen: Observed, now: datetime) -> Plan:
    """What to do now."""
    rules = [(cache, admitted(cache)) for cache in seen.caches if _is_served(cache)]
    private = [(cache, rule) for cache, rule in rules if rule.has_password]
    if not private:
        # The key stays: a cache may come back, and Pods that wait would have to learn another password.
        return Plan(LOOK_AGAIN, delete=(*_surplus(seen.htpasswds, ()), *_surplus(seen.pull_secrets, ())))
    key, task = seen.key, _key_task(seen.key, now)
    if key is None or key.current is None or key.since is None or task is not None:
        return Plan(GO_ON, key=task)
    known = {(one.namespace, one.name): one for one in (*seen.htpasswds, *seen.pull_secrets)}
    keys = tuple(one for one in (key.current, key.previous) if one)
    files = [_file(cache, rule, seen, keys) for cache, rule in private]
    stale = {file.place for file in files if file.is_new(known)}
    logins: dict[str, dict[str, Login]] = {}
    for file in files:
        # Not by the clock alone: a server that has no new file yet knows the old passwords only.
        spread = file.place not in stale and now - key.since >= SPREAD
        handed_out = key.previous if key.previous and not spread else key.current
        for namespace, one in file.logins_with(handed_out):
            logins.setdefault(namespace, {})[file.address] = one
    stale_logins = [
        access.pull_secret(name, by_address) for name, by_address in sorted(logins.items())
        if _is_new(known.get((name, names.ACCESS_SECRET)), access.version(sorted(by_address.items())))
    ]
    forget = key.previous is not None and not stale and now - key.since >= OVERLAP
    again_soon = forget or len(stale_logins) > MOST_WRITES or (key.previous is not None and bool(stale))
    return Plan(
        GO_ON if again_soon else _until_next(key.since, key.previous, now),
        key=KeyTask.FORGET if forget else None,
        files=tuple(file.manifest() for file in files if file.place in stale),
        delete=(
            *_surplus(seen.htpasswds, {file.place for file in files}),
            *_surplus(seen.pull_secrets, {(name, names.ACCESS_SECRET) for name in logins}),
        )[:MOST_WRITES],
        logins=tuple(stale_logins[:MOST_WRITES]),
    )


@dataclass(frozen=True)
class _File:
    """The htpasswd file of a cache, before it is hashed."""

    cache: Cache
    home_uid: str
    namespace: str
    address: str
    namespaces: tuple[Namespace, ...]
    keys: tuple[bytes, ...] = field(repr=False)

    @property
    def place(self) -> Place:
        return self.namespace, names.server_name(self.home_uid, self.cache.uid)

    @property
    def logins(self) -> list[Login]:
        """Of all keys: what the server lets in."""
        return [self._login(key, namespace) for namespace in self.namespaces for key in self.keys]

    def logins_with(self, key: bytes) -> Iterator[tuple[str, Login]]:
        """By namespace, of one key."""
        return ((namespace.name, self._login(key, namespace)) for namespace in self.namespaces)

    def _login(self, key: bytes, namespace: Namespace) -> Login:
        return login(key, self.cache.uid, self.address, namespace)

    def is_new(self, known: Mapping[Place, Stored]) -> bool:
        return _is_new(known.get(self.place), access.version((self.address, one) for one in self.logins))

    def manifest(self) -> Manifest:
        return access.htpasswd(self.cache, self.home_uid, self.namespace, self.address, self.logins)


def _file(cache: Cache, rule: Admitted, seen: Observed, keys: tuple[bytes, ...]) -> _File:
    """Before the server's address is known, nobody can log in there."""
    address = cache.status.server.address if cache.status.server else ""
    namespaces = tuple(_admits(cache, rule, seen)) if address else ()
    return _File(cache, seen.home_uid, seen.namespace, address, namespaces, keys)


def _is_served(cache: Cache) -> bool:
    """Whether there is to be a server, as the last pass over the cache has told."""
    told = cache.status.condition(ConditionType.SERVED)
    return not cache.deleting and told is not None and told.reason in WITH_SERVER


def _admits(cache: Cache, rule: Admitted, seen: Observed) -> Iterator[Namespace]:
    """The namespaces that get a password. Ours always does: canaries are there, and warmers."""
    for namespace in seen.namespaces:
        if rule.has(namespace) or namespace.name == seen.namespace:
            yield namespace


def _key_task(key: Key | None, now: datetime) -> KeyTask | None:
    """What has to be done about the key before anything can follow from it."""
    if key is None:
        return KeyTask.MAKE
    if not key.changeable or key.current is None or key.since is None:
        return KeyTask.DISCARD
    return KeyTask.RENEW if now - key.since >= LIFETIME or key.since - now > SKEW else None


def _until_next(since: datetime, previous: bytes | None, now: datetime) -> timedelta:
    """The time until the key needs something, or a look is due."""
    age = now - since
    ahead: list[timedelta] = [end - age for end in (LIFETIME, *((SPREAD, OVERLAP) if previous else ())) if end > age]
    return min([LOOK_AGAIN_AT_PASSWORDS, *ahead])


def _is_new(found: Stored | None, version: str) -> bool:
    return found is None or not found.ours or found.version != version


def _surplus(stored: tuple[Stored, ...], wanted: Collection[Place]) -> tuple[Stored, ...]:
    """What of ours nobody wants. What is somebody else's stays, and to write over it may be refused."""
    return tuple(one for one in stored if one.ours and (one.namespace, one.name) not in wanted)
