# SPDX-License-Identifier: Apache-2.0
"""A volume with things on it that are not the builder's: files where it needs folders, folders where it needs files,
strangers, and what belongs to somebody else. What is in the way of one image is no harm to the others, and is named."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from imagecache_operator.api.job import BuildJob
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import OWN_FOLDER, TREE, Layout

from tests.support.tls import Authority

from .conftest import GIB, Run
from .faulty import FaultyRegistry, SmallImage
from .mortal import Mortal

# To the kernel, a folder that others own and one that its owner may not write are the same, as long as who asks has no
# capabilities: in a user namespace, and not as its root, nobody has.
WITHOUT_CAPABILITIES = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")


@pytest.fixture
def app() -> SmallImage:
    return SmallImage([b"x" * 5000])


@pytest.fixture
def other() -> SmallImage:
    return SmallImage([b"y" * 5000])


@pytest.fixture
def references(faulty: FaultyRegistry, app: SmallImage, other: SmallImage) -> tuple[str, str]:
    return faulty.add("app", app), faulty.add("other", other)


@pytest.fixture
def run_without_capabilities(
    volume: Path, references: tuple[str, str], authority: Authority, tmp_path: Path,
) -> Callable[[], Outcome]:
    job = BuildJob(images=references, platforms=("linux/amd64",), capacity=GIB)
    return lambda: Mortal(job, volume, authority, tmp_path, wrapped=WITHOUT_CAPABILITIES).run().outcome


def _assert_of_no_image(outcome: Outcome, *words: str) -> None:
    assert (outcome.reason, outcome.images) == (Reason.INTERNAL, ())
    assert all(word in outcome.message for word in words), outcome.message


def _assert_of_one_image(outcome: Outcome, *words: str) -> None:
    assert [image.reason for image in outcome.images] == [Reason.INTERNAL, None]
    assert all(word in outcome.images[0].message for word in words), outcome.images[0].message


def _file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


def _folder(path: Path) -> None:
    (path / "stranger").mkdir(parents=True)


@pytest.mark.parametrize(("make", "place"), [
    (_file, TREE.parts[0]), (_file, str(TREE)), (_file, OWN_FOLDER), (_file, f"{OWN_FOLDER}/tmp"),
    (_folder, f"{OWN_FOLDER}/lock"), (_folder, f"{OWN_FOLDER}/tmp"),
])
def test_in_the_way_of_everything(
    make: Callable[[Path], None], place: str, references: tuple[str, str], run: Run, volume: Path,
) -> None:
    make(volume / place)
    before = sorted(volume.rglob("*"))
    _assert_of_no_image(run(*references), "volume", place)
    assert set(before) <= set(volume.rglob("*"))


def _blob(volume: Path, image: SmallImage) -> Path:
    return Layout(volume).blob_path(image.diff_ids[0])


def _repository(volume: Path, registry: FaultyRegistry) -> Path:
    return volume / TREE / "repositories" / registry.address.replace(":", "_") / "app"


@pytest.mark.parametrize(("make", "place"), [
    (_file, lambda volume, _, app: _blob(volume, app).parent),
    (_file, lambda volume, _, app: _blob(volume, app).parent.parent),
    (_folder, lambda volume, _, app: _blob(volume, app)),
    (_file, lambda volume, registry, _: _repository(volume, registry)),
    (_file, lambda volume, registry, _: _repository(volume, registry) / "_manifests/tags/1"),
    (_folder, lambda volume, registry, _: _repository(volume, registry) / "_manifests/tags/1/current/link"),
])
def test_in_the_way_of_one_image(
    make: Callable[[Path], None], place: Callable[[Path, FaultyRegistry, SmallImage], Path], faulty: FaultyRegistry,
    app: SmallImage, references: tuple[str, str], run: Run, volume: Path,
) -> None:
    stranger = place(volume, faulty, app)
    make(stranger)
    _assert_of_one_image(run(*references), "volume", str(stranger.relative_to(volume)))
    stranger.rename(volume / "moved-away")
    assert run(*references).succeeded
    assert check(volume) == []


@pytest.mark.parametrize("place", ["lost+found/stranger", str(TREE / "stranger"), f"{OWN_FOLDER}/stranger"])
def test_strangers_are_let_alone(place: str, references: tuple[str, str], run: Run, volume: Path) -> None:
    _file(volume / place)
    assert run(*references).succeeded
    assert (volume / place).is_file()
    assert check(volume) == (["stranger does not belong there."] if place.startswith("docker") else [])


@pytest.mark.parametrize("place", ["", f"{OWN_FOLDER}/lock", f"{OWN_FOLDER}/tmp", TREE.parts[0]])
def test_it_belongs_to_somebody_else(
    place: str, references: tuple[str, str], run_without_capabilities: Callable[[], Outcome], volume: Path,
) -> None:
    if place:
        _file(volume / OWN_FOLDER / "lock")
        (volume / TREE.parts[0]).mkdir()
        (volume / OWN_FOLDER / "tmp").mkdir()
    (volume / place).chmod(0o555)
    outcome = run_without_capabilities()
    (volume / place).chmod(0o755)
    if outcome.images:  # the folder for temporary files is not written to before there is something to write
        assert {image.reason for image in outcome.images} == {Reason.INTERNAL}
    else:
        assert outcome.reason is Reason.INTERNAL
    said = outcome.message or outcome.images[0].message
    assert "volume" in said
    assert "Permission denied" in said
    assert run_without_capabilities().succeeded
    assert check(volume) == []


@pytest.mark.parametrize("mode", [0o555, 0o000])
def test_a_part_of_it_belongs_to_somebody_else(
    mode: int, app: SmallImage, references: tuple[str, str], run_without_capabilities: Callable[[], Outcome],
    volume: Path,
) -> None:
    folder = _blob(volume, app).parent
    folder.mkdir(parents=True)
    folder.chmod(mode)
    outcome = run_without_capabilities()
    folder.chmod(0o755)
    _assert_of_one_image(outcome, "volume", "Permission denied", app.diff_ids[0].removeprefix("sha256:"))
    assert run_without_capabilities().succeeded
    assert check(volume) == []


@pytest.mark.parametrize("put", [
    lambda file: file.symlink_to("nowhere"), lambda file: file.symlink_to("/dev/null"), os.mkfifo, os.mkdir,
])
@pytest.mark.parametrize("name", ["data", "link"])
def test_check_tells_what_it_cannot_read(
    name: str, put: Callable[[Path], object], references: tuple[str, str], run: Run, volume: Path,
) -> None:
    assert run(*references).succeeded
    assert check(volume) == []
    for file in list((volume / TREE).rglob(name)):
        file.unlink()
        put(file)
    assert any("no regular file" in problem for problem in check(volume))


def test_check_tells_of_links_that_are_no_text(references: tuple[str, str], run: Run, volume: Path) -> None:
    assert run(*references).succeeded
    next((volume / TREE).rglob("link")).write_bytes(b"\xff\xfe")
    assert any("something else than its digest" in problem for problem in check(volume))
