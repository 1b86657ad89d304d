"""close_range(2)."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    CLONE_FILES,
    CLOSE_RANGE_CLOEXEC,
    CLOSE_RANGE_UNSHARE,
    EBADF,
    EINVAL,
    F_GETFD,
    FD_CLOEXEC,
    SIGCHLD,
)
from pytest_procsemantics.lies import drops, leaves_out, lie, passes

ALL = 0xFFFFFFFF


@clause("close_range.2/without-unshare-closes-for-sharers")
@lie(drops(CLONE_FILES))
def test_a_range_is_closed_for_all_sharers(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    child = parent.clone(CLONE_FILES | SIGCHLD)
    child.sys.close_range(3, ALL, 0)
    with fails(EBADF):
        parent.sys.fcntl(reader, F_GETFD)


@clause("close_range.2/unshare-leaves-sharers-table")
@lie(leaves_out("close_range"))
def test_with_unshare_the_sharers_table_stays(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    child = parent.clone(CLONE_FILES | SIGCHLD)
    child.sys.close_range(3, ALL, CLOSE_RANGE_UNSHARE)
    assert parent.sys.fcntl(reader, F_GETFD) == 0
    with fails(EBADF):
        child.sys.fcntl(reader, F_GETFD)


@clause("close_range.2/cloexec-marks-range")
@lie(leaves_out("close_range"), passes("it is closed", "close_range", 2, 0))
def test_with_cloexec_a_range_is_closed_by_exec(parent: Process) -> None:
    reader, writer = parent.sys.pipe()
    parent.sys.close_range(reader, reader, CLOSE_RANGE_CLOEXEC)
    assert parent.sys.fcntl(reader, F_GETFD) == FD_CLOEXEC
    parent.execve()
    with fails(EBADF):
        parent.sys.fcntl(reader, F_GETFD)
    assert parent.sys.fcntl(writer, F_GETFD) == 0


@clause("close_range.2/cloexec-marks-range")
@lie(drops(CLONE_FILES))
def test_with_cloexec_a_range_is_marked_for_all_sharers(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    child = parent.clone(CLONE_FILES | SIGCHLD)
    child.sys.close_range(3, ALL, CLOSE_RANGE_CLOEXEC)
    assert parent.sys.fcntl(reader, F_GETFD) == FD_CLOEXEC


@clause("close_range.2/einval-flags")
@lie(passes("it has no flags", "close_range", 2, 0))
@pytest.mark.parametrize("flag", [1, 8, 1 << 31])
def test_an_unknown_flag_is_refused(parent: Process, flag: int) -> None:
    reader, _ = parent.sys.pipe()
    with fails(EINVAL):
        parent.sys.close_range(reader, reader, flag)
    assert parent.sys.fcntl(reader, F_GETFD) == 0
