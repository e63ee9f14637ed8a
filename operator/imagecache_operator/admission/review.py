# SPDX-License-Identifier: Apache-2.0
"""From the bytes of an AdmissionReview to those of its answer. No I/O; `server.py` calls it for each request.

A Pod is never refused: what cannot be understood starts as it would without caches. Only what is no AdmissionReview at
all has no answer, since there is nobody to answer.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from imagecache_operator.api.pod import Pod
from imagecache_operator.api.text import printable
from imagecache_operator.planning.injection import Injection, inject
from imagecache_operator.planning.matching import match
from imagecache_operator.planning.observed import Namespace
from imagecache_operator.planning.offers import Offer

API_VERSION = "admission.k8s.io/v1"


class UnreadableReview(ValueError):
    """The body is no AdmissionReview; the text is a sentence for a person."""


class _GroupVersionKind(BaseModel):
    kind: str


class _Request(BaseModel):
    uid: str = Field(min_length=1, max_length=200)
    kind: _GroupVersionKind
    operation: str
    namespace: str = ""
    object: Any = None


class _Review(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    api_version: Literal["admission.k8s.io/v1"] = Field(alias="apiVersion")
    kind: Literal["AdmissionReview"]
    request: _Request


def answer(
    body: bytes, offers: Sequence[Offer] | None, namespace: Callable[[str], Namespace], auto: bool,
) -> tuple[dict[str, Any], str, Injection]:
    """The answer, one line for the log, and what was decided. `offers` is None while caches or namespaces are not
    known; `namespace` finds one by its name; `auto` as for `match`.

    Raises UnreadableReview, and nothing else.
    """
    request = _parse(body)
    injection, who = _decide(request, offers, namespace, auto)
    response: dict[str, Any] = {"uid": request.uid, "allowed": True}
    if injection.patch:
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(json.dumps(injection.patch).encode()).decode()
    if injection.warning:
        response["warnings"] = [injection.warning]
    review = {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
    return review, f"{printable(request.namespace)}/{who}: {injection.words}", injection


def _parse(body: bytes) -> _Request:
    try:
        return _Review.model_validate(json.loads(body)).request
    except ValidationError as error:
        raise UnreadableReview(f"This is no AdmissionReview of {API_VERSION}: {_first(error)}.") from None
    except (ValueError, RecursionError):
        raise UnreadableReview("The body is not JSON.") from None


def _decide(
    request: _Request, offers: Sequence[Offer] | None, namespace: Callable[[str], Namespace], auto: bool,
) -> tuple[Injection, str]:
    """What is done, and to whom."""
    if request.kind.kind != "Pod" or request.operation != "CREATE":
        return Injection((), "left alone: only new Pods can be changed"), "-"
    try:
        pod = Pod.model_validate(request.object)
    except ValidationError as error:
        return Injection((), f"left alone: the Pod cannot be read ({_first(error)})"), "-"
    # Pods of a workload have no name yet, only the beginning of it.
    who = printable(pod.metadata.name or f"{pod.metadata.generate_name or ''}*")
    if offers is None:
        return Injection((), "left alone: caches and namespaces are not known yet"), who
    return inject(pod, match(pod, offers, namespace(request.namespace), auto)), who


def _first(error: ValidationError) -> str:
    """The first mistake: where, and what. Not the value, which may be anything."""
    mistake = error.errors(include_input=False, include_url=False)[0]
    return printable(f"{'.'.join(map(str, mistake['loc'])) or 'the whole'}: {mistake['msg']}", 200)
