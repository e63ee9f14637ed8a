# SPDX-License-Identifier: Apache-2.0
"""A second opinion on specs, written by hand from docs/reference/imagecache.md: no pattern, no model, no schema.

`test_spec_documents.py` holds the API server against it, `tests/unit/test_spec_properties.py` the models. Where the
two of them would agree on the same mistake, because one is made from the other, this one does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
LETTERS = LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
HEX = frozenset("0123456789abcdef")
DEFAULTS = {
    "imageCacheSize": 20, "retentionDays": 0, "storedAs": "Decompressed", "onExpiry": "Delete", "serve": True,
}
# What is known, within each other; what stands below "[]" are the fields of a list's entries.
FIELDS: dict[str, Any] = {
    **dict.fromkeys((*DEFAULTS, "images", "storageClassName")),
    "buildingConfig": dict.fromkeys(("cluster", "imagePullSecrets")),
    "allowedNamespaces": {"names": None, "selector": {
        "matchLabels": None, "matchExpressions": {"[]": dict.fromkeys(("key", "operator", "values"))},
    }},
    "warmNodes": {"nodeSelector": None, "tolerations": {"[]": dict.fromkeys(("key", "operator", "value", "effect"))}},
}


def faults(spec: Any) -> set[str]:
    """Where the spec breaks a rule: the paths of fields, "" for the spec itself. Empty: it is a good one.

    Unknown fields do not matter. null is absence, but not where there is a default: the API server puts that in its
    place, so that no operator sees such a null.
    """
    return set(_faults(spec))


def as_stored(spec: Any) -> dict[str, Any]:
    """A good spec as it is read back: with the defaults, without null and unknown fields."""
    return {**DEFAULTS, **_without_null(known(spec))}


def is_name(name: Any) -> bool:
    """Whether an ImageCache may be called so."""
    return isinstance(name, str) and len(name) <= 128 and name[:1].isalpha() and _is_label(name)


def known(value: Any, fields: Any = FIELDS) -> Any:
    """Any spec without unknown fields."""
    if isinstance(value, list) and isinstance(fields, dict) and "[]" in fields:
        return [known(entry, fields["[]"]) for entry in value]
    if isinstance(value, dict) and isinstance(fields, dict) and "[]" not in fields:
        return {name: known(inner, fields[name]) for name, inner in value.items() if name in fields}
    return value


def _without_null(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_null(entry) for entry in value]
    if isinstance(value, dict):
        return {name: _without_null(inner) for name, inner in value.items() if inner is not None}
    return value


def _faults(spec: Any) -> Iterator[str]:
    if not isinstance(spec, dict):
        # Nothing at all counts as a spec without fields.
        yield from ("", "images")
        return
    yield from _list_faults("images", spec.get("images"), range(1, 21), is_reference)
    for field, low, high in (("imageCacheSize", 20, 400), ("retentionDays", 0, 10000)):
        if field in spec and not _is_whole(spec[field], low, high):
            yield field
    for field, words in (("storedAs", ("Decompressed", "Original", "Zstd")), ("onExpiry", ("Delete", "Release"))):
        if field in spec and spec[field] not in words:
            yield field
    if "serve" in spec and not isinstance(spec["serve"], bool):
        yield "serve"
    if not _is_text(spec.get("storageClassName", "any"), 253, or_nothing=True):
        yield "storageClassName"
    building = spec.get("buildingConfig")
    if isinstance(building, dict):
        if building.get("cluster") is not None and not _is_uid(building["cluster"]):
            yield "buildingConfig.cluster"
        if building.get("imagePullSecrets") is not None:
            yield from _list_faults(
                "buildingConfig.imagePullSecrets", building["imagePullSecrets"], range(21), is_pull_secret,
            )
    elif building is not None:
        yield "buildingConfig"
    yield from _namespaces_faults(spec.get("allowedNamespaces"))
    yield from _warm_faults(spec.get("warmNodes"))


def _namespaces_faults(allowed: Any) -> Iterator[str]:
    path = "allowedNamespaces"
    if not isinstance(allowed, dict):
        yield from [] if allowed is None else [path]
        return
    if allowed.get("names") is None and allowed.get("selector") is None:
        yield path
    if allowed.get("names") is not None:
        yield from _list_faults(f"{path}.names", allowed["names"], range(1, 101), _is_namespace)
    selector, path = allowed.get("selector"), "allowedNamespaces.selector"
    if not isinstance(selector, dict):
        yield from [] if selector is None else [path]
        return
    yield from _label_faults(f"{path}.matchLabels", selector.get("matchLabels"))
    requirements, path = selector.get("matchExpressions"), f"{path}.matchExpressions"
    if not isinstance(requirements, list):
        yield from [] if requirements is None else [path]
        return
    if len(requirements) > 20:
        yield path
    for place, requirement in enumerate(requirements):
        yield from _requirement_faults(f"{path}.{place}", requirement)


def _requirement_faults(path: str, requirement: Any) -> Iterator[str]:
    if not isinstance(requirement, dict):
        yield path
        return
    if not _is_text(requirement.get("key"), 317):
        yield f"{path}.key"
    operator, values = requirement.get("operator"), requirement.get("values")
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
        yield f"{path}.operator"
    if isinstance(values, list):
        if len(values) > 50:
            yield f"{path}.values"
        for place, value in enumerate(values):
            if not _is_text(value, 63, shortest=0):
                yield f"{path}.values.{place}"
    elif values is not None:
        yield f"{path}.values"
    if (operator in ("In", "NotIn")) != (values not in (None, [])):
        yield path


def _label_faults(path: str, labels: Any) -> Iterator[str]:
    if isinstance(labels, dict):
        said = {key: value for key, value in labels.items() if value is not None}
        if len(said) > 20 or not all(_is_text(value, 63, shortest=0) for value in said.values()):
            yield path
    elif labels is not None:
        yield path


def _warm_faults(nodes: Any) -> Iterator[str]:
    if not isinstance(nodes, dict):
        yield from [] if nodes is None else ["warmNodes"]
        return
    yield from _label_faults("warmNodes.nodeSelector", nodes.get("nodeSelector"))
    path, tolerations = "warmNodes.tolerations", nodes.get("tolerations")
    if isinstance(tolerations, list):
        if len(tolerations) > 20:
            yield path
        for place, toleration in enumerate(tolerations):
            yield from _toleration_faults(f"{path}.{place}", toleration)
    elif tolerations is not None:
        yield path


def _toleration_faults(path: str, toleration: Any) -> Iterator[str]:
    if not isinstance(toleration, dict):
        yield path
        return
    said = {name: value for name, value in toleration.items() if value is not None}
    if "key" in said and not _is_text(said["key"], 317):
        yield f"{path}.key"
    if "value" in said and not _is_text(said["value"], 63, shortest=0):
        yield f"{path}.value"
    for field, words in (
        ("operator", ("Exists", "Equal")), ("effect", ("NoSchedule", "PreferNoSchedule", "NoExecute")),
    ):
        if field in said and said[field] not in words:
            yield f"{path}.{field}"
    exists = said.get("operator") == "Exists"
    if ("key" not in said and not exists) or (exists and said.get("value", "") != ""):
        yield path


def _list_faults(path: str, entries: Any, lengths: range, is_right: Any) -> Iterator[str]:
    if not isinstance(entries, list):
        yield path
        return
    if len(entries) not in lengths or any(entry in entries[:place] for place, entry in enumerate(entries)):
        yield path
    yield from (f"{path}.{place}" for place, entry in enumerate(entries) if not is_right(entry))


def is_reference(text: Any) -> bool:
    """[host[:port]/]path[:tag][@sha256:…] of at most 512 characters. Numbers of ports and lengths of paths are the
    builder's to judge."""
    if not _is_text(text, 512):
        return False
    named, at, digest = text.partition("@")
    if at and not (digest.startswith("sha256:") and len(digest) == 71 and HEX.issuperset(digest[7:])):
        return False
    *folders, last = named.split("/")
    last, colon, tag = last.partition(":")
    if colon and not (1 <= len(tag) <= 128 and tag[0] not in ".-" and (LETTERS | set("_.-")).issuperset(tag)):
        return False
    if folders and (folders[0] == "localhost" or any(mark in folders[0] for mark in ".:")):
        host, *folders = folders
        if not _is_host(host):
            return False
    return all(_is_component(part) for part in (*folders, last))


