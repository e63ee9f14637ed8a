# SPDX-License-Identifier: Apache-2.0
"""Puts the webhook together and runs it. Called by `__main__` with everything that it needs."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from pathlib import Path

from imagecache_operator import names
from imagecache_operator.admission.certificates import Certificates
from imagecache_operator.admission.server import serve
from imagecache_operator.admission.store import Store
from imagecache_operator.cluster.watching import Watched, follow

log = logging.getLogger(__name__)


def run(api: Watched, certificates: Path, port: int, metrics_port: int) -> None:
    """Run until SIGTERM or SIGINT. Raises OSError where a port is taken."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # its warnings would repeat ours
    store, stop = Store(), threading.Event()

    def watch() -> None:
        try:
            follow(api, names.KIND, store, stop)
        except Exception:
            # A mistake of ours. To answer from what gets older and older would hide it: the Pod starts again.
            log.exception("the watch has ended")
            os.kill(os.getpid(), signal.SIGTERM)

    # A daemon: at the end a watch that waits for its next event is not waited for.
    threading.Thread(target=watch, name="watch", daemon=True).start()
    try:
        asyncio.run(serve(store, Certificates(certificates), port, metrics_port))
    finally:
        stop.set()
