# SPDX-License-Identifier: Apache-2.0
"""The command `builder`: what runs in the builder Pod, and what a person runs by hand.

In the Pod the job comes from the environment, and reports are JSON lines. By hand:
`builder --image busybox:1.36 --output /tmp/cache` pulls, with bars in a terminal; `--plan` tells what that would fetch,
and `--check` reads a volume again and compares every byte. In the Pod the credentials are a file that the operator has
made from users' Secrets; by hand they are what `docker login` writes.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from pydantic import ValidationError

from imagecache_operator import names
from imagecache_operator.api.credentials import Credentials
from imagecache_operator.api.job import GIB, WORKERS, BuildJob, StoredAs
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.api.text import printable
from imagecache_operator.builder import arguments
from imagecache_operator.builder.build import build
from imagecache_operator.builder.errors import ImageError
from imagecache_operator.builder.inflate import GZIP_LIBRARY
from imagecache_operator.builder.patience import Limits
from imagecache_operator.builder.platforms import Platform
from imagecache_operator.builder.registry import Registries
from imagecache_operator.builder.report import Lines, LogLines, Reporter, write_termination_message
from imagecache_operator.builder.stop import Stop

if TYPE_CHECKING:
    from imagecache_operator.builder.terminal import Terminal

log = logging.getLogger(__name__)

KUBELET_FILE = Path("/dev/termination-log")

_LIMITS = Limits()


@dataclass(frozen=True)
class _Request:
    """What was asked for."""

    job: BuildJob
    logins: Credentials
    output: Path
    workers: int
    limits: Limits
    stop: Stop

    def registries(self) -> Registries:
        """Raises ImageError for authorities that cannot be read."""
        ca_file = os.environ.get(names.ENV_CA_FILE) or None
        try:
            return Registries(
                self.stop.event, self.job.plain_http, ca_file, workers=self.workers, limits=self.limits,
                credentials=self.logins,
            )
        except OSError:
            raise ImageError(
                Reason.TLS_FAILED, f"The file with extra authorities, {ca_file}, is unusable.",
            ) from None


@click.command("builder")
@click.option("--image", "images", multiple=True, callback=arguments.images, metavar="REFERENCE",
              help="An image to pull; may be repeated.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), callback=arguments.volume,
              default=Path(names.VOLUME_PATH), show_default=True, metavar="FOLDER", help="The volume's folder.")
@click.option("--platform", "platforms", multiple=True, callback=arguments.platforms, metavar="OS/ARCH",
              help="A platform; may be repeated. [default: this machine's]")
@click.option("--stored-as", type=click.Choice([*map(str, StoredAs)]), default=str(StoredAs.DECOMPRESSED),
              show_default=True, help="The form of the layers on the volume.")
@click.option("--size", type=click.IntRange(min=1), default=400, show_default=True, metavar="GIB",
              help="GiB that may be used.")
@click.option("--auth-file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
              callback=arguments.auth_file, metavar="FILE",
              help="A config.json with credentials of registries, as `docker login` writes it.")
@click.option("--plain-http", multiple=True, callback=arguments.hosts, metavar="HOST",
              help="A registry without TLS; may be repeated.")
@click.option("--workers", type=click.IntRange(1, 32), default=WORKERS, show_default=True,
              help="Layers at the same time.")
@click.option("--connections", type=click.IntRange(1, 32),
              help="Connections to one registry at the same time. [default: one for each worker]")
@click.option("--retries", type=click.IntRange(0, 20), default=_LIMITS.failures_in_a_row - 1, show_default=True,
              help="How often in a row what failed is tried again.")
@click.option("--stall-timeout", type=click.FloatRange(min=0, min_open=True), default=_LIMITS.stall, show_default=True,
              metavar="SECONDS", help="How long a registry may be silent before that counts as a failure.")
@click.option("--deadline", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS",
              help="The whole run ends by then; images that are complete stay. [default: none]")
@click.option("--log-format", type=click.Choice(["auto", "json", "text"]), default="auto", show_default=True,
              help="text: for people; auto: text in a terminal.")
@click.option("--termination-log", type=click.Path(dir_okay=False, writable=True, path_type=Path),
              callback=arguments.new_file, metavar="FILE",
              help=f"Where the outcome goes, as JSON. [default: {KUBELET_FILE} if it exists]")
@click.option("--plan", "plan_only", is_flag=True, help="Pull nothing; tell what would come, and how large it is.")
@click.option("--check", "check_only", is_flag=True, help="Pull nothing; verify what is there.")
def builder(
    images: tuple[str, ...], output: Path, platforms: tuple[str, ...], stored_as: str, size: int,
    auth_file: Credentials | None, plain_http: tuple[str, ...], workers: int, connections: int | None, retries: int,
    stall_timeout: float, deadline: float | None, log_format: str, termination_log: Path | None, plan_only: bool,
    check_only: bool,
) -> None:
    """Pulls images onto a volume, verified. The job comes from the environment or from --image."""
    if check_only and plan_only:
        raise click.UsageError("--check reads what is there, --plan what would come: give one of them.")
    if check_only:
        _end(_check(output))
    text = sys.stdout.isatty() if log_format == "auto" else log_format == "text"
    stop = Stop(deadline)
    try:
        job = _by_hand(images, platforms, stored_as, size, plain_http) if images else _from_environment()
        limits = Limits(stall=stall_timeout, connections=connections, failures_in_a_row=retries + 1)
        request = _Request(job, auth_file or _credentials(), output, workers, limits, stop)
        if plan_only:
            _end(_plan(request, text))
        if images:
            arguments.check_writable(output)
        outcome = _build_before_a_person(request) if text else _build(request, Lines(sys.stdout))
    except ImageError as error:
        if plan_only:
            raise click.UsageError(error.message) from None
        outcome = Outcome(reason=error.reason, message=error.message)
        if text:
            click.echo(f"error: {error.message}")
        else:
            Lines(sys.stdout).log("error", error.message)
    target = termination_log or (KUBELET_FILE if KUBELET_FILE.exists() else None)
    if target:
        # Without the file the operator still sees the exit code.
        with contextlib.suppress(OSError):
            write_termination_message(target, outcome)
    _end(outcome.succeeded)


def _check(output: Path) -> bool:
    from imagecache_operator.builder.check import check  # a build needs neither this nor `estimate`

    problems = check(output)
    for problem in problems:
        click.echo(printable(problem, 500))
    return not problems


def _by_hand(
    images: tuple[str, ...], platforms: tuple[str, ...], stored_as: str, size: int, plain_http: tuple[str, ...],
) -> BuildJob:
    own = str(Platform.of("linux", platform.machine()))
    return BuildJob(
        images=images, platforms=platforms or (own,), stored_as=StoredAs(stored_as), capacity=size * GIB,
        plain_http=plain_http,
    )


def _from_environment() -> BuildJob:
    """The job that the operator gave the Pod. Raises ImageError."""
    if names.ENV_JOB not in os.environ:
        raise click.UsageError(f"--image is needed, or a job in {names.ENV_JOB}.")
    try:
        return BuildJob.model_validate_json(os.environ[names.ENV_JOB])
    except ValidationError as error:
        raise _unreadable("job", error) from None


def _credentials() -> Credentials:
    """What the operator gave the Pod. Raises ImageError."""
    file = os.environ.get(names.ENV_CREDENTIALS_FILE)
    try:
        return Credentials.model_validate_json(Path(file).read_bytes()) if file else Credentials()
    except ValidationError as error:
        raise _unreadable("credentials", error) from None
    except OSError as error:
        raise ImageError(
            Reason.INTERNAL, f"The file with credentials, {file}, cannot be read: {os.strerror(error.errno or 0)}.",
        ) from None


def _unreadable(what: str, error: ValidationError) -> ImageError:
    where = ", ".join(".".join(map(str, mistake["loc"])) for mistake in error.errors())
    return ImageError(
        Reason.INTERNAL,
        f"The builder cannot read its {what} ({printable(where)}): are operator and builder of one version?",
    )


def _plan(request: _Request, text: bool) -> bool:
    """Prints the plan; whether nothing speaks against a build."""
    from imagecache_operator.builder.estimate import estimate

    job, stop = request.job, request.stop
    found = stop.estimate(estimate(job, request.output, request.registries(), stop.event, request.workers))
    if text:
        _terminal(job).estimate(found)
    else:
        click.echo(json.dumps(found.model_dump(mode="json", by_alias=True), indent=2))
    return found.promising


def _build_before_a_person(request: _Request) -> Outcome:
    with _terminal(request.job) as terminal:
        outcome = _build(request, terminal)
    terminal.outcome(outcome)
    return outcome


def _terminal(job: BuildJob) -> Terminal:
    from imagecache_operator.builder.terminal import Terminal  # rich: in a Pod nothing imports it

    return Terminal(sys.stdout, job.images)


def _build(request: _Request, reporter: Reporter) -> Outcome:
    """The outcome; everything is told on the way. Raises ImageError where nothing could be begun."""
    logging.basicConfig(level=logging.INFO, handlers=[LogLines(reporter)], force=True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings show whole URLs
    os.umask(0o022)
    if GZIP_LIBRARY == "zlib":
        log.warning("neither isal nor zlib-ng is there: decompression takes twice the time")
    stop = request.stop
    outcome = build(request.job, request.output, request.registries(), reporter, stop.event, request.workers)
    outcome = stop.outcome(outcome)
    if outcome.message:
        log.error("%s", outcome.message)
    log.info("%d of %d images are complete", sum(i.reason is None for i in outcome.images), len(outcome.images))
    return outcome


def _end(well: bool) -> NoReturn:
    """Threads that hang in a socket must not hold up the end; all files are closed or temporary by now."""
    with contextlib.suppress(OSError):  # a reader that went away
        sys.stdout.flush()
    os._exit(0 if well else 1)


if __name__ == "__main__":
    builder()
