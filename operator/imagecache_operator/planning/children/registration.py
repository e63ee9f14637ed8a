# SPDX-License-Identifier: Apache-2.0
"""The MutatingWebhookConfiguration: which Pods the API server shows to the webhook, and how patient it is with it.

Applied by server-side apply (`planning/webhook.py` says when), so that nothing is registered before somebody answers.
"""

from __future__ import annotations

import base64
from typing import Any

from imagecache_operator import names

Object = dict[str, Any]

# CEL. A Pod without annotations has no such field, and `has` is the only way to ask for it. Where both keys are there,
# ours decides; so "none" is none.
_ANNOTATIONS = "object.metadata.annotations"
_SAYS = (
    f"has({_ANNOTATIONS}) && "
    f"('{names.ANNOTATION_CACHE}' in {_ANNOTATIONS} || '{names.ANNOTATION_CACHE_ALIAS}' in {_ANNOTATIONS})"
)
_ASKS = (
    f"has({_ANNOTATIONS}) && ('{names.ANNOTATION_CACHE}' in {_ANNOTATIONS} "
    f"? {_ANNOTATIONS}['{names.ANNOTATION_CACHE}'] != '{names.NONE}' "
    f": '{names.ANNOTATION_CACHE_ALIAS}' in {_ANNOTATIONS})"
)


def manifest(namespace: str, namespace_uid: str, bundle: str) -> Object:
    """The MutatingWebhookConfiguration. The operator's namespace owns it, and takes it along when it is deleted.

    Everything is said, defaults too, so that it can be compared with what the API server has.
    """
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "MutatingWebhookConfiguration",
        "metadata": {
            "name": names.WEBHOOK_CONFIGURATION,
            "labels": {names.LABEL_MANAGED_BY: names.PROGRAM},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": namespace_uid},
            ],
        },
        "webhooks": [
            _webhook(names.WEBHOOK_PODS, names.WEBHOOK_PODS_PATH, namespace, bundle, [], "asks-for-a-cache", _ASKS),
            _webhook(names.WEBHOOK_AUTO, names.WEBHOOK_AUTO_PATH, namespace, bundle, [
                {"key": names.LABEL_INJECT, "operator": "In", "values": [names.AUTO]},
            ], "does-not-say-itself", f"!({_SAYS})"),
        ],
    }


def _webhook(
    name: str, path: str, namespace: str, bundle: str, selects: list[Object], condition: str, expression: str,
) -> Object:
    # Never our own Pods (the webhook would wait for itself) and never what the cluster itself needs to start.
    elsewhere = {
        "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": sorted({namespace, "kube-system"}),
    }
    return {
        "name": name,
        "clientConfig": {
            "service": {"name": names.WEBHOOK, "namespace": namespace, "path": path, "port": 443},
            "caBundle": base64.b64encode(bundle.encode()).decode(),
        },
        "rules": [{
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"],
            "scope": "Namespaced",
        }],
        "namespaceSelector": {"matchExpressions": [*selects, elsewhere]},
        "objectSelector": {},
        "matchConditions": [{"name": condition, "expression": expression}],
        "matchPolicy": "Equivalent",
        # A Pod starts without a cache rather than not at all, and no later than this.
        "failurePolicy": "Ignore",
        "timeoutSeconds": 2,
        "reinvocationPolicy": "IfNeeded",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
