# SPDX-License-Identifier: Apache-2.0
"""The Pods of a file: itself, a template of one in whatever makes Pods, several documents. Read by `explain.py`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import ValidationError

from imagecache_operator.api.pod import Pod

# Where a Pod's template is: in a PodTemplate; in Deployments, Jobs and the like; in a CronJob.
_TEMPLATES = (("template",), ("spec", "template"), ("spec", "jobTemplate", "spec", "template"))


class InvalidFile(ValueError):
    """No Pod can be read from the text; the message says why, in a sentence for a person."""


@dataclass(frozen=True)
class Workload:
    """A Pod and whose it is: "Deployment train". `namespace` is None where the document names none."""

    title: str
    namespace: str | None
    pod: Pod


def workloads(text: str) -> list[Workload]:
    """All Pods of the documents (YAML or JSON). Raises InvalidFile, also where there is none."""
    found = [_workload(obj, template) for obj, template in _templates(_documents(text))]
    if not found:
        raise InvalidFile("no Pod in it, and nothing with a template of one")
    return found


def _documents(text: str) -> list[Any]:
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError):
        pass  # several documents, or YAML
    try:
        return list(yaml.safe_load_all(text))
    except yaml.MarkedYAMLError as error:
        where = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise InvalidFile(f"neither YAML nor JSON: {error.problem}{where}") from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise InvalidFile("neither YAML nor JSON") from None


def _templates(documents: list[Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    for obj in documents:
        if not isinstance(obj, dict):
            continue
        if isinstance(obj.get("items"), list):
            yield from _templates(obj["items"])
        elif obj.get("kind") == "Pod":
            yield obj, obj
        else:
            yield from ((obj, found) for path in _TEMPLATES if (found := _at(obj, path)) is not None)


def _at(obj: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        obj = obj.get(key) if isinstance(obj, dict) else None
    return obj


def _workload(obj: dict[str, Any], template: Any) -> Workload:
    meta = obj.get("metadata")
    meta = meta if isinstance(meta, dict) else {}
    title = f"{obj.get('kind') or 'Object'} {meta.get('name') or meta.get('generateName') or '(no name)'}"
    namespace = meta.get("namespace")
    try:
        # A template may do without metadata, a Pod on its way to the API server cannot.
        pod = Pod.model_validate({"metadata": {}, **template} if isinstance(template, dict) else template)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise InvalidFile(f"{title} cannot be read: {where}: {first['msg']}") from None
    return Workload(title, str(namespace) if namespace else None, pod)
