# SPDX-License-Identifier: Apache-2.0
"""The command `builder`: what runs in the builder Pod, and what a person runs by hand.

In the Pod the job comes from the environment. By hand: `builder --image busybox:1.36 --output /tmp/cache`, and
`builder --check --output /tmp/cache` reads a volume again and compares every byte. In the Pod the credentials are a
file that the operator has made from users' Secrets; by hand they are what `docker login` writes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import signal
import sys
import threading
from pathlib import Path

import click
from pydantic import ValidationError

from imagecache_operator import names
from imagecache_operator.api import credentials
from imagecache_operator.api.credentials import Credentials, InvalidCredentials
from imagecache_operator.api.job import GIB, BuildJob
from imagecache_operator.api.reasons import Reason
from imagecache_operator.api.report import Outcome
from imagecache_operator.builder.build import build
from imagecache_operator.builder.check import check
from imagecache_operator.builder.errors import printable
from imagecache_operator.builder.inflate import GZIP_LIBRARY
from imagecache_operator.builder.platforms import Platform
from imagecache_operator.builder.registry import Registries
from imagecache_operator.builder.report import Lines, LogLines, write_termination_message

log = logging.getLogger(__name__)

KUBELET_FILE = Path("/dev/termination-log")


@click.command("builder")
@click.option("--image", "images", multiple=True, metavar="REFERENCE", help="An image to pull; may be repeated.")
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path(names.VOLUME_PATH), show_default=True,
    help="The volume's folder.",
)
@click.option("--platform", "platforms", multiple=True, metavar="OS/ARCH", help="A platform; may be repeated. "
              "[default: this machine's]")
@click.option("--size", type=click.IntRange(min=1), default=400, show_default=True, help="GiB that may be used.")
@click.option("--plain-http", multiple=True, metavar="HOST", help="A registry without TLS; may be repeated.")
@click.option("--docker-config", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=None,
              help="A config.json with credentials of registries, as `docker login` writes it.")
@click.option("--workers", type=click.IntRange(1, 32), default=4, show_default=True, help="Layers at the same time.")
@click.option("--termination-log", type=click.Path(path_type=Path), default=None,
              help=f"Where the outcome goes. [default: {KUBELET_FILE} if it exists]")
@click.option("--check", "check_only", is_flag=True, help="Pull nothing; verify what is there.")
def builder(
    images: tuple[str, ...], output: Path, platforms: tuple[str, ...], size: int, plain_http: tuple[str, ...],
    docker_config: Path | None, workers: int, termination_log: Path | None, check_only: bool,
) -> None:
    """Pulls images onto a volume, verified. The job comes from the environment or from --image."""
    if check_only:
        problems = check(output)
        for problem in problems:
            click.echo(printable(problem, 500))
        sys.exit(1 if problems else 0)
    lines = Lines(sys.stdout)
    logging.basicConfig(level=logging.INFO, handlers=[LogLines(lines)], force=True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings show whole URLs
    try:
        job = _job(images, platforms, size, plain_http)
        outcome = _run(job, _credentials(docker_config), output, workers, lines)
    except ValidationError as error:
        where = ", ".join(".".join(map(str, mistake["loc"])) for mistake in error.errors())
        outcome = Outcome(
            reason=Reason.INTERNAL, message=f"The builder cannot read its job ({printable(where)}): are operator "
            "and builder of one version?",
        )
    target = termination_log or (KUBELET_FILE if KUBELET_FILE.exists() else None)
    if target:
        # Without the file the operator still sees the exit code.
        with contextlib.suppress(OSError):
            write_termination_message(target, outcome)
    if outcome.message:
        log.error("%s", outcome.message)
    log.info("%d of %d images are complete", sum(i.reason is None for i in outcome.images), len(outcome.images))
    sys.stdout.flush()
    # Threads that hang in a socket must not hold up the end; all files are closed or temporary by now.
    os._exit(0 if outcome.succeeded else 1)


def _job(
    images: tuple[str, ...], platforms: tuple[str, ...], size: int, plain_http: tuple[str, ...],
) -> BuildJob:
    if images:
        own = str(Platform.of("linux", platform.machine()))
        return BuildJob(
            images=images, platforms=platforms or (own,), capacity=size * GIB, plain_http=plain_http,
        )
    if names.ENV_JOB not in os.environ:
        raise click.UsageError(f"--image is needed, or a job in {names.ENV_JOB}.")
    return BuildJob.model_validate_json(os.environ[names.ENV_JOB])


def _credentials(docker_config: Path | None) -> Credentials:
    if docker_config:
        try:
            return Credentials(entries=credentials.parse(docker_config.read_text(), str(docker_config)))
        except (InvalidCredentials, OSError, UnicodeError) as error:
            said = error if isinstance(error, InvalidCredentials) else "cannot be read"
            raise click.UsageError(f"{docker_config} {said}.") from None
    file = os.environ.get(names.ENV_CREDENTIALS_FILE)
    return Credentials.model_validate_json(Path(file).read_bytes()) if file else Credentials()


def _run(job: BuildJob, logins: Credentials, output: Path, workers: int, lines: Lines) -> Outcome:
    os.umask(0o022)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if GZIP_LIBRARY == "zlib":
        log.warning("neither isal nor zlib-ng is there: decompression takes twice the time")
    ca_file = os.environ.get(names.ENV_CA_FILE) or None
    try:
        registries = Registries(stop, job.plain_http, ca_file, workers, credentials=logins)
    except OSError:
        return Outcome(reason=Reason.TLS_FAILED, message=f"The file with extra authorities, {ca_file}, is unusable.")
    return build(job, output, registries, lines, stop, workers)


if __name__ == "__main__":
    builder()
