# SPDX-License-Identifier: Apache-2.0
"""The image tree on the volume: the file system layout of the CNCF distribution registry.

`fetch.py` and `build.py` write with it; a stock registry serves the result, read-only. The rule that everything
rests on: a file appears under its final name only when it is complete and on the disk (temporary file, fsync,
rename, fsync of the folder). So a builder may be killed at any moment, and what is there can be trusted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from imagecache_operator.api.oci import digest_of
from imagecache_operator.api.reasons import Reason
from imagecache_operator.builder.errors import ImageError, of_the_volume
from imagecache_operator.builder.manifest import is_digest

TREE = Path("docker/registry/v2")
OWN_FOLDER = ".imagecache"  # beside the tree: the registry never looks there
_RESUMABLE = "resumable-"

_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Repository:
    """One image's part of a repository: digests of its blobs, and of its manifests with the tagged one last."""

    name: str
    blobs: frozenset[str]
    manifests: tuple[str, ...]


class Layout:
    """A volume, open for writing. Only `open_layout` makes one, because writing needs the lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._tree = root / TREE
        self._temporary = root / OWN_FOLDER / "tmp"
        self._packed = root / OWN_FOLDER / "packed"

    def blob_path(self, digest: str) -> Path:
        """Where the blob lies or would lie. Raises ValueError for what is no sha256 digest."""
        if not is_digest(digest):
            raise ValueError("not a sha256 digest")
        hexadecimal = digest.removeprefix("sha256:")
        return self._tree / "blobs" / "sha256" / hexadecimal[:2] / hexadecimal / "data"

    def has(self, digest: str) -> bool:
        """Whether the blob is there, and so complete."""
        return os.path.isfile(self.blob_path(digest))  # false also for what may not be looked at

    def size(self, digest: str) -> int:
        """Bytes of a blob that is there."""
        return self.blob_path(digest).stat().st_size

    def read(self, digest: str, limit: int) -> bytes | None:
        """A small blob's bytes, or None if it is not there, is longer than `limit`, or was changed since."""
        try:
            with self.blob_path(digest).open("rb") as file:
                data = file.read(limit + 1)
        except FileNotFoundError:
            return None
        return data if len(data) <= limit and digest_of(data) == digest else None

    def used(self) -> int:
        """Bytes of all files of the layout."""
        used = 0
        for folder, _, names in os.walk(self._tree):
            for name in names:
                with contextlib.suppress(OSError):  # somebody removes it at this moment, or hides it
                    used += os.lstat(os.path.join(folder, name)).st_size
        return used

    def free(self) -> int:
        """Bytes that the file system still has for this user."""
        state = os.statvfs(self.root)
        return state.f_bavail * state.f_frsize

    def kept(self) -> int:
        """Bytes of half-written layers: whoever goes on with one writes only the rest of it."""
        return sum(file.stat().st_size for file in self._temporary.iterdir())

    def packed_form_of(self, diff_id: str) -> str | None:
        """The digest of the blob that a tar was packed into, if that blob is there."""
        try:
            digest = (self._packed / _parts(diff_id)).read_text(errors="replace")
        except FileNotFoundError:
            return None
        return digest if is_digest(digest) and self.has(digest) else None

    def remember_packed_form(self, diff_id: str, digest: str) -> None:
        """Written after the blob itself, so that what is remembered is there."""
        with self.new_blob() as file:
            file.write(digest.encode())
            file.move_to(self._packed / _parts(diff_id))

    @contextlib.contextmanager
    def new_blob(self, resumed: str | None = None) -> Iterator[NewBlob]:
        """A blob to be written; it is gone at the end unless `publish` was called. Raises ImageError (NoSpaceLeft).

        With `resumed`, the digest that it will have, it begins with what an earlier try has left under that name, and
        leaves what it has itself, unless it is told to `forget`.
        """
        with _space_errors():
            if resumed:
                path = self._temporary / (_RESUMABLE + resumed.removeprefix("sha256:"))
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                blob = NewBlob(self, descriptor, str(path), resumable=True)
            else:
                blob = NewBlob(self, *tempfile.mkstemp(dir=self._temporary))
        try:
            yield blob
        finally:
            blob.close()

    def write_blob(self, data: bytes) -> str:
        """Stores bytes at hand; returns their digest."""
        digest = digest_of(data)
        if not self.has(digest):
            with self.new_blob() as blob:
                blob.write(data)
                blob.publish(digest)
        return digest

    def link(self, repository: Repository, tag: str) -> None:
        """Makes the repository's last manifest its `tag`. Every link comes after what it leads to."""
        home = self._tree / "repositories" / repository.name
        for blob in sorted(repository.blobs):
            self._write_link(home / "_layers" / _parts(blob), blob)
        for manifest in repository.manifests:
            self._write_link(home / "_manifests" / "revisions" / _parts(manifest), manifest)
        folder, digest = home / "_manifests" / "tags" / tag, repository.manifests[-1]
        self._write_link(folder / "index" / _parts(digest), digest)
        self._write_link(folder / "current", digest)

    def holds(self, repository: Repository, tag: str) -> bool:
        """Whether all that `link` led to is there, as a reader would find it."""
        current = self._tree / "repositories" / repository.name / "_manifests" / "tags" / tag / "current" / "link"
        with contextlib.suppress(OSError):
            if current.read_text() == repository.manifests[-1]:
                return all(self.has(digest) for digest in {*repository.blobs, *repository.manifests})
        return False

    def sweep(self, wanted: Collection[str] | None = None) -> None:
        """Removes what earlier builders left half-written, except resumable blobs, of the digests that are wanted
        (None: of any)."""
        kept = None if wanted is None else {_RESUMABLE + digest.removeprefix("sha256:") for digest in wanted}
        for leftover in self._temporary.iterdir():
            name = leftover.name
            if not name.startswith(_RESUMABLE) or (kept is not None and name not in kept):
                leftover.unlink(missing_ok=True)

    def prepare(self) -> None:
        """Makes the folders that everything else expects."""
        make_folder(self._tree)
        make_folder(self._temporary)

    def _write_link(self, folder: Path, digest: str) -> None:
        path = folder / "link"
        with contextlib.suppress(FileNotFoundError):
            if path.read_text() == digest:
                return
        with self.new_blob() as file:
            file.write(digest.encode())
            file.move_to(path)