def _is_host(host: str) -> bool:
    name, colon, port = host, "", ""
    if not host.endswith("]") and ":" in host:
        name, colon, port = host.rpartition(":")
    if colon and not (1 <= len(port) <= 5 and frozenset("0123456789").issuperset(port)):
        return False
    if name.startswith("["):
        address = name[1:-1]
        return name.endswith("]") and address != "" and (HEX | set("ABCDEF:")).issuperset(address)
    return all(part and LETTERS.issuperset(part.replace("-", "a")) and part[0] != "-" and part[-1] != "-"
               for part in name.split("."))


def _is_component(part: str) -> bool:
    """Runs of lower-case letters and digits, with one of . _ __ or any number of dashes between them."""
    runs = ["".join(run) for _, run in groupby(part, lambda character: character in LOWER)]
    if not runs or runs[0][0] not in LOWER or runs[-1][0] not in LOWER:
        return False
    return all(run in (".", "_", "__") or not run.strip("-") for run in runs[1::2])


def is_pull_secret(text: Any) -> bool:
    """namespace:secretName, the one a DNS label, the other of letters, digits, dots and dashes."""
    if not _is_text(text, 317) or text.count(":") != 1:
        return False
    namespace, name = text.split(":")
    return _is_namespace(namespace) and len(name) <= 253 and _is_label(name, ".-")


def _is_namespace(text: Any) -> bool:
    return _is_text(text, 63) and _is_label(text)


def _is_label(text: str, marks: str = "-") -> bool:
    return text != "" and text[0] in LOWER and text[-1] in LOWER and (LOWER | set(marks)).issuperset(text)


def _is_uid(text: Any) -> bool:
    groups = text.split("-") if isinstance(text, str) else []
    return [len(group) for group in groups] == [8, 4, 4, 4, 12] and HEX.issuperset("".join(groups))


def _is_text(text: Any, longest: int, or_nothing: bool = False, shortest: int = 1) -> bool:
    return (text is None and or_nothing) or (isinstance(text, str) and shortest <= len(text) <= longest)


def _is_whole(value: Any, low: int, high: int) -> bool:
    """Whether it is a whole number of that range. 25.0 is one in JSON; true is none, though Python thinks so."""
    return type(value) in (int, float) and value == int(value) and low <= value <= high
