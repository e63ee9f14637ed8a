# SPDX-License-Identifier: Apache-2.0
"""The command `builder`: what runs in the builder Pod, and what a person runs by hand.

In the Pod the job comes from the environment. By hand: `builder --image busybox:1.36 --output /tmp/cache`, and
`builder --check --output /tmp/cache` reads a volume again and compares every byte.
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
@click.option("--workers", type=click.IntRange(1, 32), default=4, show_default=True, help="Layers at the same time.")
@click.option("--termination-log", type=click.Path(path_type=Path), default=None,
              help=f"Where the outcome goes. [default: {KUBELET_FILE} if it exists]")
@click.option("--check", "check_only", is_flag=True, help="Pull nothing; verify what is there.")
def builder(
    images: tuple[str, ...], output: Path, platforms: tuple[str, ...], size: int, plain_http: tuple[str, ...],
    workers: int, termination_log: Path | None, check_only: bool,
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
    outcome = _outcome(images, output, platforms, size, plain_http, workers, lines)
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


def _outcome(
    images: tuple[str, ...], output: Path, platforms: tuple[str, ...], size: int, plain_http: tuple[str, ...],
    workers: int, lines: Lines,
) -> Outcome:
    try:
        job = BuildJob(
            images=images,
            platforms=platforms or (str(Platform.of("linux", platform.machine())),),
            capacity=size * GIB,
            plain_http=plain_http,
        ) if images else BuildJob.model_validate_json(os.environ[names.ENV_JOB])
    except KeyError:
        raise click.UsageError(f"--image is needed, or a job in {names.ENV_JOB}.") from None
    except ValidationError as error:
        where = ", ".join(".".join(map(str, mistake["loc"])) for mistake in error.errors())
        return Outcome(
            reason=Reason.INTERNAL, message=f"The builder cannot read its job ({printable(where)}): are operator "
            "and builder of one version?",
        )
    return _run(job, output, workers, lines)


def _run(job: BuildJob, output: Path, workers: int, lines: Lines) -> Outcome:
    os.umask(0o022)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if GZIP_LIBRARY == "zlib":
        log.warning("neither isal nor zlib-ng is there: decompression takes twice the time")
    ca_file = os.environ.get(names.ENV_CA_FILE) or None
    try:
        registries = Registries(stop, job.plain_http, ca_file, workers)
    except OSError:
        return Outcome(reason=Reason.TLS_FAILED, message=f"The file with extra authorities, {ca_file}, is unusable.")
    return build(job, output, registries, lines, stop, workers)


if __name__ == "__main__":
    builder()
