"""What a driven process does with files and terminals again and again: ordinary steps, each behind one word."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_procsemantics.driven import wire
from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    O_CLOEXEC,
    O_CREAT,
    O_NOCTTY,
    O_RDWR,
    O_TRUNC,
    O_WRONLY,
    TIOCGPTN,
    TIOCSPTLCK,
)

if TYPE_CHECKING:
    from pytest_procsemantics.driven.calls import Calls


class Files:
    """A part of Process that needs nothing of it but its system calls."""

    sys: Calls

    def make_file(self, path: str, content: bytes = b"", mode: int = 0o644) -> str:
        """Write a file on the target with just this mode, whatever the umask, and give its path."""
        fd = self.sys.openat(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0o600)
        for at in range(0, len(content), wire.MAX_DATA // 2):
            self.sys.write(fd, content[at : at + wire.MAX_DATA // 2])
        self.sys.fchmod(fd, mode)
        self.sys.close(fd)
        return path

    def write_to(self, path: str, content: bytes) -> None:
        """Write to a file that is there with one write(2), as the files of /proc want it."""
        fd = self.sys.openat(AT_FDCWD, path, O_WRONLY)
        try:
            self.sys.write(fd, content)
        finally:
            self.sys.close(fd)

    def new_terminal(self) -> str:
        """Make a pseudo-terminal, which lasts while this process has it open, and give its path (pts(4))."""
        master = self.sys.openat(AT_FDCWD, "/dev/ptmx", O_RDWR | O_NOCTTY)
        self.sys.ioctl(master, TIOCSPTLCK, bytes(4))
        _, number = self.sys.ioctl(master, TIOCGPTN, Out(4))
        return f"/dev/pts/{int.from_bytes(number, 'little')}"

    def lead_session(self) -> int:
        """Begin a session with a terminal of its own, and give its descriptor. The terminal lasts while this process
        has the other side open. Source: setsid(2), ioctl_tty(2).
        """
        self.sys.setsid()
        return int(self.sys.openat(AT_FDCWD, self.new_terminal(), O_RDWR))
