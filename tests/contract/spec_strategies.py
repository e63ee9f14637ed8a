# SPDX-License-Identifier: Apache-2.0
"""Spec documents as users, templates and attackers write them: right, nearly right, and wrong at any place.

`test_spec_documents.py` asks an API server about them, `tests/unit/test_spec_properties.py` the models: what both draw
from is the same, DOCUMENTS, NAMES and for each field by itself `nearly`.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from .spec_anything import JSON, TEXTS, with_odd_character
from .spec_labels import (
    ALLOWED,
    LABEL_VALUES,
    LABELS,
    NAMESPACE_LISTS,
    NAMESPACES,
    REQUIREMENT_LISTS,
    REQUIREMENTS,
    SELECTORS,
    TOLERATION_LISTS,
    TOLERATIONS,
    WARM,
)

DIGEST = "sha256:" + "a1" * 32
UID = "8b3b4b2d-1111-4222-8333-444455556666"
ABSENT = object()

Path = tuple[str | int, ...]


def _reference(hosts: list[str], paths: list[str], tags: list[str], digests: list[str]) -> st.SearchStrategy[str]:
    return st.tuples(*map(st.sampled_from, (hosts, paths, tags, digests))).map("".join)


_HOSTS = [
    "", "", "docker.io/", "index.docker.io/", "localhost/", "localhost:5000/", "reg.example/", "REG.Example:443/",
    "registry:80/", "a:0/", "a:1/", "a:65535/", "a:65536/", "a:99999/", "a:00080/", "[::1]/", "[FE80::1]:5000/",
    "10.0.0.1:5000/", "xn--bcher-kva.example/", "a--b.c/", "1.2/",
]
_PATHS = [
    "busybox", "library/busybox", "a/b/c", "a__b", "a---b/c", "a.b", "a/b.c", "0", "f0" * 32, "a" * 255, "sha256",
]
_TAGS = ["", "", ":latest", ":1.36", ":5000", ":_", ":V1", f":{'t' * 128}", f":sha256-{'a1' * 32}"]
_DIGESTS = ["", "", f"@{DIGEST}"]

_BROKEN_HOSTS = [
    "a:100000/", "a:/", "a.b:/", ":80/", "a:b/", "a:-1/", "a:+1/", "-a.b/", "a-.b/", "a..b/", ".a/", "a./", "a_b.c/",
    "UPPER/", "Localhost/", "[]/", "[::1/", "::1/", "[::g]/", "[::1]5000/", "[::1]:/", "https://reg.example/",
    "a:\uff18\uff10/", "a.b:\u0663/", "//", "/", "user@reg.example/", "reg.example//", "*.example/", "a.b:5000:5000/",
]
_BROKEN_PATHS = [
    "", "A", "a/B", "a___b", "a._b", "a..b", ".", "../a", "-a", "a-", "a//b", "a/", "/a", "a b", "a/-b", "_",
]
_BROKEN_TAGS = [":", "::", ":-", ":.1", ":a:b", ":a/b", f":{'t' * 129}", ":\u00e9", ":\uff11"]
_BROKEN_DIGESTS = [
    "@", "@@", "@sha256", "@sha256:", "@" + DIGEST[:-1], "@" + DIGEST + "0", "@" + DIGEST[:-1] + "\n", "@ " + DIGEST,
    "@SHA256:" + "a1" * 32, "@sha256:" + "A1" * 32, "@sha256:" + "g1" * 32, "@sha256-" + "a1" * 32,
    "@sha256:" + "a\uff11" * 32, "@sha512:" + "a" * 128, "@sha256:" + "a" * 128, "@md5:" + "a" * 32,
    f"@{DIGEST}@{DIGEST}", f"@{DIGEST}:1", f"@{DIGEST}\n",
]
GOOD_REFERENCES = _reference(_HOSTS, _PATHS, _TAGS, _DIGESTS)
_LENGTHS = st.integers(509, 515)
REFERENCES = st.one_of(
    GOOD_REFERENCES,
    _reference(_BROKEN_HOSTS, _PATHS, _TAGS, _DIGESTS), _reference(_HOSTS, _BROKEN_PATHS, _TAGS, _DIGESTS),
    _reference(_HOSTS, _PATHS, _BROKEN_TAGS, _DIGESTS), _reference(_HOSTS, _PATHS, _TAGS, _BROKEN_DIGESTS),
    _LENGTHS.map(lambda length: "reg.example/" + "a" * (length - 12)),
    _LENGTHS.map(lambda length: "reg.example/" + ("a/" * length)[:length - 13] + "a"),
    _LENGTHS.map(lambda length: "a" * (length - 72) + f"@{DIGEST}"), _LENGTHS.map(lambda length: "\u00e9" * length),
    st.sampled_from(["a" * 256, "reg.example/" + "a" * 256, "f0" * 32 + ":1", "F0" * 32, "\U0001f433" * 256]),
    with_odd_character(GOOD_REFERENCES), TEXTS,
)

_GOOD_SECRETS = st.sampled_from([
    "team-a:regcred", "a:b", "1:2", "a--b:c.d", "a:b..c", "a" * 63 + ":" + "b" * 253, "kube-system:a.b-c.d",
])
SECRETS = st.one_of(
    _GOOD_SECRETS, with_odd_character(_GOOD_SECRETS), TEXTS,
    st.sampled_from([
        "regcred", ":b", "a:", ":", "a:b:c", "a/b:c", "A:b", "a:B", "-a:b", "a-:b", "a:-b", "a:.b", "a:b.", "a.b:c",
        "a_b:c", "a:b_c", "a" * 64 + ":b", "a:" + "b" * 254, "a" * 63 + ":" + "b" * 254, "a" * 318,
    ]),
)

_GOOD_UIDS = st.sampled_from([UID, "0" * 8 + "-0000-0000-0000-" + "f" * 12])
UIDS = st.one_of(
    _GOOD_UIDS, with_odd_character(_GOOD_UIDS),
    st.sampled_from(["", UID.upper(), UID + "0", UID[:-1], UID.replace("-", ""), "{" + UID + "}", "g" + UID[1:]]),
)

CLASSES = TEXTS | st.builds(
    lambda text, length: text * length, st.sampled_from(["a", "\u00e9", "\U0001f433", "\0", "\n"]),
    st.sampled_from([1, 126, 127, 252, 253, 254, 255]),
)

NAMES = st.one_of(
    st.text("ab1-", max_size=6), TEXTS,
    st.sampled_from(["a" * 127 + "-", "a-" * 64, "A", "a.b", "a_b", "1a", "-a", "a-", "images", "\u0430"]),
    st.integers(126, 130).map(lambda length: "a" * length), with_odd_character(st.just("ml-images")),
)

_SAME_IMAGE = st.sampled_from([
    ["busybox", "docker.io/library/busybox:latest"], ["busybox", "index.docker.io/busybox", "busybox:latest"],
    ["REG.Example/a", "reg.example/a"], [f"a:1@{DIGEST}", f"a@{DIGEST}"],
])
_MANY = st.sampled_from([0, 1, 19, 20, 21, 40])
IMAGE_LISTS = st.one_of(
    st.lists(GOOD_REFERENCES, min_size=1, max_size=4, unique=True),
    _MANY.map(lambda count: [f"image-{number}" for number in range(count)]),
    GOOD_REFERENCES.map(lambda twice: [twice, "between", twice]), _SAME_IMAGE,
    st.lists(REFERENCES, max_size=3), st.lists(JSON, max_size=3), st.sampled_from([{"0": "busybox"}, "busybox"]),
)
SECRET_LISTS = st.one_of(
    st.lists(_GOOD_SECRETS, max_size=3, unique=True),
    _MANY.map(lambda count: [f"a:s{number}" for number in range(count)]), _GOOD_SECRETS.map(lambda twice: [twice] * 2),
    st.lists(SECRETS, max_size=3), st.sampled_from([{"a": "b"}, "a:b", [["a:b"]]]),
)
BUILDING = st.fixed_dictionaries({}, optional={
    "cluster": _GOOD_UIDS | st.none(), "imagePullSecrets": st.lists(_GOOD_SECRETS, max_size=3, unique=True) | st.none(),
})
GOOD = st.fixed_dictionaries(
    {"images": st.lists(GOOD_REFERENCES, min_size=1, max_size=3, unique=True)},
    optional={
        "imageCacheSize": st.sampled_from([20, 21, 25.0, 400]) | st.integers(20, 400),
        "retentionDays": st.sampled_from([0, 1, 1e3, -0.0, 10000]) | st.integers(0, 10000),
        "storedAs": st.sampled_from(["Decompressed", "Original", "Zstd"]),
        "onExpiry": st.sampled_from(["Delete", "Release"]),
        "serve": st.booleans(),
        "storageClassName": CLASSES.filter(lambda text: 1 <= len(text) <= 253) | st.none(),
        "buildingConfig": BUILDING | st.none(),
        "allowedNamespaces": ALLOWED | st.none(),
        "warmNodes": WARM | st.none(),
    },
)

_NUMBERS = st.sampled_from([
    "20", "0", "1", "25.0", "1e2", "\uff12\uff10", "true", "", True, False, 20.0, 4e2, -0.0, 20.5, 19.999999999999996,
    400.00000000000006, 5e-324, 1e22, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, [20], {"20": 20},
])
NEARLY: dict[Path, st.SearchStrategy[Any]] = {
    ("images",): IMAGE_LISTS,
    ("images", 0): REFERENCES,
    ("imageCacheSize",): st.integers(18, 22) | st.integers(398, 402) | _NUMBERS,
    ("retentionDays",): st.integers(-2, 2) | st.integers(9998, 10002) | _NUMBERS,
    ("storedAs",): st.sampled_from(["Original", "Gzip", "zstd", "", "Decompressed\n", "Decompressed ", ["Original"]]),
    ("onExpiry",): st.sampled_from(["Keep", "delete", "", "Delete\n", "Release\0", 0, {"Delete": None}]),
    ("serve",): st.booleans() | st.sampled_from(["true", "False", "yes", "", 0, 1, 1.0, [True], {"serve": True}]),
    ("storageClassName",): CLASSES,
    ("buildingConfig",): BUILDING | st.sampled_from([[], "", [{}], 0, True, {"cluster": {}}, {"imagePullSecrets": 0}]),
    ("buildingConfig", "cluster"): UIDS,
    ("buildingConfig", "imagePullSecrets"): SECRET_LISTS,
    ("buildingConfig", "imagePullSecrets", 0): SECRETS,
    ("allowedNamespaces",): ALLOWED | st.sampled_from([
        {}, [], "", "all", [{}], 0, True, {"names": []}, {"names": None}, {"names": None, "selector": None},
        {"selector": []}, {"names": ["a"], "selector": ""}, {"matchLabels": {}},
    ]),
    ("allowedNamespaces", "names"): NAMESPACE_LISTS,
    ("allowedNamespaces", "names", 0): NAMESPACES,
    ("allowedNamespaces", "selector"): SELECTORS | st.sampled_from([[], "", "tier=gold", 0, True, [{}], None]),
    ("allowedNamespaces", "selector", "matchLabels"): LABELS,
    ("allowedNamespaces", "selector", "matchExpressions"): REQUIREMENT_LISTS,
    ("allowedNamespaces", "selector", "matchExpressions", 0): REQUIREMENTS,
    ("allowedNamespaces", "selector", "matchExpressions", 0, "values"): LABEL_VALUES,
    ("warmNodes",): WARM | st.sampled_from([[], "", [{}], 0, True, {"nodeSelector": 0}, {"tolerations": {}}]),
    ("warmNodes", "nodeSelector"): LABELS,
    ("warmNodes", "tolerations"): TOLERATION_LISTS,
    ("warmNodes", "tolerations", 0): TOLERATIONS,
}
# What a newer version may know, and what nobody meant: slips of the pen, other cases, parts of other objects.
_UNKNOWN: list[Path] = [
    ("imageCacheSiz",), ("Images",), ("IMAGECACHESIZE",), ("images ",), ("",), ("metadata",), ("status",), ("\u2028",),
    ("buildingConfig", "imagePullSecret"), ("buildingConfig", "images"), ("buildingConfig", "\0"),
    ("allowedNamespaces", "name"), ("allowedNamespaces", "selector", "matchlabels"),
    ("allowedNamespaces", "selector", "matchExpressions", 0, "value"), ("warmNodes", "nodeselector"),
    ("warmNodes", "tolerations", 0, "tolerationSeconds"),
]
_CHANGES = st.one_of(
    st.sampled_from(list(NEARLY)).flatmap(lambda path: st.tuples(st.just(path), NEARLY[path])),
    st.tuples(st.sampled_from(list(NEARLY)), JSON),
    st.tuples(st.sampled_from(list(NEARLY)), st.sampled_from([None, ABSENT])),
    st.tuples(st.sampled_from(_UNKNOWN), JSON),
)


def _changed(spec: Any, path: Path, value: Any) -> Any:
    """A copy with another value at the path, or with nothing there. What leads there is made, if it was not there."""
    if not path:
        return value
    step, *rest = path
    if isinstance(step, int):
        entries = list(spec) if isinstance(spec, list) else []
        entries[step:step + 1] = [] if value is ABSENT else [value]
        return entries
    fields = dict(spec) if isinstance(spec, dict) else {}
    fields[step] = _changed(fields.get(step), tuple(rest), value)
    return {name: field for name, field in fields.items() if field is not ABSENT}


def _mutated(spec: Any, changes: list[tuple[Path, Any]]) -> Any:
    for path, value in changes:
        spec = _changed(spec, path, value)
    return spec


def nearly(path: Path) -> st.SearchStrategy[Any]:
    """Documents that are right, but perhaps not in one field."""
    return NEARLY[path].map(lambda value: _changed({"images": ["busybox"]}, path, value))


DOCUMENTS = st.one_of(GOOD, st.builds(_mutated, GOOD, st.lists(_CHANGES, min_size=1, max_size=3)), JSON)
