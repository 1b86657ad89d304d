"""`python -m benchmarks.vfork_rounds vfork|fork MIB`: rounds of children of a process with so much memory.

vfork is spawn_vfork of an empty callable with its result, fork is os.fork, os._exit and os.waitpid.
"""

from __future__ import annotations

import os
import sys

from benchmarks.driven_rounds import serve
from pytest_procsemantics import Vfork

PIECE = 1 << 16  # bytes, as the objects of a program: no huge pages


def nothing() -> None:
    pass


def fork() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    memory = [b"x" * PIECE for _ in range((int(sys.argv[2]) << 20) // PIECE)]
    with Vfork() as vfork:
        serve({"vfork": lambda: vfork(nothing).result(), "fork": fork}[sys.argv[1]])
