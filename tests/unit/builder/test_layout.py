# SPDX-License-Identifier: Apache-2.0
"""The tree on the volume: nothing half-written is ever seen, and `check` sees whatever is wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from imagecache_operator.api.oci import digest_of
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.check import check
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.layout import Layout, open_layout

from .conftest import Run
from .faulty import FaultyRegistry, SmallImage


def test_a_blob_appears_only_when_it_is_published(volume: Path) -> None:
    digest = digest_of(b"abcdef")
    with open_layout(volume) as layout:
        with layout.new_blob() as blob:
            blob.write(b"abc")
            blob.write(b"def")
            assert not layout.has(digest)
            blob.publish(digest)
        assert layout.has(digest)
        assert layout.size(digest) == layout.used() == 6
        assert layout.read(digest, 6) == b"abcdef"
        assert layout.read(digest, 5) is None
    path = layout.blob_path(digest)
    assert path == volume / f"docker/registry/v2/blobs/sha256/{digest[7:9]}/{digest[7:]}/data"
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_what_is_not_published_vanishes(volume: Path) -> None:
    with open_layout(volume) as layout:
        with layout.new_blob() as blob:
            blob.write(b"abc")
            with pytest.raises(ValueError, match="not its own"):
                blob.publish(digest_of(b"other"))
        assert list((volume / ".imagecache/tmp").iterdir()) == []


def test_what_a_killed_builder_left_is_swept(volume: Path) -> None:
    with open_layout(volume):
        (volume / ".imagecache/tmp/half").write_bytes(b"x")
    assert check(volume) == ["Half-written file half."]
    with open_layout(volume):
        pass
    assert check(volume) == []


def test_one_builder_at_a_time(volume: Path) -> None:
    with open_layout(volume):
        (volume / ".imagecache/tmp/others").write_bytes(b"x")
        with pytest.raises(ImageError, match="Another builder"), open_layout(volume):
            pass
        assert (volume / ".imagecache/tmp/others").exists()
    with open_layout(volume):
        pass


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:../../../etc/passwd", "sha256:" + "A" * 64, "md5:" + "a" * 64,
                                  "sha256:" + "a" * 64 + "\n"])
def test_only_digests_become_paths(text: str, volume: Path) -> None:
    with pytest.raises(ValueError, match="not a sha256 digest"):
        Layout(volume).blob_path(text)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_volume_has_its_reason(number: int, volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    with open_layout(volume) as layout, layout.new_blob() as blob:
        monkeypatch.setattr(os, "write", full)
        with pytest.raises(ImageError) as failure:
            blob.write(b"x")
        assert failure.value.reason is Reason.NO_SPACE_LEFT


def test_a_full_disk_fails_the_image_that_needs_it(
    faulty: FaultyRegistry, run: Run, volume: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = os.write

    def full(descriptor: int, data: bytes) -> int:
        if len(data) > 100_000:
            raise OSError(errno.ENOSPC, "full")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    outcome = run(faulty.add("a", SmallImage([bytes(500_000)])), faulty.add("b", SmallImage([b"x" * 1000])))
    assert [i.reason for i in outcome.images] == [Reason.NO_SPACE_LEFT, None]
    assert check(volume) == []


def test_a_volume_that_cannot_be_written_is_told(run: Run, volume: Path) -> None:
    (volume / "docker").write_text("a file where a folder should be")
    outcome = run("busybox")
    assert outcome.reason is Reason.INTERNAL
    assert "volume" in outcome.message
    assert outcome.images == ()


def _tag_folder(tree: Path) -> Path:
    return next(tree.glob("repositories/*/app/_manifests/tags/1"))


@pytest.mark.parametrize(("spoil", "word"), [
    (lambda tree: max(tree.rglob("data"), key=lambda p: p.stat().st_size).write_bytes(b"x"), "another content"),
    (lambda tree: max(tree.rglob("data"), key=lambda p: p.stat().st_size).unlink(), "is not there"),
    (lambda tree: (_tag_folder(tree) / "current/link").write_text("sha256:" + "0" * 64), "is no manifest"),
    (lambda tree: (_tag_folder(tree) / "current/link").write_text("../../x"), "something else"),
    (lambda tree: (_tag_folder(tree) / "current/link").unlink(), "points nowhere"),
    (lambda tree: next(tree.glob("repositories/*/app/_layers/sha256/*/link")).unlink(), "does not link"),
    (lambda tree: (tree / "stranger").write_text(""), "does not belong"),
    (lambda tree: next(tree.rglob("link")).chmod(0o600), "another mode"),
])
def test_check_sees_what_is_wrong(
    spoil: Callable[[Path], object], word: str, faulty: FaultyRegistry, run: Run, volume: Path,
) -> None:
    assert run(faulty.add("app", SmallImage([bytes(5000)]))).succeeded
    assert check(volume) == []
    spoil(volume / "docker/registry/v2")
    assert any(word in problem for problem in check(volume))


def test_check_of_nothing_is_a_problem(tmp_path: Path) -> None:
    assert check(tmp_path)
