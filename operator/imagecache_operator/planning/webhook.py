# SPDX-License-Identifier: Apache-2.0
"""What has to be done so that the API server calls our webhook and trusts it: its certificate, its registration.

`controller/injection.py` looks, asks `plan`, and carries out. The order is what matters here: nothing is registered
before somebody answers, and no certificate is served that the API server does not trust yet. Why in this way:
docs/decisions/0007-webhook-certificates.md.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from imagecache_operator import names
from imagecache_operator.planning import kubelets
from imagecache_operator.planning.children import registration
from imagecache_operator.planning.children.registration import Object
from imagecache_operator.planning.observed import Kubelet
from imagecache_operator.settings import Injection

LOOK_AGAIN = timedelta(minutes=1)
# While the webhook's Pods wait for their certificate and start: soon enough for a person who has just installed it.
WAITING = timedelta(seconds=10)
# After a write: the next look sees it. Not at once, so that two writers who disagree do not race.
GO_ON = timedelta(seconds=1)

SERVER_LIFETIME = timedelta(days=90)
AUTHORITY_LIFETIME = timedelta(days=3650)
RENEW_AT = 3  # when less than this part (a third) of a life is left


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the Secret's `ca.crt`."""

    pem: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True)
class ServerCertificate:
    """The Secret's `tls.crt`. `signed_by`: which of the Secret's authorities vouches for it, counted from 0, if any."""

    not_before: datetime
    not_after: datetime
    names: frozenset[str]
    signed_by: int | None


@dataclass(frozen=True)
class Stored:
    """The Secret. What cannot be read is absent here, and is made anew.

    `changeable`: of the right type and not immutable. `can_sign`: `ca.key` is the key of the first authority.
    `server` is None also where `tls.key` is not its key.
    """

    uid: str
    changeable: bool
    authorities: tuple[Authority, ...] = ()
    can_sign: bool = False
    server: ServerCertificate | None = None


@dataclass(frozen=True)
class Observed:
    """All that one look finds. `configuration` is the MutatingWebhookConfiguration as it is, `available` says whether
    a Pod of the webhook is ready. `kubelets` are looked up only where the setting leaves something to them."""

    namespace: str
    namespace_uid: str
    stored: Stored | None
    available: bool
    configuration: Object | None
    kubelets: tuple[Kubelet, ...] = ()


@dataclass(frozen=True)
class Renewal:
    """What to make anew, and why. `keep`: an authority (PEM) that stays trusted behind the one that signs, if any."""

    why: str
    authority: bool = False
    server: bool = False
    keep: str = ""


@dataclass(frozen=True)
class Plan:
    """At most one of the writes is there: each changes what the next look is about. `off`: why Pods are not injected;
    empty where they are."""

    again_in: timedelta
    off: str = ""
    renew: Renewal | None = None
    discard: bool = False  # the Secret: nobody can change it
    apply: Object | None = None
    remove: bool = False  # the configuration


def plan(seen: Observed, injection: Injection, now: datetime) -> Plan:
    """What to do now. Where `injection`, the setting, or the kubelets are against it, nothing is registered; the
    certificate is kept right all the same, for the Pods that serve with it."""
    off = kubelets.why_no_injection(injection, seen.kubelets)
    return replace(_write(seen, off, now), off=off)


def _write(seen: Observed, off: str, now: datetime) -> Plan:
    """The next write, if there is one."""
    if off and seen.configuration is not None:
        return Plan(GO_ON, remove=True)
    stored = seen.stored
    if stored is not None and not stored.changeable:
        return Plan(GO_ON, discard=True)
    if stored is None:
        return Plan(GO_ON, renew=Renewal("there is no certificate yet", authority=True, server=True))
    if renewal := _renewal(seen, stored, now):
        return Plan(GO_ON, renew=renewal)
    if off:
        return Plan(LOOK_AGAIN)
    if seen.configuration is None and not seen.available:
        return Plan(WAITING)
    wanted = registration.manifest(seen.namespace, seen.namespace_uid, _bundle(stored))
    if seen.configuration is None or not _is_as(seen.configuration, wanted):
        return Plan(GO_ON, apply=wanted)
    return Plan(LOOK_AGAIN)


