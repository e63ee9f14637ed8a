# SPDX-License-Identifier: Apache-2.0
"""The images that tests cache, and everything about them that a test may want to assert.

Small ones made of real files, one of each kind that registries serve: OCI and Docker schema 2, gzip and zstd
layers, several platforms, shared bases. All of them run, as a user who is not root and with a read-only root
file system. Called by `upstream`, which puts them into a registry, and by tests, which compare what they find
with the digests that are known here.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from .layers import Compression, Layer, make_layer, modules, programs, sample, sha256, store

Format = Literal["oci", "docker"]
ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
BUDGET = 24 * 2**20  # raw bytes of a layer that is a sample of a large folder

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST: dict[Format, str] = {
    "oci": "application/vnd.oci.image.manifest.v1+json",
    "docker": "application/vnd.docker.distribution.manifest.v2+json",
}
CONFIG: dict[Format, str] = {
    "oci": "application/vnd.oci.image.config.v1+json",
    "docker": "application/vnd.docker.container.image.v1+json",
}
LAYER: dict[tuple[Format, Compression], str] = {
    ("oci", "gzip"): "application/vnd.oci.image.layer.v1.tar+gzip",
    ("oci", "gzip-members"): "application/vnd.oci.image.layer.v1.tar+gzip",
    ("oci", "zstd"): "application/vnd.oci.image.layer.v1.tar+zstd",
    ("oci", "zstd-frames"): "application/vnd.oci.image.layer.v1.tar+zstd",
    ("docker", "gzip"): "application/vnd.docker.image.rootfs.diff.tar.gzip",
    ("docker", "gzip-members"): "application/vnd.docker.image.rootfs.diff.tar.gzip",
}
IN_TOTO = "application/vnd.in-toto+json"


def machine_architecture() -> str:
    return ARCHITECTURES[platform.machine().lower()]


@dataclass(frozen=True)
class Blob:
    """What a manifest refers to, as a file."""

    digest: str
    size: int
    path: Path


@dataclass(frozen=True)
class Manifest:
    """One manifest, as a registry stores it, and the blobs that must be there before it."""

    media_type: str
    data: bytes
    blobs: tuple[Blob, ...]

    @cached_property
    def digest(self) -> str:
        return sha256(self.data)


@dataclass(frozen=True)
class PlatformImage:
    """An image for one platform."""

    architecture: str
    manifest: Manifest
    config: Blob
    layers: tuple[Layer, ...]

    @property
    def diff_ids(self) -> tuple[str, ...]:
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def layer_digests(self) -> tuple[str, ...]:
        return tuple(layer.digest for layer in self.layers)

    @property
    def compressed_size(self) -> int:
        return sum(layer.size for layer in self.layers)

    @property
    def raw_size(self) -> int:
        return sum(layer.raw_size for layer in self.layers)


@dataclass(frozen=True)
class Image:
    """What a tag names: the manifest of one platform, or an index and the manifests it lists."""

    name: str  # team/app:2.1
    top: Manifest
    platforms: tuple[PlatformImage, ...]
    attestations: tuple[Manifest, ...] = ()

    @property
    def repository(self) -> str:
        return self.name.rpartition(":")[0]

    @property
    def tag(self) -> str:
        return self.name.rpartition(":")[2]

    @property
    def digest(self) -> str:
        return self.top.digest

    @property
    def own(self) -> PlatformImage:
        """The image that this machine's architecture runs."""
        return next(p for p in self.platforms if p.architecture == machine_architecture())

    @property
    def manifests(self) -> tuple[Manifest, ...]:
        """In the order in which a registry takes them: what an index lists first, the tagged one last."""
        listed = (*(p.manifest for p in self.platforms), *self.attestations)
        return (*(m for m in listed if m != self.top), self.top)


def make_images(folder: Path) -> dict[str, Image]:
    """All the images by name. Blobs are kept in `folder`; with them there, it takes half a second."""
    library = Path(sysconfig.get_path("stdlib"))
    machine = machine_architecture()
    other = "arm64" if machine == "amd64" else "amd64"

    base = make_layer(folder, programs("sleep"), "gzip")
    tools = make_layer(folder, programs("sh", "cat", "ls", "sha256sum", "env"), "gzip")
    code = make_layer(folder, modules("app", "asyncio", "email", "unittest", "xml"), "gzip")
    binaries = make_layer(folder, sample("app/bin", Path("/usr/bin"), "[a-m]*", BUDGET), "gzip-members")
    pages = make_layer(folder, modules("srv", "html", "http", "urllib", "wsgiref", "pydoc_data"), "zstd")
    assets = make_layer(folder, sample("srv/bin", Path("/usr/bin"), "[n-z]*", BUDGET), "zstd-frames")
    here = make_layer(folder, modules("opt", "json", "logging", "sqlite3"), "gzip")
    elsewhere = make_layer(folder, modules("opt", "ctypes", "multiprocessing", "importlib"), "gzip")
    data = make_layer(folder, sample("data", library, "*.py", BUDGET), "gzip")

    multi = [
        _platform(folder, machine, [base, here]),
        _platform(folder, other, [elsewhere, data]),
    ]
    images = (
        _single("base/tools:1.0", _platform(folder, machine, [base, tools])),
        _single("team/app:2.1", _platform(folder, machine, [base, tools, code, binaries], "docker")),
        _single("team/web:zstd", _platform(folder, machine, [base, pages, assets])),
        _index(folder, "team/multi:1.0", multi),
        _single("data/only:5", _platform(folder, machine, [base, data])),
    )
    return {image.name: image for image in images}


