"""clone(2): CLONE_PIDFD."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import IS_CLONE
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_FILES,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    EBADF,
    ECHILD,
    EFAULT,
    EINVAL,
    ESRCH,
    F_GETFD,
    F_SETFD,
    FD_CLOEXEC,
    P_ALL,
    P_PIDFD,
    POLLIN,
    SIGCHLD,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.lies import adds, drops, in_child, leaves_out, lie
from pytest_procsemantics.requirements import new_init

CLONE_PID = 0x1000  # of Linux 2.5.15 and earlier
NONE = -1  # where a descriptor is to come
NOWHERE = 8  # in the page at 0, where nothing is mapped

NO_PIDFD = drops(CLONE_PIDFD)

Made = tuple[Process, int]  # the child, and its maker's descriptor of it
MakeWithPidfd = Callable[[Process], Made]


def new_cell(process: Process) -> int:
    """Memory for a descriptor, which holds none yet."""
    cell = process.allocate(8)
    process.store(cell, struct.pack("<i", NONE))
    return cell


def stored(process: Process, cell: int) -> int:
    """The descriptor there."""
    return int.from_bytes(process.load_bytes(cell, 4), "little", signed=True)


def by_clone(maker: Process) -> Made:
    """clone stores the descriptor at parent_tid."""
    cell = new_cell(maker)
    child = maker.clone(CLONE_PIDFD | SIGCHLD, parent_tid=cell)
    return child, stored(maker, cell)


def by_clone3(maker: Process) -> Made:
    """clone3 has a field for its address."""
    cell = new_cell(maker)
    child = maker.clone3(CLONE_PIDFD, pidfd=cell)
    return child, stored(maker, cell)


def with_pidfd(id: str) -> pytest.MarkDecorator:
    """Let a check of this clause make its child by clone and by clone3."""
    first = pytest.param(by_clone, id="clone", marks=clause(id))
    second = pytest.param(by_clone3, id="clone3", marks=clause(id, IS_CLONE))
    return pytest.mark.parametrize("make", [first, second])


def stays_over_exec(child: Process) -> None:
    """Have the maker's descriptor without FD_CLOEXEC."""
    assert child.creation
    maker, words = child.creation.process, child.creation.args
    cell = words[2] if child.creation.name == "clone" else struct.unpack_from("<Q", words[0], 8)[0]
    maker.sys.fcntl(stored(maker, cell), F_SETFD, 0)


@with_pidfd("clone.2/pidfd-refers-to-child")
@lie(NO_PIDFD)
def test_the_descriptor_refers_to_the_child(
    parent: Process, observer: Observer, make: MakeWithPidfd
) -> None:
    child, pidfd = make(parent)
    assert observer.fdinfo(parent, pidfd).get("Pid") == str(child.pid)
    assert parent.sys.poll([(pidfd, POLLIN)], 0) == [(pidfd, 0)]
    child.exit(7)
    assert parent.sys.poll([(pidfd, POLLIN)]) == [(pidfd, POLLIN)]
    assert parent.sys.waitid(P_PIDFD, pidfd, WEXITED).status == 7


@with_pidfd("clone.2/pidfd-has-cloexec")
@lie(in_child("it stays over exec", stays_over_exec))
def test_the_descriptor_is_closed_by_exec(parent: Process, make: MakeWithPidfd) -> None:
    _, pidfd = make(parent)
    assert parent.sys.fcntl(pidfd, F_GETFD) == FD_CLOEXEC


@with_pidfd("clone.2/pidfd-in-parents-table-only")
@lie(adds(CLONE_FILES))
def test_the_child_does_not_get_the_descriptor(parent: Process, make: MakeWithPidfd) -> None:
    child, pidfd = make(parent)
    assert parent.sys.fcntl(pidfd, F_GETFD) == FD_CLOEXEC
    with fails(EBADF):
        child.sys.fcntl(pidfd, F_GETFD)


@with_pidfd("clone.2/pidfd-stays-valid-after-reaping")
@lie(leaves_out("pidfd_send_signal"))
def test_the_descriptor_of_a_reaped_child_means_no_later_one(
    parent: Process, make: MakeWithPidfd
) -> None:
    init = new_init(parent)
    child, pidfd = make(init)
    child.exit()
    child.wait_for_exit()
    number = init.allocate(4)
    init.store(number, struct.pack("<i", child.own_pid))
    assert init.clone3(set_tid=number, set_tid_size=1).own_pid == child.own_pid
    with fails(ESRCH):
        init.sys.pidfd_send_signal(pidfd, 0, None, 0)


# --- where it is stored ---


@clause("clone.2/pidfd-with-clone-uses-parent-tid")
@lie(NO_PIDFD)
def test_clone_stores_the_descriptor_at_parent_tid(parent: Process) -> None:
    cell = new_cell(parent)
    child = parent.clone(CLONE_PIDFD | SIGCHLD, parent_tid=cell)
    pidfd = stored(parent, cell)
    assert parent.sys.fcntl(pidfd, F_GETFD) == FD_CLOEXEC
    assert stored(child, cell) == NONE


@clause("clone.2/clone-pid-bit-is-pidfd")
@lie(NO_PIDFD)
def test_the_bit_of_clone_pid_makes_a_descriptor(parent: Process) -> None:
    cell = new_cell(parent)
    child = parent.clone(CLONE_PID | SIGCHLD, parent_tid=cell)
    assert child.own_pid != parent.own_pid
    assert parent.sys.fcntl(stored(parent, cell), F_GETFD) == FD_CLOEXEC


@clause("clone.2/pidfd-with-parent-settid-refused")
@lie(NO_PIDFD, drops(CLONE_PARENT_SETTID))
def test_clone_cannot_store_a_descriptor_and_a_tid(parent: Process) -> None:
    cell = new_cell(parent)
    free = parent.sys.dup(0)
    parent.sys.close(free)
    with fails(EINVAL):
        parent.clone(CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, parent_tid=cell)
    assert stored(parent, cell) == NONE
    assert parent.sys.dup(0) == free


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda maker: maker.clone(CLONE_PIDFD | SIGCHLD, parent_tid=NOWHERE), id="clone"
        ),
        pytest.param(
            lambda maker: maker.clone3(CLONE_PIDFD, pidfd=NOWHERE),
            id="clone3",
            marks=clause(IS_CLONE),
        ),
    ],
)
@clause("clone.2/pidfd-bad-address")
@lie(NO_PIDFD)
def test_an_address_where_nothing_can_be_stored_is_refused(
    parent: Process, make: Callable[[Process], Process]
) -> None:
    free = parent.sys.dup(0)
    parent.sys.close(free)
    with fails(EFAULT):
        make(parent)
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)
    assert parent.sys.dup(0) == free


@clause("clone.2/pidfd-with-thread-refused")
@lie(NO_PIDFD)
def test_clone_pidfd_with_clone_thread_is_refused(parent: Process) -> None:
    with fails(EINVAL):
        parent.clone3(CLONE_PIDFD | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, pidfd=new_cell(parent))
