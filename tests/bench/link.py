# SPDX-License-Identifier: Apache-2.0
"""A slow link to a registry on the loopback interface: a process of its own that forwards TCP. Called by `builder`.

`slow_link` does it between hosts, where both ends have one port; here both ends are one host. The rate is that
module's, one allowance for all connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Iterator

from tests.support.install import REPOSITORY
from tests.support.slow_link.forward import CHUNK, Allowance

HOST = "127.0.0.1"


@contextlib.contextmanager
def slow_link(address: str, bytes_per_second: int) -> Iterator[str]:
    """Another address (host:port) of who listens at `address`."""
    port = address.rpartition(":")[2]
    command = [sys.executable, "-m", "tests.bench.link", port, str(bytes_per_second)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY,
    ) as process:
        if process.stdout is None:
            raise AssertionError("its output is a pipe")
        yield f"{HOST}:{process.stdout.readline().strip()}"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, allowance: Allowance | None) -> None:
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            if allowance:
                await allowance.spend(len(data))
            writer.write(data)
            await writer.drain()


async def main(port: int, bytes_per_second: int) -> None:
    """Prints the port that it takes; ends when its standard input does, so with whoever started it."""
    allowance = Allowance(bytes_per_second)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(_copy(reader, far_writer, None), _copy(far_reader, writer, allowance))

    server = await asyncio.start_server(connected, HOST)
    async with server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