def never_seen(folder: Path, name: str, words: str) -> Image:
    """An image that sleeps, with a layer of these words: where they are new, no node has it under any name."""
    text = folder / "words"
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text(words)
    layers = [make_layer(folder, programs("sleep"), "gzip"), make_layer(folder, {"words": text}, "gzip")]
    return _single(name, _platform(folder, machine_architecture(), layers))


def declare_larger(image: Image, name: str, size: int) -> Image:
    """The same blobs under a manifest that gives every layer this size: for checks before the first layer.

    Such an image can't be pulled: what arrives is shorter than what was declared.
    """
    document = json.loads(image.own.manifest.data)
    for layer in document["layers"]:
        layer["size"] = size
    manifest = dataclasses.replace(image.own.manifest, data=_json(document))
    return _single(name, dataclasses.replace(image.own, manifest=manifest))


def _single(name: str, content: PlatformImage) -> Image:
    return Image(name, content.manifest, (content,))


def _platform(folder: Path, architecture: str, layers: Sequence[Layer], image_format: Format = "oci") -> PlatformImage:
    config = _document(
        folder,
        {
            "architecture": architecture,
            "os": "linux",
            "config": {
                "User": "65534:65534",
                "Entrypoint": ["/bin/sleep", "3600"],
                "Env": ["PATH=/bin"],
                "StopSignal": "SIGKILL",  # sleep as PID 1 ignores SIGTERM: Pods would take 30 s to end
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created_by": "imagecache test images"} for _ in layers],
        },
    )
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST[image_format],
        "config": _descriptor(CONFIG[image_format], config),
        "layers": [_descriptor(LAYER[image_format, layer.compression], layer) for layer in layers],
    }
    blobs = (config, *(Blob(layer.digest, layer.size, layer.path) for layer in layers))
    manifest = Manifest(MANIFEST[image_format], _json(document), blobs)
    return PlatformImage(architecture, manifest, config, tuple(layers))


def _index(folder: Path, name: str, contents: Sequence[PlatformImage]) -> Image:
    """An index as BuildKit writes it: an attestation for every image, listed under a platform unknown."""
    attestations = tuple(_attestation(folder, content) for content in contents)
    entries: list[dict[str, Any]] = [
        {
            **_descriptor(content.manifest.media_type, content.manifest),
            "platform": {"architecture": content.architecture, "os": "linux"},
        }
        for content in contents
    ]
    entries += [
        {
            **_descriptor(attestation.media_type, attestation),
            "annotations": {
                "vnd.docker.reference.digest": content.manifest.digest,
                "vnd.docker.reference.type": "attestation-manifest",
            },
            "platform": {"architecture": "unknown", "os": "unknown"},
        }
        for content, attestation in zip(contents, attestations, strict=True)
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Image(name, Manifest(OCI_INDEX, _json(document), ()), tuple(contents), attestations)


def _attestation(folder: Path, content: PlatformImage) -> Manifest:
    statement = _document(
        folder,
        {
            "_type": "https://in-toto.io/Statement/v0.1",
            "predicateType": "https://slsa.dev/provenance/v0.2",
            "subject": [{"name": "_", "digest": {"sha256": content.manifest.digest.removeprefix("sha256:")}}],
            "predicate": {"builder": {"id": ""}, "buildType": "imagecache test images"},
        },
    )
    config = _document(
        folder,
        {
            "architecture": "unknown",
            "os": "unknown",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [statement.digest]},
        },
    )
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST["oci"],
        "config": _descriptor(CONFIG["oci"], config),
        "layers": [_descriptor(IN_TOTO, statement)],
    }
    return Manifest(MANIFEST["oci"], _json(document), (config, statement))


def _descriptor(media_type: str, target: Blob | Layer | Manifest) -> dict[str, Any]:
    size = len(target.data) if isinstance(target, Manifest) else target.size
    return {"mediaType": media_type, "digest": target.digest, "size": size}


def _document(folder: Path, content: dict[str, Any]) -> Blob:
    data = _json(content)
    digest = sha256(data)
    path = folder / f"{digest.removeprefix('sha256:')}.json"
    if not path.exists():
        store(path, data)
    return Blob(digest, len(data), path)


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
