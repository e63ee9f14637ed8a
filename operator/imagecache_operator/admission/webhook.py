# SPDX-License-Identifier: Apache-2.0
"""Puts the webhook together and runs it. Called by `__main__` with everything that it needs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from imagecache_operator import names
from imagecache_operator.admission.certificates import Certificates
from imagecache_operator.admission.server import serve
from imagecache_operator.admission.store import Store
from imagecache_operator.cluster.watching import ListedMetadata, Watched, follow, follow_metadata

log = logging.getLogger(__name__)


class WatchedApi(Watched, ListedMetadata, Protocol):
    """What the webhook needs of an API server; `client.Client` has it."""


def run(api: WatchedApi, certificates: Path, port: int, metrics_port: int) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError where a port is taken."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings would repeat ours
    store, stop = Store(), threading.Event()

    _in_a_thread("caches", lambda: follow(api, names.KIND, store.caches, stop))
    _in_a_thread("namespaces", lambda: follow_metadata(api, "Namespace", store.namespaces, stop))
    try:
        asyncio.run(serve(store, Certificates(certificates), port, metrics_port))
    finally:
        stop.set()


def _in_a_thread(what: str, watch: Callable[[], None]) -> None:
    def guarded() -> None:
        try:
            watch()
        except Exception:
            # A mistake of ours. To answer from what gets older and older would hide it: the Pod starts again.
            log.exception("the watch of %s has ended", what)
            os.kill(os.getpid(), signal.SIGTERM)

    # A daemon: at the end a watch that waits for its next event is not waited for.
    threading.Thread(target=guarded, name=f"watch {what}", daemon=True).start()
