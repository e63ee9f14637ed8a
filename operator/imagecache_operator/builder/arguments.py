# SPDX-License-Identifier: Apache-2.0
"""What a person may write for an option of the builder: callbacks of the options that `command.py` declares.

Every mistake ends in one sentence that names the option and says what to do instead, before anything is begun.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

from imagecache_operator.api import credentials, reference
from imagecache_operator.api.credentials import Credentials, InvalidCredentials
from imagecache_operator.api.reference import InvalidReference
from imagecache_operator.api.text import printable
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.layout import Layout
from imagecache_operator.builder.platforms import Platform

_MOST_IMAGES = 20


def images(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> tuple[str, ...]:
    """References, not too many, and none that means the same as another."""
    if len(texts) > _MOST_IMAGES:
        raise click.BadParameter(f"A cache has up to {_MOST_IMAGES} images, these are {len(texts)}.")
    seen: dict[str, str] = {}
    for text in texts:
        try:
            canonical = reference.parse(text).canonical
        except InvalidReference as error:
            raise click.BadParameter(str(error)) from None
        if canonical in seen:
            raise click.BadParameter(f"{seen[canonical]} and {text} are the same image: name it once.")
        seen[canonical] = text
    return tuple(texts)


def platforms(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> tuple[str, ...]:
    """`os/architecture[/variant]`."""
    for text in texts:
        try:
            Platform.parse(text)
        except ImageError as error:
            raise click.BadParameter(error.message) from None
    return tuple(texts)


def hosts(_: click.Context, __: click.Parameter, texts: Sequence[str]) -> tuple[str, ...]:
    """The part of a reference that names its registry."""
    for text in texts:
        try:
            host = reference.parse(f"{text}/x").host
        except InvalidReference:
            host = None
        if host != text.lower():
            raise click.BadParameter(
                f"'{printable(text)}' is no registry: write host or host:port, as it stands in the image's reference.",
            )
    return tuple(texts)


def auth_file(_: click.Context, __: click.Parameter, path: Path | None) -> Credentials | None:
    """The credentials in a file as `docker login` writes it."""
    if path is None:
        return None
    try:
        return Credentials(entries=credentials.parse(path.read_text(encoding="utf-8"), str(path)))
    except InvalidCredentials as error:
        said = str(error)
    except OSError as error:
        said = f"cannot be read ({os.strerror(error.errno or 0)})"
    except UnicodeError:
        said = "is no text"
    raise click.BadParameter(f"{path} {said}: name a config.json as `docker login` writes it.")


def volume(_: click.Context, __: click.Parameter, path: Path) -> Path:
    """A folder, or a place where one can be made."""
    if not (there := existing(path)).is_dir():
        raise click.BadParameter(f"{there} is no folder: name one, or a place for a new one.")
    return path


def new_file(_: click.Context, __: click.Parameter, path: Path | None) -> Path | None:
    """A file whose folder is there."""
    if path and not path.absolute().parent.is_dir():
        raise click.BadParameter(f"{path.parent} is no folder: make it, or name another file.")
    return path


def existing(path: Path) -> Path:
    """The path itself, or the nearest place above it where something is."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if os.path.lexists(place))


def check_writable(output: Path) -> None:
    """Makes the layout's folders. Raises BadParameter where nothing can be written; a full volume is none."""
    layout = Layout(output)
    try:
        layout.prepare()
        with layout.new_blob():
            pass
    except ImageError:
        pass
    except OSError as error:
        raise click.BadParameter(
            f"{output} cannot be written ({os.strerror(error.errno or 0)}): name a folder of yours.",
            param_hint="'--output'",
        ) from None
