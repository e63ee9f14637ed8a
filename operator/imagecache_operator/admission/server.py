# SPDX-License-Identifier: Apache-2.0
"""HTTPS for the API server: `/mutate` for Pods that ask by annotation, `/mutate/auto` for those whose namespace asks
for them, `/healthz` for probes. Called by `webhook.py` with everything that it needs.

Two paths, because a review does not carry the labels of the Pod's namespace: of the two entries in the webhook
configuration, the one with a namespaceSelector uses the second.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from dataclasses import dataclass

from aiohttp import web
from aiohttp.http import HttpProcessingError

from imagecache_operator import names
from imagecache_operator.admission.certificates import Certificates
from imagecache_operator.admission.counters import Counters
from imagecache_operator.admission.review import UnreadableReview, answer
from imagecache_operator.admission.store import Store
from imagecache_operator.exposition import expose

log = logging.getLogger(__name__)

# What an API server takes itself; a larger body is answered with 413.
LARGEST_BODY = 3 * 1024 * 1024
# An answer is awaited for two seconds; longer than that nobody waits for one at the end.
LAST_ANSWERS = 3.0
# An API server drops connections that were idle for 90 s. Were we the first to, a review could meet the closing one.
KEEP_ALIVE = 120.0
_THEIRS = (HttpProcessingError, web.RequestPayloadError, ConnectionError)


@dataclass(frozen=True)
class Intervals:
    """Seconds between two looks at the certificate: while there is none, and later."""

    missing: float = 1.0
    present: float = 10.0


def application(store: Store, counters: Counters) -> web.Application:
    """What is served, without TLS."""

    async def mutate(request: web.Request) -> web.Response:
        auto, body = request.path == names.WEBHOOK_AUTO_PATH, await request.read()
        began = time.perf_counter()
        try:
            review, words, injection = answer(body, store.offers, store.namespace, auto)
        except UnreadableReview as error:
            log.warning("%s", error)
            return web.Response(status=400, text=f"{error}\n")
        counters.count(injection, time.perf_counter() - began)
        log.info("%s", words)
        return web.json_response(review)

    async def healthz(_: web.Request) -> web.Response:
        if store.offers is None:
            return web.Response(status=503, text="caches and namespaces are not known yet\n")
        return web.Response(text="ok\n")

    app = web.Application(client_max_size=LARGEST_BODY)
    app.add_routes([
        web.post(names.WEBHOOK_PODS_PATH, mutate), web.post(names.WEBHOOK_AUTO_PATH, mutate),
        web.get("/healthz", healthz),
    ])
    return app


async def serve(
    store: Store, certificates: Certificates, port: int, metrics_port: int, *, host: str | None = None,
    intervals: Intervals | None = None,
) -> None:
    """Answer until SIGTERM or SIGINT. Nothing listens before there is a certificate, but for `/metrics` at
    `metrics_port` (0: nowhere). Raises OSError where a port is taken."""
    intervals = intervals or Intervals()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    counters = Counters()
    runner = web.AppRunner(
        application(store, counters), access_log=None, shutdown_timeout=LAST_ANSWERS, keepalive_timeout=KEEP_ALIVE,
        logger=_http_log(), auto_decompress=False,  # reviews are not compressed; a body that says it is may be a bomb
    )
    await runner.setup()
    metrics = await expose(counters.registry, metrics_port, host) if metrics_port else None
    work = asyncio.create_task(_work(runner, certificates, port, host, intervals))
    ended = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((work, ended), return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            work.result()  # it never returns; it may raise
    finally:
        for task in (work, ended):
            task.cancel()
        await runner.cleanup()
        if metrics:
            await metrics.cleanup()


def _http_log() -> logging.Logger:
    """Of the HTTP server: mistakes of ours. To tell of whoever speaks no HTTP (he gets a 400) or hangs up would let
    anybody fill the log."""
    found = log.getChild("http")
    found.addFilter(_is_ours)
    return found


def _is_ours(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], _THEIRS))


async def _work(
    runner: web.AppRunner, certificates: Certificates, port: int, host: str | None, intervals: Intervals,
) -> None:
    await certificates.wait(intervals.missing)
    await web.TCPSite(runner, host, port, ssl_context=certificates.context).start()
    log.info("answering on port %d", port)
    await certificates.keep_loading(intervals.present)
