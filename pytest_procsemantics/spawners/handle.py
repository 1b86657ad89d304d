"""A child process as the kernel knows it: it ends, it is signalled, it is reaped.

All by pidfd, so that no reused pid is ever hit. Where there is none (before Linux 5.3, and off Linux) the pid stands
for it as long as the child is not reaped, which only this module does.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import resource

ALL = 0x40000000  # __WALL: also a child whose end sends another signal than SIGCHLD, or none
LOOK = 0.005  # seconds between two looks where no descriptor tells of the end


@dataclass(frozen=True, slots=True)
class End:
    """How a process ended; None where somebody else took its status.

    Attributes:
        status: as waitpid(2) gives it.
        rusage: what it and the children that it waited for used.
    """

    status: int | None
    rusage: resource.struct_rusage | None


class Handle:
    """A child of this process, until it is reaped.

    Args:
        pid: of a child that nobody has waited for.
        pidfd: if the system call that made it gave one.

    Attributes:
        pid: of the child.
        pidfd: a descriptor, or -1 where there is none (any more).
        end: how it ended; None until it is reaped.
    """

    __slots__ = ("_lock", "end", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int = -1) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.end: End | None = None
        self._lock = threading.Lock()
        if pidfd < 0 and hasattr(os, "pidfd_open"):
            # ENOSYS, or reaped by the kernel because SIGCHLD is ignored.
            with suppress(OSError):
                self.pidfd = os.pidfd_open(pid)

    def ended(self, seconds: float) -> bool:
        """Whether it has ended, or does so in this time; it is not reaped."""
        if self.end is not None:
            return True
        if self.pidfd < 0:
            return self._looks(seconds)
        waiting = select.poll()
        waiting.register(self.pidfd, select.POLLIN)
        return bool(waiting.poll(max(seconds, 0) * 1000))

    def _looks(self, seconds: float) -> bool:
        limit = time.monotonic() + seconds
        while not self._is_zombie():
            left = limit - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(LOOK, left))
        return True

    def _is_zombie(self) -> bool:
        options = os.WEXITED | os.WNOWAIT | os.WNOHANG
        try:
            return (
                os.waitid(os.P_PID, self.pid, options | (ALL if sys.platform == "linux" else 0))
                is not None
            )
        except ChildProcessError:
            return True

    def reap(self) -> End:
        """Take the status of a process that has ended."""
        with self._lock:
            if self.end is None:
                self.end = self._reaped()
                if self.pidfd >= 0:
                    os.close(self.pidfd)
                    self.pidfd = -1
        return self.end

    def _reaped(self) -> End:
        try:
            _, status, rusage = os.wait4(self.pid, ALL if sys.platform == "linux" else 0)
        except ChildProcessError:
            return End(None, None)
        return End(status, rusage)

    def send(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        with self._lock:
            if self.end is not None:
                return
            with suppress(ProcessLookupError):
                if self.pidfd >= 0:
                    signal.pidfd_send_signal(self.pidfd, number)
                else:
                    os.kill(self.pid, number)
