"""A descriptor of /proc/PID where the calls of pidfds take or expect a pidfd."""

from __future__ import annotations

from typing import Any

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Exit, Step, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    EBADF,
    EPERM,
    EPOLL_CTL_ADD,
    EPOLLIN,
    ESRCH,
    O_DIRECTORY,
    P_PIDFD,
    POLLIN,
    POLLOUT,
    SIGKILL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.lies import Liar, Lie, leaves_out, lie


class _OpensAPidfd(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        if name == "openat":
            self.tell()
            number = self.sys.number("pidfd_open")
            args = (int(args[1].rpartition(b"/")[2]), 0)
        return super().ask_call(name, number, args, decode)


PIDFD = Lie("opening /proc/PID gives a pidfd", _OpensAPidfd)


def folder_of(child: Process, holder: Process) -> int:
    """The holder's descriptor of the child's folder."""
    return int(holder.sys.openat(AT_FDCWD, f"/proc/{child.pid}", O_DIRECTORY))


@clause("pidfd_open.2/proc-directory-not-pollable")
@lie(PIDFD)
def test_it_cannot_be_polled_for_the_end(parent: Process) -> None:
    child = parent.fork()
    folder = folder_of(child, parent)
    assert parent.sys.poll([(folder, POLLIN | POLLOUT)], 0) == [(folder, POLLIN | POLLOUT)]
    with fails(EPERM):
        parent.sys.epoll_ctl(parent.sys.epoll_create(), EPOLL_CTL_ADD, folder, EPOLLIN)
    assert child.sys.getppid() == parent.own_pid


@clause("pidfd_open.2/proc-directory-not-waitable")
@lie(PIDFD)
def test_it_cannot_be_waited_on(parent: Process) -> None:
    child = parent.fork()
    folder = folder_of(child, parent)
    with fails(EBADF):
        parent.sys.waitid(P_PIDFD, folder, WEXITED | WNOHANG)


@clause("pidfd_getfd.2/ebadf-proc-directory")
@lie(PIDFD)
def test_no_descriptor_can_be_taken_by_it(parent: Process) -> None:
    child = parent.fork()
    folder = folder_of(child, parent)
    with fails(EBADF):
        parent.sys.pidfd_getfd(folder, 0, 0)


@clause("pidfd_send_signal.2/proc-directory-as-pidfd")
@lie(leaves_out("pidfd_send_signal", hangs=True))
def test_signals_can_be_sent_by_it(parent: Process) -> None:
    child = parent.fork()
    folder = folder_of(child, parent)
    assert parent.sys.pidfd_send_signal(folder, 0) == 0
    parent.sys.pidfd_send_signal(folder, SIGKILL)
    assert child.wait_for_exit() == Exit(None, SIGKILL)
    with fails(ESRCH):
        parent.sys.pidfd_send_signal(folder, 0)
