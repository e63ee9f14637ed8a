# SPDX-License-Identifier: Apache-2.0
"""The API server and the models agree on what a spec may say: else a cache would be taken and then not understood.

By a table of documents, by random ones, and where they differ on purpose by the list of DIFFERENCES.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from imagecache_operator.api.imagecache import MAX_NAME_LENGTH, NAME_PATTERN, Spec
from pydantic import ValidationError

from tests.cluster import Cluster

from . import spec_oracle as oracle
from .spec_server import Server, double_server
from .spec_strategies import DIGEST, DOCUMENTS, NAMES, NEARLY, UID, Path, nearly

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(cluster: Cluster) -> Iterator[Server]:
    with double_server(cluster) as found:
        yield found


def fits_the_model(spec: Any) -> bool:
    try:
        Spec.model_validate(spec)
    except ValidationError:
        return False
    return True


def images(*found: Any, **more: Any) -> dict[str, Any]:
    return {"images": list(found), **more}


def building(**fields: Any) -> dict[str, Any]:
    return images("busybox", buildingConfig=fields)


def warm(**fields: Any) -> dict[str, Any]:
    return images("busybox", warmNodes=fields)


def allowed(**fields: Any) -> dict[str, Any]:
    return images("busybox", allowedNamespaces=fields)


def asking(*requirements: Any) -> dict[str, Any]:
    return allowed(selector={"matchExpressions": list(requirements)})


def asks(operator: Any, *values: Any) -> dict[str, Any]:
    return {"key": "tier", "operator": operator, "values": list(values)}


# An empty selector admits all; null is absence, as long as something is left.
SELECTORS: list[Any] = [
    {}, {"matchLabels": None, "matchExpressions": None}, {"matchLabels": {"a": "b" * 63, "c": None}},
    {"matchLabels": {f"l{n}": "x" for n in range(20)}}, {"matchLabels": {}, "matchExpressions": []},
]
TAKEN: list[Any] = [
    *(images(i) for i in (
        "busybox", "busybox:1.36", f"busybox@{DIGEST}", f"reg.example:5000/a/b:1@{DIGEST}", "localhost/app",
        "registry:80/app", "[::1]:5000/app", "Registry.Example/app:V1", "reg.example/" + "a" * 500,
        "busybox:" + "t" * 128,
        # Left to the builder, whose image then fails in a sentence: ports, lengths of paths, image IDs.
        "a" * 64, "reg.example:0/app", "reg.example:99999/app",
    )),
    images(*(f"image-{n}" for n in range(20))),
    # Two spellings of one image: no rule of the server normalises, and the builder stores it once.
    images("busybox", "docker.io/library/busybox:latest"),
    *(images("busybox", imageCacheSize=s) for s in (20, 21, 400, 20.0, 4e2)),
    *(images("busybox", retentionDays=d) for d in (0, 1, 10000, -0.0, 1e3)),
    *(images("busybox", storedAs=s) for s in ("Decompressed", "Original", "Zstd")),
    *(images("busybox", onExpiry=e) for e in ("Delete", "Release")), images("busybox", storageClassName=None),
    images("busybox", buildingConfig=None), building(), building(cluster=UID), building(cluster=None),
    # Length is counted in characters: not in bytes of UTF-8, nor in the pairs of UTF-16.
    *(images("busybox", storageClassName=c * 253) for c in ("a", "\u00e9", "\U0001f433", "\0")),
    *(building(imagePullSecrets=s) for s in (
        None, [], ["team-a:regcred"], ["a:b", "c:d"], ["a" * 63 + ":" + "b" * 253], [f"a:s{n}" for n in range(20)],
    )),
    images("busybox", allowedNamespaces=None),
    *(allowed(names=n) for n in (["a"], ["team-a", "0"], ["a" * 63], [f"team-{n}" for n in range(100)])),
    *(allowed(selector=s) for s in SELECTORS),
    allowed(names=["a"], selector={}), allowed(names=None, selector={}), allowed(names=["a"], selector=None),
    asking(asks("In", "gold"), asks("NotIn", "", "gold"), {"key": "k" * 317, "operator": "Exists"}),
    asking(asks("Exists"), asks("DoesNotExist"), asks("In", "v" * 63), asks("In", "twice", "twice")),
    asking({"key": "tier", "operator": "Exists", "values": None}), asking(asks("In", *(f"v{n}" for n in range(50)))),
    asking(*(asks("Exists") for _ in range(20))),
    images("busybox", warmNodes=None), warm(), warm(nodeSelector=None, tolerations=None),
    *(warm(nodeSelector=s) for s in (
        {}, {"gpu": "true", "pool": ""}, {"a": None, "b": "c"}, {f"l{n}": "x" for n in range(20)}, {"a": "b" * 63},
    )),
    *(warm(tolerations=t) for t in (
        [], [{"operator": "Exists"}], [{"key": "gpu"}], [{"key": "gpu", "value": ""}] * 2,
        [{"key": "gpu", "operator": "Equal", "value": "true", "effect": "NoSchedule"}],
        [{"key": "k" * 317, "operator": "Exists", "value": "", "effect": "NoExecute"}],
        [{"operator": "Exists", "key": None, "value": None, "effect": None}],
        [{"key": "gpu", "value": "v" * 63, "effect": "PreferNoSchedule"}], [{"key": f"t{n}"} for n in range(20)],
    )),
]
NO_NAMES: list[Any] = [
    [], "team-a", {"team-a": ""}, [None], [1], [""], ["A"], ["a.b"], ["a_b"], ["-a"], ["a-"], ["*"], ["a" * 64],
    ["a\n"], ["a", "a"], [f"team-{n}" for n in range(101)],
]
NO_NAMESPACES: list[Any] = [
    "all", [], True, {}, {"names": None}, {"names": None, "selector": None}, {"matchLabels": {"a": "b"}},
    {"selector": "tier=gold"}, {"selector": []}, {"selector": {"matchLabels": []}},
    {"selector": {"matchExpressions": {}}},
]
NO_REQUIREMENTS: list[Any] = [
    None, "tier", [], {}, {"key": "tier"}, {"operator": "Exists"}, {"key": None, "operator": "Exists"},
    {"key": "", "operator": "Exists"}, {"key": "k" * 318, "operator": "Exists"}, {"key": "tier", "operator": "In"},
    {"key": "tier", "operator": "NotIn", "values": None}, {"key": "tier", "operator": "In", "values": "gold"},
    asks("In"), asks("NotIn"), asks("Exists", "gold"), asks("DoesNotExist", ""), asks("in", "gold"), asks("Gt", "1"),
    asks("Exists\n"), asks(None, "gold"), asks("In", None), asks("In", 1), asks("In", "v" * 64),
    asks("In", *(f"v{n}" for n in range(51))),
]
NO_NODES: list[Any] = ["all", [], True, [{}]]
NO_LABELS: list[Any] = [
    [], "gpu=true", {"gpu": True}, {"gpu": ["a"]}, {f"l{n}": "x" for n in range(21)}, {"a": "b" * 64},
]
NO_TOLERATIONS: list[Any] = [
    {}, "gpu", [None], ["gpu"], [{}], [{"value": "a"}], [{"operator": "Equal"}], [{"key": ""}],
    [{"key": "gpu", "operator": "Exists", "value": "a"}], [{"key": "gpu", "operator": "exists"}],
    [{"key": "gpu", "effect": ""}], [{"key": "k" * 318}], [{"key": "gpu", "value": "v" * 64}],
    [{"key": f"t{n}"} for n in range(21)],
]
REFUSED: list[Any] = [
    None, [], "busybox", 1, {}, {"images": None}, {"images": []}, {"images": "busybox"}, {"images": {}}, images(1),
    images(None), images("busybox", None), images(["busybox"]), images(""), images("busybox", "busybox"),
    *(images(i) for i in (
        "UPPER/case", "upper/Case", "https://reg.example/app", "reg.example/app:", "reg.example/app@sha256:short",
        " busybox", "a b", "reg.example//app", "-app", "app-", "a..b/c", "reg.example/" + "a" * 501, "\u00e9",
        "busybox:" + "t" * 129, f"busybox@sha512:{'a' * 128}", "reg.example:123456/app", f"busybox@{DIGEST.upper()}",
        # `$` also stands before a last newline in some dialects: in none that is in use here.
        "busybox\n", "busybox:1\n", f"busybox@{DIGEST}\n", "reg.example/app\r\n", "busybox\u2028", "busybox\0",
        # A digit is one of ten.
        "reg.example:\uff18\uff10/app", "busybox:\u0663",
    )),
    images(*(f"image-{n}" for n in range(21))),
    *(images("busybox", imageCacheSize=s) for s in (19, 401, 0, -1, 20.5, "20", True, 2**63, 1e22, [20])),
    images("busybox", retentionDays={}),
    *(images("busybox", retentionDays=d) for d in (10001, -1, 0.5, "0", "", False, True, -(2**63) - 1)),
    *(images("busybox", storedAs=s) for s in ("original", "decompressed", "Gzip", "", "Decompressed\n", 1)),
    *(images("busybox", onExpiry=e) for e in ("Keep", "", "Delete\n", ["Delete"])),
    *(images("busybox", storageClassName=c) for c in ("", "a" * 254, "\u00e9" * 254, "\U0001f433" * 254, 1, True)),
    *(building(cluster=c) for c in ("", UID.upper(), UID + "0", UID + "\n", UID[:-1] + "\n", 1)),
    *(building(imagePullSecrets=s) for s in (
        ["regcred"], [":b"], ["a:"], ["a:b:c"], ["A:b"], ["a/b:c"], ["a" * 64 + ":b"], ["a:" + "b" * 254], ["a:b\n"],
        [f"a:s{n}" for n in range(21)], "a:b", {"a": "b"}, [None], [1], ["a:b", "a:b"], ["a:b", "c:d", "a:b"],
    )),
    *(images("busybox", allowedNamespaces=a) for a in NO_NAMESPACES),
    *(allowed(names=n) for n in NO_NAMES), *(asking(r) for r in NO_REQUIREMENTS),
    *(allowed(selector={"matchLabels": s}) for s in NO_LABELS), asking(*(asks("Exists") for _ in range(21))),
    *(images("busybox", warmNodes=w) for w in NO_NODES), *(warm(nodeSelector=s) for s in NO_LABELS),
    *(warm(tolerations=t) for t in NO_TOLERATIONS),
    images("busybox", buildingConfig=[]), images("busybox", buildingConfig="here"),
]


def shown(value: Any) -> str:
    return json.dumps(value)[:70]


@pytest.mark.parametrize("spec", TAKEN, ids=shown)
def test_both_take_it(server: Server, spec: Any) -> None:
    answer = server.creation(spec)
    assert answer.taken, answer.refusal
    assert answer.spec == oracle.as_stored(spec)
    assert Spec.model_validate(spec).to_json_dict() == answer.spec


@pytest.mark.parametrize("spec", REFUSED, ids=shown)
def test_both_refuse_it(server: Server, spec: Any) -> None:
    assert not server.creation(spec).taken
    assert not fits_the_model(spec)


@dataclass(frozen=True)
class Difference:
    """Where one of the two is right to take what the other refuses: which documents, and what is left without it."""

    why: str
    server_takes: bool
    applies: Callable[[Any], bool]
    without: Callable[[Any], Any]
    examples: tuple[Any, ...]


def _said(spec: Any) -> Any:
    """The spec without null where there is a default."""
    if not isinstance(spec, dict):
        return spec
    return {name: value for name, value in spec.items() if value is not None or name not in oracle.DEFAULTS}


DIFFERENCES = (
    Difference(
        "an unknown field: strict validation catches slips of the pen, the model must bear what newer versions know",
        server_takes=False, applies=lambda spec: oracle.known(spec) != spec, without=oracle.known, examples=(
            images("busybox", imageCacheSiz=20), building(imagePullSecret=["a:b"]), images("busybox", Images=[]),
            images("busybox", image_cache_size=20), warm(nodeselector={}),
            warm(tolerations=[{"key": "gpu", "tolerationSeconds": 60}]), allowed(names=["a"], name="b"),
            allowed(selector={"matchlabels": {}}), asking({"key": "a", "operator": "Exists", "value": "b"}),
        ),
    ),
    Difference(
        "null where there is a default: the server stores the default, so no operator ever sees the null",
        server_takes=True, applies=lambda spec: _said(spec) != spec, without=_said,
        examples=tuple(images("busybox", **{field: None}) for field in oracle.DEFAULTS),
    ),
)


@pytest.mark.parametrize(
    ("difference", "spec"), [(d, spec) for d in DIFFERENCES for spec in d.examples], ids=lambda v: shown(
        v.why if isinstance(v, Difference) else v),
)
def test_known_differences(server: Server, difference: Difference, spec: Any) -> None:
    answer = server.creation(spec)
    assert answer.taken is difference.server_takes, answer.refusal
    assert fits_the_model(spec) is not difference.server_takes
    assert difference.applies(spec)
    assert server.creation(difference.without(spec)).taken
    assert fits_the_model(difference.without(spec))


def test_unknown_fields_that_are_let_pass_do_not_reach_the_operator(server: Server) -> None:
    """Clients that do not ask for strict validation, such as older ones, get their slips of the pen dropped."""
    spec = {**building(cluster=UID, image=1), "imageCacheSiz": 30, "image_cache_size": 30}
    answer = server.creation(spec, strict=False)
    assert answer.spec == {**oracle.DEFAULTS, **building(cluster=UID)}, answer.refusal


sampled = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow], max_examples=600,
)


def test_both_take_or_refuse_any_document(server: Server) -> None:
    seen: Counter[str] = Counter()

    @sampled
    @given(spec=DOCUMENTS)
    def check(spec: Any) -> None:
        seen.update(_agreed(server, spec))

    check()
    assert min(seen["taken"], seen["refused"]) >= 150, seen
    assert all(seen[difference.why] for difference in DIFFERENCES), seen


@pytest.mark.parametrize("path", NEARLY, ids=lambda path: ".".join(map(str, path)))
def test_both_take_or_refuse_each_field_near_the_edge_of_its_rule(server: Server, path: Path) -> None:
    seen: Counter[str] = Counter()

    @settings(sampled, max_examples=100)
    @given(spec=nearly(path))
    def check(spec: Any) -> None:
        seen.update(_agreed(server, spec))

    check()
    assert seen["refused"], seen


def _agreed(server: Server, spec: Any) -> Iterator[str]:
    """Fails where one takes what the other refuses and no difference explains it; says what came of it."""
    answer = server.creation(spec)
    yield "taken" if answer.taken else "refused"
    if answer.taken:  # then what is stored is what was meant, and the operator understands it
        assert answer.spec == oracle.as_stored(spec)
        assert Spec.model_validate(answer.spec).to_json_dict() == answer.spec
    if answer.taken is not fits_the_model(spec):
        found = [d for d in DIFFERENCES if d.applies(spec) and d.server_takes is answer.taken]
        assert len(found) == 1, answer.refusal
        yield found[0].why
        # It is that and nothing else.
        assert server.creation(found[0].without(spec)).taken
        assert fits_the_model(found[0].without(spec))


@pytest.mark.parametrize(("name", "taken"), [
    ("a", True), ("ml-images", True), ("a--b", True), ("a" * MAX_NAME_LENGTH, True),
    ("a" * (MAX_NAME_LENGTH + 1), False), ("", False), ("a\n", False),
    ("1a", False), ("a-", False), ("-a", False), ("a.b", False), ("A", False), ("a_b", False),
])
def test_names_are_those_of_the_reference_service(server: Server, name: str, taken: bool) -> None:
    answer = server.creation(images("busybox"), name)
    assert answer.taken is taken, answer.refusal
    assert bool(re.fullmatch(NAME_PATTERN, name)) is taken


@sampled
@given(name=NAMES)
def test_any_name(server: Server, name: str) -> None:
    answer = server.creation(images("busybox"), name)
    assert answer.taken is oracle.is_name(name), answer.refusal
    assert bool(re.fullmatch(NAME_PATTERN, name)) is answer.taken
