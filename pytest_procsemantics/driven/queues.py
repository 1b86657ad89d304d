"""Message queues of POSIX that no other program can find (mq_overview(7))."""

from __future__ import annotations

from pytest_procsemantics.driven.constants import O_CREAT, O_RDWR
from pytest_procsemantics.driven.process import Process


def new_queue(process: Process) -> int:
    """A message queue whose name is gone already: its descriptor, which exec closes. Source: mq_open(3)."""
    # It stands behind a slash, as the C library passes it: QEMU's emulation looks for that.
    text = f"/procsem-{process.pid}\0".encode()
    name = process.allocate(len(text)) + 1
    process.store(name - 1, text)
    queue = process.sys.mq_open(name, O_RDWR | O_CREAT)
    process.sys.mq_unlink(name)
    return int(queue)
