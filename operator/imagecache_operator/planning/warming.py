# SPDX-License-Identifier: Apache-2.0
"""Whether a cache's images are kept on nodes. One rule, after that of `serving.py`: a warmer runs where spec.warmNodes
is set and the cache is to be served. It is made, and changed, while the server answers; while that does not, it stays
as it is, since what is on nodes is there without a server. Nothing waits for its Pods: they hold nothing of a cache."""

from __future__ import annotations

from dataclasses import replace

from imagecache_operator import names
from imagecache_operator.api.conditions import WITH_SERVER
from imagecache_operator.api.conditions import ConditionReason as Because
from imagecache_operator.api.warming import WarmNodes, WarmNodesStatus
from imagecache_operator.planning import pull_secrets
from imagecache_operator.planning.children import warmer, warmer_credentials
from imagecache_operator.planning.children.applied import version
from imagecache_operator.planning.decision import Decision, Manifest, ObjectRef
from imagecache_operator.planning.injection import reference
from imagecache_operator.planning.observed import Warmer
from imagecache_operator.planning.offers import cached_image
from imagecache_operator.planning.serving import rule_of
from imagecache_operator.planning.view import View
from imagecache_operator.planning.wording import counted

_BEGUN = "The nodes begin to pull"


def with_warmer(view: View, decision: Decision) -> Decision:
    """The decision, which says already whether the cache is served, with what is to be done and told of warm nodes."""
    seen, spec = view.observed.warmer, view.observed.cache.spec
    nodes = spec.warm_nodes if spec else None
    if nodes is None or decision.served not in WITH_SERVER:
        return replace(
            decision, delete=(*view.warmer, *decision.delete),
            warmed=None if nodes is None else Because.NOT_SERVED,
            warmed_message="Nodes are warmed from a cache that is served, which this one is not",
        )
    if decision.served is Because.SERVING and all(s.version is not None for s in view.observed.pull_secrets):
        credentials = _credentials(view, decision)
        wanted = _wanted(view, decision, nodes, credentials)
        decision = replace(
            decision, warm=_missing(view, credentials), delete=(*_surplus(view, credentials), *decision.delete),
        )
        if seen is None or not (seen.version == version(wanted) or seen.deleting):
            return replace(
                decision, warm=(*decision.warm, wanted), warm_nodes=_status(replace(seen, warm=0)) if seen else None,
                warmed=Because.WARMING, warmed_message=_BEGUN,
            )
    if seen is None or seen.deleting:
        words = f"Waiting until DaemonSet {seen.name} is removed" if seen else "Begins when the server answers"
        return replace(decision, warmed=Because.WARMING, warmed_message=words)
    all_warm = bool(seen.wanted) and seen.warm == seen.wanted
    return replace(
        decision, warm_nodes=_status(seen), warmed=Because.NODES_WARM if all_warm else Because.WARMING,
        warmed_message=_words(seen),
    )


def _credentials(view: View, decision: Decision) -> tuple[Manifest, ...]:
    """The Secrets for what was pulled with a Secret, as far as that one can be used now."""
    used = {image.pull_secret for image in decision.images or ()}
    cache, images, home, namespace = (
        view.observed.cache, view.spec.images, view.observed.home_uid, view.settings.namespace,
    )
    return tuple(
        warmer_credentials.manifest(cache, secret, pull_secrets.needed(images, [secret]), home, namespace)
        for secret in view.observed.pull_secrets if secret.reference in used and secret.credentials
    )


def _missing(view: View, credentials: tuple[Manifest, ...]) -> tuple[Manifest, ...]:
    there = {(secret.name, secret.version) for secret in view.observed.warmer_secrets}
    return tuple(made for made in credentials if (made["metadata"]["name"], version(made)) not in there)


def _surplus(view: View, credentials: tuple[Manifest, ...]) -> tuple[ObjectRef, ...]:
    wanted = {made["metadata"]["name"] for made in credentials}
    return tuple(ObjectRef("Secret", s.name) for s in view.observed.warmer_secrets if s.name not in wanted)


def _wanted(view: View, decision: Decision, nodes: WarmNodes, credentials: tuple[Manifest, ...]) -> Manifest:
    if decision.server is None:
        raise AssertionError("a cache that is served has a server")
    address = decision.server.address
    taken = {image.reference: cached_image(image) for image in decision.images or ()}
    images = {
        image: reference(address, found) if (found := taken.get(image)) else None for image in view.spec.images
    }
    secrets = [names.ACCESS_SECRET] if rule_of(view, decision).has_password else []
    secrets += [made["metadata"]["name"] for made in credentials]
    return warmer.manifest(view.observed.cache, nodes, images, view.observed.home_uid, view.settings, secrets)


def _status(seen: Warmer) -> WarmNodesStatus | None:
    if seen.wanted is None:
        return None
    return WarmNodesStatus(
        name=seen.name, warm=seen.warm, wanted=seen.wanted, summary=f"{seen.warm}/{seen.wanted}",
    )


def _words(seen: Warmer) -> str:
    if seen.wanted is None:
        return _BEGUN
    if not seen.wanted:
        return "There is no node that spec.warmNodes speaks of"
    return f"{seen.warm} of {counted(seen.wanted, 'node')} {'holds' if seen.warm == 1 else 'hold'} every image"
