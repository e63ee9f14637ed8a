# SPDX-License-Identifier: Apache-2.0
"""The server's certificate, read again whenever it changes. The operator makes and renews it, `server.py` uses it."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

log = logging.getLogger(__name__)


class Certificates:
    """`tls.crt` and `tls.key` of a folder, in a context that stays the same: new connections get the new certificate,
    open ones go on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loaded: tuple[bytes, bytes] | None = None
        self._trouble = ""
        self.context = _empty_context()

    def load(self) -> bool:
        """Take the files where they are others than before; whether there is a certificate to serve with."""
        trouble = ""
        try:
            self._load()
        except FileNotFoundError:
            trouble = "" if self._loaded is None else "it is gone"
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            trouble = _words(error)
        if trouble and trouble != self._trouble:  # once, not at each look
            log.warning("the certificate in %s cannot be used: %s", self._folder, trouble)
        self._trouble = trouble
        return self._loaded is not None

    def _load(self) -> None:
        # A mounted Secret is swapped as a whole by a link: both files are taken behind the same one.
        folder = (self._folder / "tls.crt").resolve(strict=True).parent
        certificate, key = folder / "tls.crt", folder / "tls.key"
        if not (certificate.exists() and key.exists()):  # links to files of other names, as people make them
            certificate, key = self._folder / "tls.crt", self._folder / "tls.key"
        content = (certificate.read_bytes(), key.read_bytes())
        if content == self._loaded:
            return
        # Tried first elsewhere: a pair that does not fit would leave the context with half of it.
        for context in (_empty_context(), self.context):
            context.load_cert_chain(certificate, key, password=_no_password)
        if self._loaded is not None:
            log.info("the certificate in %s has been read again", self._folder)
        self._loaded = content

    async def wait(self, interval: float) -> None:
        """Returns when there is a certificate. `interval` in seconds."""
        if not self.load():
            log.info("waiting for a certificate in %s", self._folder)
            while not self.load():
                await asyncio.sleep(interval)

    async def keep_loading(self, interval: float) -> None:
        """Until cancelled. `interval` in seconds."""
        while True:
            await asyncio.sleep(interval)
            self.load()


def _empty_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask the terminal for the password of an encrypted key.
    return ""


def _words(error: Exception) -> str:
    """What is wrong, without anything of what is in the files."""
    return str(getattr(error, "reason", None) or getattr(error, "strerror", None) or type(error).__name__)
