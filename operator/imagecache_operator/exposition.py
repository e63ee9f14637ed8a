# SPDX-License-Identifier: Apache-2.0
"""Serves a program's metrics, in the text format of Prometheus: `/metrics`, plain HTTP, and nothing else.

The webhook and the operator call it, each with a registry of its own. There is nothing in it that is not for everybody:
counts, and words of closed sets; no name of a Pod, an image or a namespace.
"""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CollectorRegistry, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

PATH = "/metrics"


async def expose(registry: CollectorRegistry, port: int, host: str | None = None) -> web.AppRunner:
    """Listens until the runner is cleaned up. Raises OSError where the port is taken."""
    # They would be a second series for each counter, which this format knows no meaning of.
    disable_created_metrics()  # type: ignore[no-untyped-call]

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    application = web.Application()
    application.add_routes([web.get(PATH, metrics)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError:
        await runner.cleanup()
        raise
    return runner
