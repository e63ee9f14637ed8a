# SPDX-License-Identifier: Apache-2.0
"""Runs one command and tells what it took: `metered.py REPORT CORES COMMAND…` (0 cores: all). A program for `trial`.

A process of its own, with the standard library only, because the kernel counts the memory of whoever starts a program
into the program's peak: this one is smaller than anything that is measured.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main(report: str, cores: int, command: list[str]) -> None:
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    began = time.monotonic()
    _, status, usage = os.wait4(os.posix_spawnp(command[0], command, os.environ), 0)
    seconds = time.monotonic() - began
    with open(report, "w") as file:
        json.dump({
            "status": os.waitstatus_to_exitcode(status),
            "seconds": seconds,
            "cpu": usage.ru_utime + usage.ru_stime,
            "peak": usage.ru_maxrss * 1024,
        }, file)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
