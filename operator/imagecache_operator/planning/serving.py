# SPDX-License-Identifier: Apache-2.0
"""Whether a cache is served to nodes. One rule, after every decision of `plan.py`: a server runs where the cache is
Available and wants one, and nowhere else; so no builder ever meets one, and none outlives its volume."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.imagecache import Phase
from imagecache_operator.api.serving import ServerStatus
from imagecache_operator.planning import canaries, kubelets
from imagecache_operator.planning.access import Admitted, admitted
from imagecache_operator.planning.children import server
from imagecache_operator.planning.children.applied import version
from imagecache_operator.planning.decision import SOON, Decision, Manifest
from imagecache_operator.planning.observed import Server
from imagecache_operator.planning.view import View


def with_server(view: View, decision: Decision) -> Decision:
    """The decision, with what is to be done and told about the cache's server."""
    rule = rule_of(view, decision)
    reason, words = _why_not(view, decision, rule)
    if reason is not None:
        # First of what goes: its Pod holds the volume.
        return replace(
            decision, served=reason, served_message=words,
            delete=(*view.server_parts, *view.canary_pods, *decision.delete),
        )
    seen = view.observed.server
    wanted = server.manifests(
        view.observed.cache, view.observed.home_uid, view.settings, password=rule.has_password,
    )
    missing = tuple(manifest for manifest in wanted if not seen.has(manifest["kind"], version(manifest)))
    told = _status(view, wanted[0]["metadata"]["name"], ready=seen.ready and not missing)
    decision = replace(decision, delete=(*view.former_ingress, *decision.delete))
    if told is None or not told.ready:
        return replace(
            decision, serve=missing, server=told, served=Because.SERVER_PENDING,
            served_message=_pending(wanted[-1], seen, missing), again_in=SOON,
        )
    tried = canaries.trials(view, told.address, password=rule.has_password)
    return replace(
        decision, server=told.model_copy(update={"canaries": tried.results}), served=tried.reason,
        served_message=tried.words or f"For {rule.words}", trials=tried.create,
        delete=(*tried.delete, *decision.delete), again_in=_sooner(decision.again_in, tried.again_in),
    )


def _why_not(view: View, decision: Decision, rule: Admitted) -> tuple[Because | None, str]:
    if decision.phase is not Phase.AVAILABLE:
        return Because.NOT_AVAILABLE, ""
    if not view.spec.serve:
        return Because.NOT_WANTED, "spec.serve is false"
    if rule.nobody and view.spec.warm_nodes is None:
        return Because.NOBODY_ADMITTED, (
            "It was built with pull Secrets, and not one namespace's Secrets have pulled all that was pulled with any: "
            "say in spec.allowedNamespaces who may use it"
        )
    if rule.has_password and (why := kubelets.why_not_private(view.observed.kubelets)):
        words = f"It is not for everybody, and {why}: on such a node, Pods may use what others have pulled"
        return Because.KUBELET_TOO_OLD, words
    return None, ""


def rule_of(view: View, decision: Decision) -> Admitted:
    """Whose the cache is, as whoever gives out passwords and injects Pods will read it."""
    cache = view.observed.cache
    told = cache.status.model_copy(update={
        "images": decision.images or cache.status.images, "attempt": decision.attempt or cache.status.attempt,
    })
    return admitted(replace(cache, status=told))


def _sooner(one: timedelta | None, other: timedelta | None) -> timedelta | None:
    return min(due) if (due := [time for time in (one, other) if time is not None]) else None


def _status(view: View, name: str, *, ready: bool) -> ServerStatus | None:
    """The server, with what earlier passes have put down of it; None while nobody knows where it will be."""
    address = server.address(name, view.observed.server.node_port, view.settings)
    if address is None:
        return None
    return ServerStatus(name=name, address=address, ready=ready, canaries=canaries.results(view, address))


def _pending(deployment: Manifest, seen: Server, missing: tuple[Manifest, ...]) -> str:
    name = deployment["metadata"]["name"]
    if missing:
        return f"Starting server {name}"
    return f"Waiting for server {name}" + (f": {seen.waiting_for}" if seen.waiting_for else " to answer")
