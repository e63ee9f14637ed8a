# SPDX-License-Identifier: Apache-2.0
"""What a label selector selects: what Kubernetes says of each operator, and a second opinion on any selector."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from imagecache_operator.api.labels import LabelSelector

from tests.contract import spec_oracle

# Few enough that labels and selectors meet.
KEYS = st.sampled_from(["tier", "name", "kubernetes.io/metadata.name"])
VALUES = st.sampled_from(["", "gold", "iron", "Gold"])
LABELS = st.dictionaries(KEYS, VALUES)
REQUIREMENTS: st.SearchStrategy[Any] = st.one_of(
    st.fixed_dictionaries({
        "key": KEYS, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(VALUES, min_size=1, max_size=3),
    }),
    st.fixed_dictionaries(
        {"key": KEYS, "operator": st.sampled_from(["Exists", "DoesNotExist"])},
        optional={"values": st.just([]) | st.none()},
    ),
)
SELECTORS = st.fixed_dictionaries({}, optional={
    "matchLabels": st.dictionaries(KEYS, VALUES | st.none(), max_size=2) | st.none(),
    "matchExpressions": st.lists(REQUIREMENTS, max_size=3) | st.none(),
})

GOLD, EMPTY, IRON, NONE = {"tier": "gold", "a": "b"}, {"tier": ""}, {"tier": "iron"}, {"a": "b"}


def selects(selector: Any, labels: dict[str, str]) -> bool:
    return LabelSelector.model_validate(selector).selects(labels)


@pytest.mark.parametrize(("operator", "values", "selected"), [
    ("In", ["gold"], [GOLD]),
    ("In", ["gold", "iron"], [GOLD, IRON]),
    ("In", [""], [EMPTY]),
    ("In", ["GOLD"], []),
    ("NotIn", ["gold"], [EMPTY, IRON, NONE]),
    ("NotIn", [""], [GOLD, IRON, NONE]),
    ("NotIn", ["gold", "iron", ""], [NONE]),
    ("Exists", None, [GOLD, EMPTY, IRON]),
    ("Exists", [], [GOLD, EMPTY, IRON]),
    ("DoesNotExist", None, [NONE]),
])
def test_each_operator(operator: str, values: list[str] | None, selected: list[dict[str, str]]) -> None:
    selector = {"matchExpressions": [{"key": "tier", "operator": operator, "values": values}]}
    assert [labels for labels in (GOLD, EMPTY, IRON, NONE) if selects(selector, labels)] == selected


@pytest.mark.parametrize(("selector", "selected"), [
    ({}, [GOLD, EMPTY, IRON, NONE]),
    ({"matchLabels": {}, "matchExpressions": []}, [GOLD, EMPTY, IRON, NONE]),
    ({"matchLabels": {"tier": None}}, [GOLD, EMPTY, IRON, NONE]),
    ({"matchLabels": {"tier": ""}}, [EMPTY]),
    ({"matchLabels": {"a": "b"}}, [GOLD, NONE]),
    ({"matchLabels": {"a": "b", "tier": "gold"}}, [GOLD]),
    ({"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, [NONE]),
    ({"matchExpressions": [
        {"key": "tier", "operator": "Exists"}, {"key": "tier", "operator": "NotIn", "values": ["gold"]},
    ]}, [EMPTY, IRON]),
])
def test_all_that_is_said_must_hold(selector: Any, selected: list[dict[str, str]]) -> None:
    assert [labels for labels in (GOLD, EMPTY, IRON, NONE) if selects(selector, labels)] == selected


@settings(max_examples=500, deadline=None)
@given(selector=SELECTORS, labels=LABELS)
def test_any_selector_selects_what_a_second_opinion_selects(selector: Any, labels: dict[str, str]) -> None:
    """Written from the meaning of a selector: it forbids some values, among which a label that is not there is None."""
    possible = {key: {labels.get(key)} for key in (*labels, "tier", "name", "kubernetes.io/metadata.name")}
    for key, value in (selector.get("matchLabels") or {}).items():
        possible[key] &= {value} if value is not None else possible[key]
    for asked in selector.get("matchExpressions") or ():
        key, values = asked["key"], set(asked.get("values") or ())
        match asked["operator"]:
            case "In":
                possible[key] &= values
            case "NotIn":
                possible[key] -= values
            case "Exists":
                possible[key] -= {None}
            case "DoesNotExist":
                possible[key] &= {None}
    assert selects(selector, labels) == all(possible.values())
    assert not spec_oracle.faults({"images": ["busybox"], "allowedNamespaces": {"selector": selector}})
