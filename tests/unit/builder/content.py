# SPDX-License-Identifier: Apache-2.0
"""Content as attackers and broken tools make it, put into a `FaultyRegistry`, and what must be true after any of it.

The tests of content, of injected names and their fuzz tests call it. `Bench` always builds between two good images:
whatever the one in the middle is, they must not notice.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.reference import parse
from imagecache_operator.api.report import TERMINATION_MESSAGE_LIMIT, ImageOutcome, Outcome
from imagecache_operator.builder.check import check
from imagecache_operator.builder.layout import OWN_FOLDER, TREE, Layout
from imagecache_operator.builder.report import Lines, LogLines

from .conftest import Run
from .faulty import OCI_MANIFEST, FaultyRegistry, SmallImage, sha256

OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_TAR = "application/vnd.oci.image.layer.v1.tar"

packed = partial(gzip.compress, mtime=0)
GOOD = [SmallImage([b"good %d " % number * 500, b"shared " * 500], compress=packed) for number in (1, 2)]


def descriptor(media_type: str, data: bytes, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


def entry(image: SmallImage, **more: Any) -> dict[str, Any]:
    """What an index says of the image; with `platform=None` not for which platform it is."""
    said = {"platform": {"os": "linux", "architecture": image.architecture}, **more}
    return descriptor(OCI_MANIFEST, image.body, **{key: value for key, value in said.items() if value is not None})


def named(row: str) -> str:
    """A repository for what a table calls its row."""
    return re.sub("[^a-z0-9]+", "-", row.lower())


def image_of(blob: bytes, tar: bytes, kind: str = f"{OCI_TAR}+gzip") -> SmallImage:
    """An image whose only layer is this blob and, as its config says, holds this tar."""
    image = SmallImage([tar], compress=lambda _: blob)
    image.manifest["layers"][0]["mediaType"] = kind
    return image


@dataclass
class Bench:
    """Two good images and the place for one more."""

    faulty: FaultyRegistry
    run: Run
    volume: Path
    output: io.StringIO
    pulled: set[tuple[str, str]] = field(default_factory=set)  # where an image must be on the volume

    def put(self, name: str, document: bytes | dict[str, Any], kind: str = "application/json", tag: str = "1") -> str:
        """A manifest or index as it is; returns its reference."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        for key in (tag, sha256(body)):
            self.faulty.documents[f"/v2/{name}/manifests/{key}"] = (kind, body)
        return f"{self.faulty.address}/{name}:{tag}"

    def put_blob(self, name: str, data: bytes) -> None:
        self.faulty.documents[f"/v2/{name}/blobs/{sha256(data)}"] = ("application/octet-stream", data)

    def build(self, *references: str, **options: Any) -> tuple[ImageOutcome, ...]:
        """How these images ended, once it is seen that nothing else came of it."""
        good = [self.faulty.add(f"good/{place}", image) for place, image in enumerate(GOOD)]
        with _logged_to(self.output):
            outcome = self.run(good[0], *references, good[1], **options)
        assert [i.reason for i in (outcome.images[0], outcome.images[-1])] == [None, None], outcome
        assert check(self.volume) == []
        self._look_at_the_report(outcome)
        ended = zip((good[0], *references, good[1]), outcome.images, strict=True)
        for reference, image in ended:
            if not image.reason:
                self.pulled.add(_place(reference))
                assert self._link(parse(reference).carrier_repository, parse(reference).stored_tag) == image.carrier
        assert self.tags() == self.pulled
        assert {path.name for path in self.volume.iterdir()} == {TREE.parts[0], OWN_FOLDER}
        return outcome.images[1:-1]

    def takes(self, *references: str, **options: Any) -> None:
        assert [(r, i) for r, i in self._in_jobs(references, options) if i.reason] == []

    def refuses(self, reference: str, reason: Reason, *words: str, **options: Any) -> None:
        """The builder does not take the image, for this reason and with all these words."""
        self.refuses_all({reference: words}, reason, **options)

    def refuses_all(self, expected: Mapping[str, Collection[str]], reason: Reason, **options: Any) -> None:
        """The same for several, each with words of its own."""
        for reference, result in self._in_jobs(expected, options):
            assert result.reason is reason, (reference, result)
            assert [word for word in expected[reference] if word not in result.message] == [], (reference, result)

    def _in_jobs(self, references: Collection[str], options: dict[str, Any]) -> Iterator[tuple[str, ImageOutcome]]:
        """As many to a job as there may be beside the two good ones."""
        waiting = list(references)
        while some := waiting[:18]:
            waiting = waiting[18:]
            yield from zip(some, self.build(*some, **options), strict=True)

    def asked(self) -> list[str]:
        """What the registry was asked for, without the repository."""
        return ["/".join(path.split("/")[-2:]) for path in self.faulty.paths()]

    def tags(self) -> set[tuple[str, str]]:
        """Repository and tag of every image on the volume, carriers and the canary left out."""
        home = self.volume / TREE / "repositories"
        found = {(str(tag.parents[2].relative_to(home)), tag.name) for tag in home.rglob("_manifests/tags/*")}
        return {(repository, tag) for repository, tag in found if not repository.startswith(("carrier/", "canary/"))}

    def stored(self, reference: str) -> Any:
        """The manifest or index that a reader of the volume gets for the reference."""
        return json.loads(Layout(self.volume).blob_path(self._link(*_place(reference)) or "").read_bytes())

    def _link(self, repository: str, tag: str) -> str | None:
        """The digest that the tag points to."""
        link = self.volume / TREE / "repositories" / repository / "_manifests/tags" / tag / "current/link"
        return link.read_text() if link.exists() else None

    def _look_at_the_report(self, outcome: Outcome) -> None:
        lines = self.output.getvalue().split("\n")
        assert lines.pop() == ""
        assert all(line.isprintable() and isinstance(json.loads(line), dict) for line in lines)
        assert all(i.message.isprintable() and i.message.endswith(".") for i in outcome.images if i.reason)
        message = outcome.to_termination_message()
        assert len(message.encode()) <= TERMINATION_MESSAGE_LIMIT
        assert [(i.reason, i.digest, i.carrier) for i in Outcome.from_termination_message(message).images] == [
            (i.reason, i.digest, i.carrier) for i in outcome.images
        ]


def _place(reference: str) -> tuple[str, str]:
    found = parse(reference)
    return found.stored_repository, found.stored_tag


@contextlib.contextmanager
def _logged_to(output: io.StringIO) -> Iterator[None]:
    """As the command `builder` logs."""
    logger, handler = logging.getLogger("imagecache_operator"), LogLines(Lines(output))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
