"""Duplicates of descriptors: dup(2)."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import EBADF, F_GETFD, F_SETFD, FD_CLOEXEC, O_CLOEXEC
from pytest_procsemantics.lies import before_exec, lie


def copy_the_flag(process: Process) -> None:
    process.sys.fcntl(99, F_SETFD, FD_CLOEXEC)


@clause("dup.2/duplicate-has-cloexec-clear")
@lie(before_exec("a duplicate has the flag of its original", copy_the_flag))
def test_a_duplicate_stays_open_where_the_original_is_closed(parent: Process) -> None:
    original = parent.sys.open("/dev/null", O_CLOEXEC)
    parent.sys.dup2(original, 99)
    duplicate = parent.sys.dup(original)
    parent.execve()
    assert parent.sys.fcntl(99, F_GETFD) == 0
    assert parent.sys.fcntl(duplicate, F_GETFD) == 0
    with fails(EBADF):
        parent.sys.fcntl(original, F_GETFD)
