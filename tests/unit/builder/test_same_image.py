# SPDX-License-Identifier: Apache-2.0
"""One image listed under several spellings, which no rule of the API server forbids: the volume holds it once."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from imagecache_operator.api.reference import parse
from imagecache_operator.builder.check import check

from tests.support.images import Image
from tests.support.registry_process import RegistryProcess

from .conftest import Run


@pytest.mark.parametrize(("spellings", "tag"), [
    (["localhost:{port}/team/multi", "LOCALHOST:{port}/team/multi:latest"], "latest"),
    (["localhost:{port}/team/multi@{digest}", "localhost:{port}/team/multi:not-there@{digest}"], "sha256-{hex}"),
], ids=["by tag", "by digest"])
def test_it_is_stored_once_and_answered_for_each_time(
    registry: RegistryProcess, images: dict[str, Image], run: Run, volume: Path, spellings: list[str], tag: str,
) -> None:
    image = images["team/multi:1.0"]
    registry.pusher.push(dataclasses.replace(image, name="team/multi:latest"))
    port, digest = registry.address.rpartition(":")[2], image.digest
    references = [spelling.format(port=port, digest=digest) for spelling in spellings]
    outcome = run(*references, platforms=(f"linux/{image.own.architecture}",))
    assert outcome.succeeded, outcome
    first, *others = outcome.images
    assert first.digest == digest
    assert others == [first] * len(others)
    assert image.own.raw_size < outcome.used < image.own.raw_size + 50_000
    repositories = volume / "docker/registry/v2/repositories"
    found = (path.relative_to(repositories) for path in repositories.rglob("_manifests/tags/*"))
    tags = [path for path in found if path.parts[0] != "canary"]
    where = parse(references[0]).stored_repository
    assert {str(path) for path in tags} == {
        f"{name}/_manifests/tags/{tag.format(hex=digest[7:])}" for name in (where, f"carrier/{where}")
    }
    assert check(volume) == []
