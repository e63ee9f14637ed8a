# SPDX-License-Identifier: Apache-2.0
"""The CustomResourceDefinition: the committed file is the generated one, and users can live with what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from imagecache_operator.__main__ import main
from imagecache_operator.api.crd import custom_resource_definition, structural
from imagecache_operator.api.model import Model

REPOSITORY = Path(__file__).resolve().parents[2]
FILE = REPOSITORY / "crds" / "imagecache.dev_imagecaches.yaml"
CRD: Any = custom_resource_definition()
VERSION: Any = CRD["spec"]["versions"][0]
ROOT: Any = VERSION["schema"]["openAPIV3Schema"]


def nodes(schema: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every schema below this one, with its path."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from nodes(schema["additionalProperties"], f"{path}{{}}")


ALL = dict(nodes(ROOT, ""))
SPEC = {path: node for path, node in ALL.items() if path.startswith(".spec")}


def test_the_committed_file_is_what_the_program_prints() -> None:
    printed = CliRunner().invoke(main, ["crds"])
    assert printed.exit_code == 0
    assert FILE.read_text() == printed.output, "stale: make generate"
    assert yaml.safe_load(printed.output) == CRD


@pytest.mark.parametrize("path", ALL)
def test_the_schema_is_structural(path: str) -> None:
    node = ALL[path]
    assert set(node).isdisjoint({"$ref", "$defs", "anyOf", "oneOf", "allOf", "title", "const"})
    assert node.get("type") in ("object", "array", "string", "integer", "boolean"), "every node has one type"
    assert (node["type"] == "array") == ("items" in node)
    assert not {"properties", "additionalProperties"} <= set(node), "fields or a map of anything, never both"
    assert node.get("default", "") is not None


def test_a_union_of_types_is_a_mistake_that_names_itself() -> None:
    class Odd(Model):
        either: int | str

    with pytest.raises(ValueError, match="union"):
        structural(Odd)


@pytest.mark.parametrize("path", [p for p in SPEC if not p.endswith(("[]", "{}"))])
def test_every_field_of_the_spec_is_described(path: str) -> None:
    text = SPEC[path].get("description", "")
    assert len(text) > 10
    assert text.endswith(".")


def test_everything_in_the_spec_is_bounded() -> None:
    """Without bounds the API server may refuse the CEL rules as too expensive, and etcd the objects as too large."""
    for path, node in SPEC.items():
        if node["type"] == "string":
            assert "maxLength" in node or "enum" in node, path
        elif node["type"] == "array":
            assert "maxItems" in node, path
        elif "additionalProperties" in node:
            assert "maxProperties" in node, path
        elif node["type"] == "integer":
            assert {"minimum", "maximum"} <= set(node), path


def test_every_rule_says_what_is_wrong() -> None:
    rules = [(path, rule) for path, node in ALL.items() for rule in node.get("x-kubernetes-validations", [])]
    assert len(rules) >= 7
    for path, rule in rules:
        assert rule["rule"], path
        assert len(rule["message"]) > 15, path
        assert "\n" not in rule["message"]


def test_the_rules_of_the_reference_service() -> None:
    spec = SPEC[".spec"]["properties"]
    assert SPEC[".spec"]["required"] == ["images"]
    assert (spec["images"]["minItems"], spec["images"]["maxItems"]) == (1, 20)
    size = spec["imageCacheSize"]
    assert (size["minimum"], size["maximum"], size["default"]) == (20, 400, 20)
    days = spec["retentionDays"]
    assert (days["minimum"], days["maximum"], days["default"]) == (0, 10000, 0)


def test_lists_that_are_merged_have_keys() -> None:
    for path in (".status.images", ".status.conditions"):
        assert ALL[path]["x-kubernetes-list-type"] == "map"
        key, = ALL[path]["x-kubernetes-list-map-keys"]
        assert key in ALL[path]["items"]["required"]


def test_columns_show_what_is_there() -> None:
    columns = VERSION["additionalPrinterColumns"]
    assert [c["name"] for c in columns if not c.get("priority")] == [
        "Phase", "Images", "Size", "Progress", "Expires", "Age",
    ]
    assert [c["name"] for c in columns if c.get("priority")] == [
        "Cluster", "StoredAs", "Served", "Warm", "Message",
    ]
    for column in columns:
        path = column["jsonPath"]
        assert path in ALL or path.startswith(".metadata."), path
        if path in ALL:
            assert ALL[path]["type"] == column["type"], path


def test_status_is_a_subresource_of_a_cluster_scoped_kind() -> None:
    assert CRD["spec"]["scope"] == "Cluster"
    assert CRD["spec"]["names"]["shortNames"] == ["imc"]
    assert VERSION["subresources"] == {"status": {}}
    assert CRD["metadata"]["name"] == "imagecaches.imagecache.dev"