class NewBlob:
    """A file on its way. `write` counts and hashes; nobody sees the file before `publish`."""

    def __init__(self, layout: Layout, descriptor: int, path: str, *, resumable: bool = False) -> None:
        self.size = 0
        self._layout = layout
        self._descriptor = descriptor
        self._path = path
        self._digest = hashlib.sha256()
        self._stays = resumable  # whether the file outlives `close`
        if resumable:
            while piece := os.read(descriptor, 1024 * 1024):
                self._digest.update(piece)
                self.size += len(piece)

    @property
    def digest(self) -> str:
        """Digest of what was written so far."""
        return f"sha256:{self._digest.hexdigest()}"

    def write(self, data: bytes) -> None:
        """Raises ImageError (NoSpaceLeft) when the volume is full."""
        self._digest.update(data)
        self.size += len(data)
        rest = memoryview(data)
        with _space_errors():
            while rest:
                rest = rest[os.write(self._descriptor, rest):]

    def publish(self, digest: str) -> None:
        """The blob gets its name. The caller has compared digests; a wrong one is a bug and raises ValueError."""
        if digest != self.digest:
            raise ValueError("a blob was to be published under a digest that is not its own")
        self.move_to(self._layout.blob_path(digest))

    def move_to(self, path: Path) -> None:
        """To the disk, then to its name, then the name to the disk."""
        with _space_errors():
            os.fchmod(self._descriptor, 0o644)
            os.fsync(self._descriptor)
            make_folder(path.parent)
            os.rename(self._path, path)
            self._stays = True
            _sync_folder(path.parent)

    def forget(self) -> None:
        """What was written is no good to anybody who comes later."""
        self._stays = False

    def close(self) -> None:
        """Frees the file; what was not published vanishes, unless it can be resumed."""
        os.close(self._descriptor)
        if not self._stays:
            with contextlib.suppress(OSError):  # what cannot be removed now is swept by the next builder
                os.unlink(self._path)


@contextlib.contextmanager
def open_layout(root: Path) -> Iterator[Layout]:
    """The volume at `root`, locked and cleaned up. Raises ImageError if that cannot be."""
    layout = Layout(root)
    with contextlib.ExitStack() as stack:
        try:
            with _space_errors():
                layout.prepare()
                stack.callback(os.close, _locked(root / OWN_FOLDER / "lock"))
                layout.sweep()
        except OSError as error:
            raise of_the_volume(error, root) from None
        yield layout


def _locked(path: Path) -> int:
    """One builder a volume: an advisory lock that the kernel drops when the process ends, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ImageError(
            Reason.INTERNAL, "Another builder is writing to this volume; this one ends and leaves it alone.",
        ) from None
    return descriptor


def make_folder(path: Path) -> None:
    """The folder and its missing parents, each one's name on the disk before anything is put into it."""
    if path.is_dir():
        return
    make_folder(path.parent)
    path.mkdir(mode=0o755, exist_ok=True)  # another thread's; raises FileExistsError for what is no folder
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parts(digest: str) -> Path:
    if not is_digest(digest):
        raise ValueError("not a sha256 digest")
    return Path("sha256") / digest.removeprefix("sha256:")


@contextlib.contextmanager
def _space_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ImageError(
                Reason.NO_SPACE_LEFT, "The volume's file system is full: raise imageCacheSize or list fewer images.",
            ) from None
        raise
