"""A child process as the kernel knows it: it ends, it is signalled, it is reaped.

All by pidfd, so that no reused pid is ever hit. Where there is none (before Linux 5.3, and off Linux) the pid stands
for it as long as the child is not reaped, which only this module does.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from pytest_procsemantics.waits import LOOK_UP

if TYPE_CHECKING:
    import resource

# __WALL: also a child whose end sends another signal than SIGCHLD, or none.
ALL = 0x40000000 if sys.platform == "linux" else 0
LOOK = 0.005  # seconds between two looks where no descriptor tells of the end
FD_SETSIZE = 1024  # descriptors that select(2) can't wait for begin here
NO_PIDFD = -1
HAS_PIDFD = hasattr(os, "pidfd_open") and hasattr(signal, "pidfd_send_signal")


class Handle:
    """A child of this process, as a part of what stands for it: each object more would cost a page after the fork.

    Attributes:
        pid: of a child that nobody has waited for.
        pidfd: a descriptor, or -1 where there is none, and when it was reaped.
        is_reaped: whether it was, and its descriptor is closed.
        is_taken: whether its status was.
        status: as waitpid(2) gives it; None before, and where somebody else took it.
        usage: what it and the children that it waited for used; None where `status` is.
    """

    __slots__ = ("is_reaped", "is_taken", "pid", "pidfd", "status", "usage")

    pid: int
    pidfd: int
    is_reaped: bool
    is_taken: bool
    status: int | None
    usage: resource.struct_rusage | None

    def ended(self, seconds: float) -> bool:
        """Whether it has ended, or does so in this time; it is not reaped."""
        if self.is_taken:
            return True
        if seconds < 0:
            seconds = 0
        if self.pidfd < 0:
            return self._looks(seconds)
        limit = time.monotonic() + seconds
        while not self._tells(min(seconds, LOOK_UP)):
            seconds = limit - time.monotonic()
            if seconds <= 0:
                return False
        return True

    def _tells(self, seconds: float) -> bool:
        """Whether its descriptor tells of its end in this time."""
        if self.pidfd < FD_SETSIZE:
            return bool(select.select((self.pidfd,), (), (), seconds)[0])
        waiting = select.poll()
        waiting.register(self.pidfd, select.POLLIN)
        return bool(waiting.poll(seconds * 1000))

    def _looks(self, seconds: float) -> bool:
        limit = time.monotonic() + seconds
        while not self.is_taken:
            try:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG | ALL)
            except ChildProcessError:
                self.is_taken = True
            else:
                if pid:
                    self.status, self.usage, self.is_taken = status, usage, True
            left = limit - time.monotonic()
            if self.is_taken or left <= 0:
                break
            time.sleep(min(LOOK, left))
        return self.is_taken

    def reap(self) -> None:
        """Take the status of a process that has ended."""
        if not self.is_taken:
            try:
                _, self.status, self.usage = os.wait4(self.pid, ALL)
            except ChildProcessError:
                self.status = None
        self.is_reaped = self.is_taken = True
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        if self.is_taken:
            return
        with suppress(ProcessLookupError):
            if self.pidfd >= 0:
                signal.pidfd_send_signal(self.pidfd, number)
            else:
                os.kill(self.pid, number)


def how(status: int | None) -> str:
    """How a process ended, in words."""
    if status is None:
        return "its exit status was taken by another wait, or SIGCHLD is ignored"
    if os.WIFEXITED(status):
        return f"exit status {os.WEXITSTATUS(status)}"
    core = " (core dumped)" if os.WCOREDUMP(status) else ""
    return f"killed by {signal_name(os.WTERMSIG(status))}{core}"


def signal_name(number: int) -> str:
    """The name of a signal, such as SIGKILL or SIGRTMIN+3."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
