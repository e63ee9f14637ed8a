# SPDX-License-Identifier: Apache-2.0
"""Runs the builder in a process that dies at a chosen moment: `mortal.py COUNTER LAST_TOUCH --output VOLUME …`.

A moment is a touch of the volume: a file opened, a folder made, a name moved or removed. Just before touch number
LAST_TOUCH the process kills itself with SIGKILL (0: never). Choosing by time instead would, on a fast or slow machine,
hit the builder's start or its end only. Each touch adds a byte to the file COUNTER, so its size is how far it came.
"""

from __future__ import annotations

import os
import signal
import sys

from imagecache_operator.builder.command import builder

_TOUCHES = frozenset({"open", "os.mkdir", "os.rename", "os.remove"})


def main() -> None:
    counter = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
    last = int(sys.argv[2])
    del sys.argv[1:3]
    volume = sys.argv[sys.argv.index("--output") + 1]

    def touched(event: str, arguments: tuple[object, ...]) -> None:
        if event in _TOUCHES and str(arguments[0]).startswith(volume):
            os.write(counter, b".")
            if os.fstat(counter).st_size == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(touched)
    builder()


if __name__ == "__main__":
    main()
