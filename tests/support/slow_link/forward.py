# SPDX-License-Identifier: Apache-2.0
"""Forwards TCP at a limited rate: `forward.py TARGET PORT BYTES_PER_SECOND`. Runs inside a container (`slow_link`),
where only the standard library is there."""

from __future__ import annotations

import asyncio
import sys
import time

CHUNK = 16 * 1024


class Allowance:
    """One budget of bytes for all connections: whoever sends waits until what was sent before has been paid for."""

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._paid_until = time.monotonic()

    async def spend(self, count: int) -> None:
        self._paid_until = max(self._paid_until, time.monotonic()) + count / self._rate
        await asyncio.sleep(max(0.0, self._paid_until - time.monotonic()))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowance: Allowance | None) -> None:
    try:
        while data := await reader.read(CHUNK):
            if allowance:
                await allowance.spend(len(data))
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main(target: str, port: int, bytes_per_second: int) -> None:
    allowance = Allowance(bytes_per_second)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(target, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer, None), _copy(far_reader, writer, allowance))

    server = await asyncio.start_server(connected, "0.0.0.0", port)  # noqa: S104 - inside its container
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