def service_names(namespace: str) -> tuple[str, ...]:
    """The names for which the certificate is: the API server asks for the first."""
    return (f"{names.WEBHOOK}.{namespace}.svc", f"{names.WEBHOOK}.{namespace}.svc.cluster.local")


def _renewal(seen: Observed, stored: Stored, now: datetime) -> Renewal | None:
    """What is not as it should be. First who signs, then, once the API server trusts that one, what it has signed."""
    broken = _why_broken(stored, service_names(seen.namespace), now)
    vouching = stored.server.signed_by if stored.server else None
    # Whoever vouches for a certificate in use stays trusted for as long as Pods may serve with that.
    in_use = "" if broken or vouching is None else stored.authorities[vouching].pem
    if why := _why_no_authority(stored, now):
        return Renewal(why, authority=True, server=bool(broken), keep=in_use)
    if broken:
        return Renewal(broken, server=True)
    if vouching != 0:
        if _trusted(seen.configuration, _bundle(stored)):
            return Renewal("its authority is new", server=True, keep=in_use)
    elif stored.server and _ageing(stored.server, now):
        return Renewal("the certificate nears its end", server=True)
    return None


def _why_no_authority(stored: Stored, now: datetime) -> str:
    """Why the first authority can sign no more; empty where it can."""
    if not stored.authorities:
        return "there is no authority that can be read"
    if not stored.can_sign:
        return "the authority has not its key"
    first = stored.authorities[0]
    return "" if _valid(first, now) and not _ageing(first, now) else "the authority nears its end"


def _why_broken(stored: Stored, wanted: tuple[str, ...], now: datetime) -> str:
    """Why nobody can use the certificate as it is; empty where one can."""
    server = stored.server
    if server is None:
        return "the certificate cannot be read, or has not its key"
    if server.signed_by is None or not _valid(stored.authorities[server.signed_by], now):
        return "no authority vouches for the certificate"
    if not _valid(server, now):
        return "the certificate is not valid at this time"
    if not server.names.issuperset(wanted):
        return "the certificate is for other names"
    return ""


def _valid(certificate: Authority | ServerCertificate, now: datetime) -> bool:
    return certificate.not_before <= now < certificate.not_after


def _ageing(certificate: Authority | ServerCertificate, now: datetime) -> bool:
    life = certificate.not_after - certificate.not_before
    return (certificate.not_after - now) * RENEW_AT <= life


def _bundle(stored: Stored) -> str:
    return "".join(authority.pem for authority in stored.authorities)


def _trusted(found: Object | None, bundle: str) -> bool:
    """Whether the API server knows these authorities, or has nothing to know them for."""
    text = base64.b64encode(bundle.encode()).decode()
    mine = [w for w in _webhooks(found) if w["name"] in (names.WEBHOOK_PODS, names.WEBHOOK_AUTO)]
    return all((w.get("clientConfig") or {}).get("caBundle") == text for w in mine)


def _is_as(found: Object, wanted: Object) -> bool:
    """Whether all that we say is there. What others have added (labels, webhooks of theirs) is theirs."""
    there = {w["name"]: w for w in _webhooks(found)}
    meta, wanted_meta = found["metadata"], wanted["metadata"]
    return (
        all(said.items() <= there.get(said["name"], {}).items() for said in wanted["webhooks"])
        and wanted_meta["labels"].items() <= (meta.get("labels") or {}).items()
        and all(owner in (meta.get("ownerReferences") or []) for owner in wanted_meta["ownerReferences"])
    )


def _webhooks(found: Object | None) -> list[Object]:
    return (found or {}).get("webhooks") or []
