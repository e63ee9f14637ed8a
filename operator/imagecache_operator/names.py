# SPDX-License-Identifier: Apache-2.0
"""Every name that leaves the process, in one place, so that nothing is spelled twice.

Everybody imports this module; it imports nobody. Names of children are derived from UIDs, never from the
ImageCache's own name: that one may be 128 characters long, and a name that was deleted and created again is
another cache. The readable name travels in an annotation.
"""

from __future__ import annotations

import hashlib

GROUP = "imagecache.dev"
VERSION = "v1alpha1"
KIND = "ImageCache"
PLURAL = "imagecaches"
SINGULAR = "imagecache"
SHORT_NAME = "imc"
API_VERSION = f"{GROUP}/{VERSION}"

NAMESPACE = "imagecache-system"
FINALIZER = f"{GROUP}/cleanup"
FIELD_MANAGER = "imagecache-operator"
PROGRAM = "imagecache-operator"

# Labels: what the operator selects its children by. Values are UIDs, hashes and small words, never user text.
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_COMPONENT = f"{GROUP}/component"
LABEL_HOME = f"{GROUP}/home-cluster"
LABEL_CACHE = f"{GROUP}/cache-uid"
LABEL_GENERATION = f"{GROUP}/generation"
LABEL_ATTEMPT = f"{GROUP}/attempt"

COMPONENT_BUILDER = "builder"
COMPONENT_VOLUME = "volume"
COMPONENT_CREDENTIALS = "credentials"
COMPONENT_SERVER = "server"
COMPONENT_WARMER = "warmer"
COMPONENT_WARMER_CREDENTIALS = "warmer-credentials"
COMPONENT_ACCESS = "access"
COMPONENT_CANARY = "canary"

# Annotations: the cache's full name on its children; a person's wish to try again on the cache.
ANNOTATION_CACHE_NAME = f"{GROUP}/cache-name"
ANNOTATION_RETRY = f"{GROUP}/retry"

# On a copy of credentials: of which Secret, and of which version of it.
ANNOTATION_SOURCE = f"{GROUP}/source"

# What an applied child was made from, so that it is applied again only when something else is wanted.
ANNOTATION_MANIFEST = f"{GROUP}/manifest"

# On Secrets with logins: for which ones they were made. On a server's Pod: which ones its file has; a change makes its
# node look at the Pod's Secrets at once.
ANNOTATION_LOGINS = f"{GROUP}/logins"

# Written by users: on a Pod the cache to start from (a name, "auto" or "none"; the second key is another product's), on
# a namespace "auto". Written by the webhook: the cache that it injected, by name and (as a label) by UID, or a label
# and the reason why it did not.
ANNOTATION_CACHE = f"{GROUP}/cache"
ANNOTATION_CACHE_ALIAS = "imagecache.cce.io/specified-name"
LABEL_INJECT = f"{GROUP}/inject"
AUTO = "auto"
NONE = "none"
ANNOTATION_INJECTED = f"{GROUP}/injected"
LABEL_INJECTED_FROM = f"{GROUP}/injected-from"  # a name of up to 128 characters is no label's value
LABEL_NOT_INJECTED = f"{GROUP}/not-injected"
ANNOTATION_NOT_INJECTED = f"{GROUP}/not-injected-because"

# On a Pod that tries a server: at which address, and for which pool of nodes.
ANNOTATION_CANARY_ADDRESS = f"{GROUP}/canary-address"
ANNOTATION_CANARY_POOL = f"{GROUP}/canary-pool"
# Written by users on a node, with "none": no canary is tried there.
LABEL_CANARY = f"{GROUP}/canary"

# The webhook: its Deployment, Service and account (deploy/base/webhook.yaml), its certificate, its registration.
WEBHOOK = "imagecache-webhook"
WEBHOOK_SECRET = "imagecache-webhook-tls"  # noqa: S105 - a name
WEBHOOK_CONFIGURATION = "imagecache-injection"
WEBHOOK_PODS = f"pods.{GROUP}"
WEBHOOK_AUTO = f"auto.{GROUP}"
WEBHOOK_PODS_PATH = "/mutate"
WEBHOOK_AUTO_PATH = "/mutate/auto"

# The Secret by which Pods of a namespace log in to the caches that are for it. One name everywhere: so the operator's
# right to write Secrets into other people's namespaces can be for this name alone.
ACCESS_SECRET = "imagecache-access"  # noqa: S105 - a name
# What all passwords are derived from; in the operator's namespace.
ACCESS_KEY_SECRET = "imagecache-access-key"  # noqa: S105 - a name

BUILDER_CONTAINER = "builder"
VOLUME_PATH = "/cache"

# The environment of a builder Pod: the operator's side writes these, the builder's side reads them.
ENV_JOB = "IMAGECACHE_JOB"
ENV_CA_FILE = "IMAGECACHE_CA_FILE"
ENV_CREDENTIALS_FILE = "IMAGECACHE_CREDENTIALS_FILE"
CREDENTIALS_KEY = "credentials.json"  # of an attempt's Secret
CREDENTIALS_TYPE = f"{GROUP}/credentials"


def managed_selector(home_uid: str) -> str:
    """The label selector that finds every child of this home cluster's caches."""
    return f"{LABEL_MANAGED_BY}={PROGRAM},{LABEL_HOME}={home_uid}"


def child_selector(home_uid: str, component: str = "", cache_uid: str = "") -> str:
    """The same of one kind of child, or of one cache, or of both."""
    more = ((LABEL_CACHE, cache_uid), (LABEL_COMPONENT, component))
    return ",".join([managed_selector(home_uid), *(f"{label}={value}" for label, value in more if value)])


def child_labels(component: str, home_uid: str, cache_uid: str) -> dict[str, str]:
    """Labels that every child carries, whatever its kind."""
    return {
        LABEL_MANAGED_BY: PROGRAM,
        LABEL_COMPONENT: component,
        LABEL_HOME: home_uid,
        LABEL_CACHE: cache_uid,
    }


def volume_name(home_uid: str, cache_uid: str) -> str:
    """Name of the cache's PersistentVolumeClaim."""
    return f"imc-{_digest(home_uid, cache_uid)}"


def builder_name(home_uid: str, cache_uid: str, generation: int, attempt: int) -> str:
    """Name of one attempt's builder Pod and of its Secret. The number is readable; the hash makes it unique."""
    return f"imc-{_digest(home_uid, cache_uid, str(generation), str(attempt))}-builder-{attempt}"


def server_name(home_uid: str, cache_uid: str) -> str:
    """Name of the Deployment, the Service and the Ingress that serve a cache's volume."""
    return f"imc-{_digest(home_uid, cache_uid)}-server"


def canary_name(home_uid: str, cache_uid: str, address: str, node: str) -> str:
    """Name of the Pod that tries a cache's server at an address on a node."""
    return f"imc-{_digest(home_uid, cache_uid, address, node)}-canary"


def warmer_name(home_uid: str, cache_uid: str) -> str:
    """Name of the DaemonSet that keeps a cache's images on nodes."""
    return f"imc-{_digest(home_uid, cache_uid)}-warmer"


def warmer_secret_name(home_uid: str, cache_uid: str, source: str) -> str:
    """Name of the Secret by which a warmer pulls what a user's pull Secret (`source`) is for."""
    return f"imc-{_digest(home_uid, cache_uid, source)}-warmer"


def _digest(*parts: str) -> str:
    # 16 hex digits: 64 bits, so that a chance meeting of two children is out of reach at any real number of caches.
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
