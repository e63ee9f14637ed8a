# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinition, made from the models, so that the API server and the operator agree on every rule.

`imagecache_operator crds` prints it; `make generate` writes it to `crds/`, and a test fails when the committed
file differs. The API server wants a *structural* schema: no references, no unions, no titles.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from imagecache_operator import names
from imagecache_operator.api.imagecache import MAX_NAME_LENGTH, NAME_PATTERN, Spec, Status

_COLUMNS = (
    # name, type, path, priority (0 = always shown, 1 = with `-o wide`)
    ("Phase", "string", ".status.phase", 0),
    ("Images", "integer", ".status.imageCount", 0),
    ("Size", "string", ".status.size", 0),
    ("Progress", "string", ".status.progress", 0),
    ("Expires", "string", ".status.expiresAt", 0),
    ("Age", "date", ".metadata.creationTimestamp", 0),
    ("Cluster", "string", ".spec.buildingConfig.cluster", 1),
    ("StoredAs", "string", ".spec.storedAs", 1),
    ("Served", "boolean", ".status.server.ready", 1),
    ("Warm", "string", ".status.warmNodes.summary", 1),
    ("Message", "string", ".status.message", 1),
)


def custom_resource_definition() -> dict[str, Any]:
    """The whole manifest, ready for `kubectl apply`."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Cluster",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
            },
            "versions": [{
                "name": names.VERSION,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "additionalPrinterColumns": [
                    {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}
                    for name, kind, path, priority in _COLUMNS
                ],
                "schema": {"openAPIV3Schema": _root_schema()},
            }],
        },
    }


def _root_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "ImageCache keeps a list of images, pulled once and verified, on a volume of the cluster.",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": structural(Spec),
            "status": structural(Status),
        },
        "x-kubernetes-validations": [{
            "rule": f"self.metadata.name.matches('{NAME_PATTERN}')",
            "message": f"metadata.name must be 1 to {MAX_NAME_LENGTH} characters: lower-case letters, digits and "
            "'-', starting with a letter and not ending in '-'",
        }],
    }


def structural(model: type[BaseModel]) -> dict[str, Any]:
    """The model's JSON schema without references, titles and null unions.

    Raises ValueError for a union of real types: the API server could not check it.
    """
    schema = model.model_json_schema(by_alias=True)
    return _resolved(schema, schema.get("$defs", {}))


def _resolved(node: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in node:
        name = node["$ref"].rsplit("/", 1)[1]
        # What stands beside the reference (a field's own description) wins over the referenced model's.
        return _resolved({**definitions[name], **{k: v for k, v in node.items() if k != "$ref"}}, definitions)
    if "anyOf" in node:
        real = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
        if len(real) != 1:
            raise ValueError(f"a union of types has no structural schema: {node}")
        return _resolved({**real[0], **{k: v for k, v in node.items() if k != "anyOf"}}, definitions)
    out: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("title", "$defs") or (key == "default" and value in (None, [], ())):
            continue
        if key == "properties":
            out[key] = {name: _resolved(child, definitions) for name, child in value.items()}
        elif key in ("items", "additionalProperties"):
            out[key] = _resolved(value, definitions)
        elif key == "description":
            out[key] = " ".join(str(value).split())
        else:
            out[key] = value
    return out
