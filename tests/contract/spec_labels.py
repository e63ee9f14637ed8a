# SPDX-License-Identifier: Apache-2.0
"""The parts of a spec that are Kubernetes' own: labels and what selects by them, names of namespaces, tolerations.

For `spec_strategies.py`.
"""

from __future__ import annotations

from hypothesis import strategies as st

from .spec_anything import JSON, TEXTS, with_odd_character

# Labels and taints: of all that can be wrong with them the rules know length and kind, the rest is Kubernetes' to say.
_LABEL_TEXTS = st.one_of(
    st.sampled_from(["", "gpu", "true", "kubernetes.io/os", "a.b/c_d", "\u00e9", "\0", "a\n"]), TEXTS,
    st.sampled_from([62, 63, 64, 316, 317, 318]).map(lambda length: "k" * length),
)
_MAP_SIZES = st.sampled_from([0, 1, 19, 20, 21, 40])
_GOOD_LABELS = st.dictionaries(TEXTS, st.text("ab1-", max_size=63), max_size=3)
LABELS = st.one_of(
    _GOOD_LABELS, st.dictionaries(_LABEL_TEXTS, _LABEL_TEXTS | st.none() | JSON, max_size=3),
    _MAP_SIZES.map(lambda size: {f"label-{number}": "x" for number in range(size)}),
    _MAP_SIZES.map(lambda size: {f"label-{number}": None for number in range(size)}),
    st.sampled_from([[], "gpu=true", {"gpu": True}, {"gpu": 1}, {"gpu": None, "a": "b"}]),
)
_GOOD_TOLERATIONS = st.sampled_from([
    {"key": "gpu"}, {"key": "gpu", "operator": "Equal", "value": "true", "effect": "NoSchedule"},
    {"operator": "Exists"}, {"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, {"key": "a", "value": ""},
    {"operator": "Exists", "value": ""}, {"operator": "Exists", "key": None, "value": None, "effect": None},
])
TOLERATIONS = st.one_of(
    _GOOD_TOLERATIONS, JSON,
    st.fixed_dictionaries({}, optional={
        "key": _LABEL_TEXTS | st.none(), "value": _LABEL_TEXTS | st.none(),
        "operator": st.sampled_from(["Exists", "Equal", "exists", "", "Gt", "Exists\n", None, 1, ["Exists"]]),
        "effect": st.sampled_from(["NoSchedule", "PreferNoSchedule", "NoExecute", "Never", "", None, 0]),
        "tolerationSeconds": st.sampled_from([0, 60, None, "60"]),
    }),
)
TOLERATION_LISTS = st.one_of(
    st.lists(_GOOD_TOLERATIONS, max_size=3), st.lists(TOLERATIONS, max_size=3),
    _MAP_SIZES.map(lambda size: [{"key": f"taint-{number}"} for number in range(size)]),
    st.sampled_from([{"key": "gpu"}, "gpu", [None], [[{"key": "gpu"}]]]),
)
WARM = st.fixed_dictionaries({}, optional={
    "nodeSelector": _GOOD_LABELS | st.none(), "tolerations": st.lists(_GOOD_TOLERATIONS, max_size=2) | st.none(),
})
_GOOD_NAMESPACES = st.sampled_from(["team-a", "a", "0", "a--b", "1-2", "a" * 63, "kube-system"])
NAMESPACES = st.one_of(
    _GOOD_NAMESPACES, with_odd_character(_GOOD_NAMESPACES), TEXTS,
    st.sampled_from(["", "-a", "a-", "A", "a.b", "a_b", "a/b", "*", "team-a:regcred", "a" * 64, "a" * 63 + "-"]),
)
_MANY_NAMESPACES = st.sampled_from([0, 1, 99, 100, 101, 200])
NAMESPACE_LISTS = st.one_of(
    st.lists(_GOOD_NAMESPACES, min_size=1, max_size=3, unique=True),
    _MANY_NAMESPACES.map(lambda count: [f"team-{number}" for number in range(count)]),
    _GOOD_NAMESPACES.map(lambda twice: [twice, "between", twice]), st.lists(NAMESPACES, max_size=3),
    st.sampled_from(["team-a", {"team-a": True}, [None], [["team-a"]]]),
)
_GOOD_REQUIREMENTS = st.sampled_from([
    {"key": "tier", "operator": "In", "values": ["gold", ""]},
    {"key": "tier", "operator": "NotIn", "values": ["gold", "gold"]},
    {"key": "tier", "operator": "Exists"}, {"key": "tier", "operator": "DoesNotExist", "values": []},
    {"key": "kubernetes.io/metadata.name", "operator": "Exists", "values": None},
])
LABEL_VALUES = st.one_of(
    st.lists(_LABEL_TEXTS, max_size=3), st.lists(JSON, max_size=2), st.none(),
    st.sampled_from([0, 1, 49, 50, 51]).map(lambda count: [f"v{number}" for number in range(count)]),
    st.sampled_from(["gold", {"gold": "iron"}, [None], [1], 0]),
)
REQUIREMENTS = st.one_of(
    _GOOD_REQUIREMENTS, JSON,
    st.fixed_dictionaries({}, optional={
        "key": _LABEL_TEXTS | st.none(),
        "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "in", "Gt", "", "In\n", None, 1, ["In"]]),
        "values": LABEL_VALUES,
    }),
    # What depends on one another, with nothing else wrong.
    st.fixed_dictionaries({
        "key": st.just("tier"), "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
        "values": st.sampled_from([None, [], ["a"]]),
    }),
)
REQUIREMENT_LISTS = st.one_of(
    st.lists(_GOOD_REQUIREMENTS, max_size=3), st.lists(REQUIREMENTS, max_size=3),
    _MAP_SIZES.map(lambda size: [{"key": f"label-{number}", "operator": "Exists"} for number in range(size)]),
    st.sampled_from([{"key": "tier", "operator": "Exists"}, "tier", [None], [[]]]),
)
SELECTORS = st.fixed_dictionaries({}, optional={
    "matchLabels": _GOOD_LABELS | st.none(), "matchExpressions": st.lists(_GOOD_REQUIREMENTS, max_size=2) | st.none(),
})
ALLOWED = st.one_of(
    st.fixed_dictionaries(
        {"names": st.lists(_GOOD_NAMESPACES, min_size=1, max_size=3, unique=True)},
        optional={"selector": SELECTORS | st.none()},
    ),
    st.fixed_dictionaries({"selector": SELECTORS}, optional={"names": st.none()}),
)
