# SPDX-License-Identifier: Apache-2.0
"""Reads a volume again and reports everything that is not as it should be. For `builder --check` and for tests.

It shares no knowledge with `build.py` but the layout's paths: a mistake there must not hide itself here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imagecache_operator.api import canary
from imagecache_operator.builder.layout import OWN_FOLDER, TREE
from imagecache_operator.builder.manifest import is_digest
from imagecache_operator.builder.rewrite import SOURCE_DIGEST

_CARRIERS = "carrier/"
_CARRIER_CONFIG = frozenset({"architecture", "os", "variant", "rootfs", "config"})
_HEX = "[0-9a-f]{64}"
_BLOB = re.compile(rf"blobs/sha256/([0-9a-f]{{2}})/({_HEX})/data")
_LINK = re.compile(
    rf"repositories/(?P<name>[a-z0-9._/-]+)/(?:"
    rf"_layers/sha256/(?P<layer>{_HEX})|_manifests/revisions/sha256/(?P<revision>{_HEX})|"
    rf"_manifests/tags/(?P<tag>[a-zA-Z0-9_][a-zA-Z0-9_.-]{{0,127}})/(?:current|index/sha256/(?P<entry>{_HEX}))"
    rf")/link"
)


def check(root: Path) -> list[str]:
    """One sentence for each problem; an empty list for a sound volume. Reads every byte of every blob."""
    tree = root / TREE
    if not tree.is_dir():
        return [f"There is no layout at {root}."]
    check_ = _Check(tree)
    return [*check_.problems(), *(f"Half-written file {p.name}." for p in (root / OWN_FOLDER / "tmp").glob("*"))]


class _Check:
    def __init__(self, tree: Path) -> None:
        self._tree = tree
        self._blobs: dict[str, int] = {}
        self._layers: dict[str, set[str]] = {}
        self._revisions: dict[str, set[str]] = {}
        self._entries: dict[str, set[str]] = {}
        self._tags: dict[str, str] = {}

    def problems(self) -> Iterator[str]:
        unreadable: list[OSError] = []
        for folder, folders, names in os.walk(self._tree, onerror=unreadable.append):
            for name in (*folders, *names):
                path = Path(folder, name)
                try:
                    yield from self._look_at(path, self._name(path))
                except OSError as error:
                    unreadable.append(error)
        for refusal in unreadable:
            yield f"{self._name(Path(refusal.filename))} cannot be read: {os.strerror(refusal.errno or 0)}."
        for repository, layers in self._layers.items():
            for digest in layers - self._blobs.keys():
                yield f"{repository} links to the blob {digest}, which is not there."
        for repository, digests in self._revisions.items():
            for digest in digests:
                yield from self._look_at_manifest(repository, digest)
        for tag, digest in self._tags.items():
            repository = tag.rpartition(":")[0]
            if digest not in self._revisions.get(repository, set()):
                yield f"The tag {tag} points to {digest}, which is no manifest of its repository."
            if digest not in self._entries.get(tag, set()):
                yield f"The tag {tag} points to {digest}, which its index does not list."
        for tag in self._entries.keys() - self._tags.keys():
            yield f"The tag {tag} points nowhere."

    def _name(self, path: Path) -> str:
        return path.relative_to(self._tree).as_posix()

    def _look_at(self, path: Path, name: str) -> Iterator[str]:
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) and not (_BLOB.fullmatch(name) or _LINK.fullmatch(name)):
            return
        if not stat.S_ISREG(mode):  # a symbolic link could lead anywhere, a pipe would never end
            yield f"{name} is no regular file."
            return
        if stat.S_IMODE(mode) != 0o644:
            yield f"{name} has another mode than 0644."
        if blob := _BLOB.fullmatch(name):
            yield from self._look_at_blob(path, blob[1], blob[2])
        elif link := _LINK.fullmatch(name):
            target = path.read_text(errors="replace")
            expected = link["layer"] or link["revision"] or link["entry"]
            if not is_digest(target) or (expected and target != f"sha256:{expected}"):
                yield f"{name} contains something else than its digest."
                return
            repository, tag = link["name"], f"{link['name']}:{link['tag']}"
            if link["layer"]:
                self._layers.setdefault(repository, set()).add(target)
            elif link["revision"]:
                self._revisions.setdefault(repository, set()).add(target)
            elif link["entry"]:
                self._entries.setdefault(tag, set()).add(target)
            else:
                self._tags[tag] = target
        else:
            yield f"{name} does not belong there."

    def _look_at_blob(self, path: Path, prefix: str, name: str) -> Iterator[str]:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != name or not name.startswith(prefix):
            yield f"The blob sha256:{name} has another content: sha256:{digest}."
        self._blobs[f"sha256:{name}"] = path.stat().st_size

    def _look_at_manifest(self, repository: str, digest: str) -> Iterator[str]:
        if digest not in self._blobs:
            yield f"The manifest {digest} of {repository} is not there."
            return
        try:
            data = self._document(digest)
            blobs = [data["config"], *(data["layers"] or ())] if "layers" in data else []
            children = data.get("manifests") or []
            if repository.startswith(_CARRIERS):
                yield from self._look_at_carrier(repository, digest, data)
            elif children and SOURCE_DIGEST not in (data.get("annotations") or {}):
                # An index as its registry has it: it goes on naming platforms that nobody here wants.
                children = [c for c in children if c["digest"] in self._revisions[repository]]
                if not children:
                    yield f"The index {digest} of {repository} lists nothing that is there."
            yield from self._look_at_descriptors(repository, digest, blobs, self._layers.get(repository, set()))
            yield from self._look_at_descriptors(repository, digest, children, self._revisions[repository])
        except (ValueError, KeyError, TypeError, AttributeError):
            yield f"The manifest {digest} of {repository} cannot be read."

    def _look_at_carrier(self, repository: str, digest: str, data: dict[str, Any]) -> Iterator[str]:
        """Beside what is true of any manifest: nodes find its layers by their diff_ids, and it shows nothing else."""
        if "config" not in data or data["config"]["digest"] not in self._blobs:
            return
        config = self._document(data["config"]["digest"])
        if not config.keys() <= _CARRIER_CONFIG or config["config"].keys() != {"Labels"}:
            yield f"The carrier {digest} of {repository} tells more of the image than its layers."
        if len(config["rootfs"]["diff_ids"]) != len(data["layers"]):
            yield f"The carrier {digest} of {repository} has another number of diff_ids than layers."

    def _document(self, digest: str) -> Any:
        hexadecimal = digest.removeprefix("sha256:")
        return json.loads((self._tree / "blobs/sha256" / hexadecimal[:2] / hexadecimal / "data").read_bytes())

    def _look_at_descriptors(
        self, repository: str, digest: str, descriptors: list[dict[str, Any]], linked: set[str],
    ) -> Iterator[str]:
        for descriptor in descriptors:
            target = descriptor["digest"]
            if target == canary.MISSING and repository == canary.IMAGE:
                continue  # it is nowhere by intent
            if target not in linked:
                yield f"{repository} does not link to {target}, which its manifest {digest} needs."
            if self._blobs.get(target) != descriptor["size"]:
                yield f"{target} is missing or has another size than the manifest {digest} of {repository} says."
