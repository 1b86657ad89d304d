"""close_range(2)."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    CLONE_FILES,
    CLOSE_RANGE_UNSHARE,
    EBADF,
    F_GETFD,
    SIGCHLD,
)
from pytest_procsemantics.lies import drops, leaves_out, lie

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
