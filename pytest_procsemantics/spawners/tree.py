"""A process and its descendants, ended so that none escapes.

They are stopped from the top down, because who is stopped makes no further children, and then killed. A descendant that
made itself an orphan before (the double fork of daemons) belongs to no tree any more, and is not found.
"""

from __future__ import annotations

import os
import select
import signal
import time
from contextlib import suppress
from typing import Protocol

STOPPING = 1.0  # seconds for one process to stop; some system calls can't be interrupted
ENDING = 5.0  # seconds for one process to be gone after SIGKILL


class Root(Protocol):
    """The process at the top of a tree."""

    pid: int
    pidfd: int

    def ended(self, seconds: float) -> bool: ...

    def send(self, number: int) -> None: ...


class Stranger:
    """A process that is no child of this one, and not reaped as long as its parent lives.

    Args:
        pid: of the process.
        pidfd: a descriptor of it, which stays the caller's; below 0: it gets one, which is the caller's as well.
    """

    def __init__(self, pid: int, pidfd: int = -1) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid) if pidfd < 0 else pidfd

    def ended(self, seconds: float) -> bool:
        return bool(select.select((self.pidfd,), (), (), seconds)[0])

    def send(self, number: int) -> None:
        with suppress(OSError):
            signal.pidfd_send_signal(self.pidfd, number)


class Tree:
    """A process that is not reaped yet, and its descendants.

    Args:
        handle: the process.
    """

    def __init__(self, handle: Root) -> None:
        self._handle = handle
        self._known: dict[int, int] = {}  # descendants: pid -> pidfd
        if handle.pidfd >= 0:
            self._look(handle.pid)

    def end(self) -> None:
        """End all of them; the first stays to be reaped."""
        handle = self._handle
        handle.send(signal.SIGSTOP)
        waiting = [handle.pid, *self._known]
        for descriptor in self._known.values():
            _send(descriptor, signal.SIGSTOP)
        while waiting:
            pid = waiting.pop()
            _wait_until_stopped(pid)
            for child in self._look(pid):
                _send(self._known[child], signal.SIGSTOP)
                waiting.append(child)
        handle.send(signal.SIGKILL)
        for descriptor in self._known.values():
            _send(descriptor, signal.SIGKILL)
        handle.ended(ENDING)
        for descriptor in self._known.values():
            _see_end(descriptor)
            os.close(descriptor)
        self._known.clear()

    def _look(self, root: int) -> list[int]:
        """Take note of the descendants of a process, and give those that are new."""
        found = []
        for child in children(root):
            if child in self._known:
                continue
            with suppress(OSError):  # it ended in the meantime
                self._known[child] = os.pidfd_open(child)
                found += [child, *self._look(child)]
        return found


def _send(descriptor: int, number: int) -> None:
    with suppress(OSError):  # it has ended, or became somebody else's
        signal.pidfd_send_signal(descriptor, number)


def _see_end(descriptor: int) -> None:
    """Wait until a process is gone, and reap it if it has become a child of this one, as of an init."""
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    waiting.poll(ENDING * 1000)
    with suppress(OSError):
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED | os.WNOHANG)


def children(pid: int) -> list[int]:
    """The children of a process, by all its threads."""
    found: list[int] = []
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with suppress(OSError):
                found += map(int, read(f"/proc/{pid}/task/{thread}/children").split())
    return found


def _wait_until_stopped(pid: int) -> None:
    limit = time.monotonic() + STOPPING
    while state(pid) not in "TtZXD" and time.monotonic() < limit:
        time.sleep(0.001)


def state(pid: int) -> str:
    """The letter that the kernel has for what a process does; X: it is gone."""
    try:
        return stat(pid)[0]
    except OSError:
        return "X"


def stat(pid: int | str) -> list[str]:
    """What /proc/PID/stat has behind the name, the state first (proc(5)).

    Args:
        pid: of a process; PID/task/TID for one of its threads.

    Raises:
        OSError: it is gone.
    """
    return read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def cpu_seconds(fields: list[str]) -> float:
    """Of the processor that a process has used, by what `stat` gives."""
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def read(path: str) -> str:
    """A file of /proc. Not by pathlib: before CPython 3.13 each number in a path of its stays in memory for good."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
