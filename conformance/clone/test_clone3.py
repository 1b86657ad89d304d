"""clone3(2): the structure that it is given, its size and its fields."""

from __future__ import annotations

import struct

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_ARGS_SIZE_VER0,
    CLONE_ARGS_SIZE_VER1,
    CLONE_ARGS_SIZE_VER2,
    CLONE_INTO_CGROUP,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_VM,
    E2BIG,
    EBADF,
    ECHILD,
    EFAULT,
    EINVAL,
    F_GETFD,
    FD_CLOEXEC,
    O_DIRECTORY,
    O_PATH,
    P_ALL,
    SIGCHLD,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.driven.creation import Creation
from pytest_procsemantics.lies import (
    adds,
    clone3_given,
    drops,
    every_child,
    lie,
    misreports,
)

EXIT_SIGNAL = 32  # bytes in front of it in the structure
STACK = 1 << 16  # bytes
NONE = -1  # where a descriptor or an id is to come

NO_STACK = clone3_given("the stack is not looked at", stack=0, stack_size=0)
READS_THE_NEWEST = clone3_given("the size is not looked at", size=CLONE_ARGS_SIZE_VER2)


def clone3_of(maker: Process, structure: int, size: int) -> Process:
    """clone3 with the structure at an address of the maker."""
    return maker.create(Creation("clone3", "clone3", (structure, size), 0), "child").begin()


def new_cell(process: Process) -> int:
    """Memory for a number that the kernel stores."""
    cell = process.allocate(8)
    process.store(cell, struct.pack("<i", NONE))
    return cell


def stored(process: Process, cell: int) -> int:
    """The number there."""
    return int.from_bytes(process.load_bytes(cell, 4), "little", signed=True)


@clause("clone.2/clone3-returns-like-fork")
@lie(misreports("clone3"))
def test_clone3_returns_the_childs_pid(parent: Process) -> None:
    child = parent.clone3()
    assert child.creation
    assert child.creation.arrives() == child.sys.getpid() != parent.own_pid


# --- size ---


@clause("clone.2/clone3-size-gives-version")
@lie(clone3_given("older versions are refused", size=CLONE_ARGS_SIZE_VER0 - 1))
@pytest.mark.parametrize("size", [CLONE_ARGS_SIZE_VER0, CLONE_ARGS_SIZE_VER1, CLONE_ARGS_SIZE_VER2])
def test_each_version_of_the_structure_makes_a_child(parent: Process, size: int) -> None:
    assert parent.clone3(size=size).sys.getppid() == parent.own_pid


@clause("clone.2/clone3-size-gives-version")
@lie(READS_THE_NEWEST)
def test_what_lies_behind_the_size_is_not_read(parent: Process) -> None:
    child = parent.clone3(size=CLONE_ARGS_SIZE_VER0, set_tid_size=1)
    assert child.sys.getppid() == parent.own_pid


@clause("clone.2/clone3-size-too-small")
@lie(READS_THE_NEWEST)
@pytest.mark.parametrize("size", [0, 8, CLONE_ARGS_SIZE_VER0 - 1])
def test_a_size_below_the_first_version_is_refused(parent: Process, size: int) -> None:
    with fails(EINVAL):
        parent.clone3(size=size)
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


@clause("clone.2/clone3-size-above-page")
@lie(READS_THE_NEWEST)
def test_a_size_above_a_page_is_refused(parent: Process, target: Target) -> None:
    structure = parent.allocate(2 * target.page_size)
    parent.store(structure + EXIT_SIGNAL, SIGCHLD)
    with fails(E2BIG):
        clone3_of(parent, structure, target.page_size + 8)
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)
    assert clone3_of(parent, structure, target.page_size).sys.getppid() == parent.own_pid


@clause("clone.2/clone3-unknown-tail-must-be-zero")
@lie(READS_THE_NEWEST)
def test_bytes_that_the_kernel_does_not_know_must_be_zero(parent: Process, target: Target) -> None:
    structure = parent.allocate(target.page_size)
    last = structure + target.page_size - 8
    parent.store(structure + EXIT_SIGNAL, SIGCHLD)
    parent.store(last, 1)
    with fails(E2BIG):
        clone3_of(parent, structure, target.page_size)
    parent.store(last, 0)
    assert clone3_of(parent, structure, target.page_size).sys.getppid() == parent.own_pid


@clause("clone.2/clone3-bad-pointer")
@lie(every_child(SIGCHLD))
def test_a_structure_that_cannot_be_read_is_refused(parent: Process, target: Target) -> None:
    first, end = parent.pages(2)
    parent.store(first, bytes(target.page_size))
    parent.sys.munmap(end, target.page_size)
    with fails(EFAULT):
        clone3_of(parent, end, CLONE_ARGS_SIZE_VER0)
    with fails(EFAULT):
        clone3_of(parent, end - CLONE_ARGS_SIZE_VER0 + 8, CLONE_ARGS_SIZE_VER0)
    assert clone3_of(parent, end - CLONE_ARGS_SIZE_VER0, CLONE_ARGS_SIZE_VER0).pid != parent.pid


# --- stack ---


@clause("clone.2/clone3-stack-is-lowest-byte")
@lie(clone3_given("half of it is used", stack_size=STACK // 2), NO_STACK)
def test_the_child_starts_at_the_end_of_its_stack(parent: Process) -> None:
    lowest = parent.allocate(STACK)
    child = parent.clone3(CLONE_VM, stack=lowest, stack_size=STACK)
    assert child.stack_pointer == lowest + STACK


@clause("clone.2/clone3-stack-without-size")
@lie(NO_STACK)
def test_a_stack_without_its_size_is_refused(parent: Process) -> None:
    with fails(EINVAL):
        parent.clone3(CLONE_VM, stack=parent.allocate(STACK), stack_size=0)


@clause("clone.2/clone3-stack-without-size")
@lie(NO_STACK)
def test_the_size_of_no_stack_is_refused(parent: Process) -> None:
    with fails(EINVAL):
        parent.clone3(CLONE_VM, stack=0, stack_size=STACK)


@clause("clone.2/clone3-no-stack-uses-copy-of-parents")
@lie(adds(CLONE_VM))
def test_without_a_stack_the_child_uses_its_copy_of_the_callers(parent: Process) -> None:
    place = parent.clone3().stack_pointer
    child = parent.clone3()
    assert child.stack_pointer == place
    child.store(place - 256, 0x1234)
    assert parent.load(place - 256) != 0x1234


# --- exit signal ---


@clause("clone.2/clone3-flags-low-byte-is-no-signal")
@lie(drops(SIGCHLD))
@pytest.mark.parametrize("exit_signal", [0, SIGCHLD])
def test_a_signal_among_the_flags_is_refused(parent: Process, exit_signal: int) -> None:
    with fails(EINVAL):
        parent.clone3(SIGCHLD, exit_signal=exit_signal)


@clause("clone.2/clone3-exit-signal-invalid")
@lie(clone3_given("none is refused", exit_signal=SIGCHLD))
@pytest.mark.parametrize("signal", [65, 256 + SIGCHLD])
def test_an_exit_signal_that_is_none_is_refused(parent: Process, signal: int) -> None:
    with fails(EINVAL):
        parent.clone3(exit_signal=signal)


@clause("clone.2/clone3-exit-signal-invalid")
@lie(clone3_given("each is refused", exit_signal=65))
@pytest.mark.parametrize("signal", [0, 64])
def test_the_lowest_and_the_highest_exit_signal_are_taken(parent: Process, signal: int) -> None:
    assert parent.clone3(exit_signal=signal).sys.getppid() == parent.own_pid


# --- fields of their own ---


@clause("clone.2/clone3-pidfd-field")
@lie(drops(CLONE_PIDFD), drops(CLONE_PARENT_SETTID))
def test_the_pidfd_and_the_tid_are_stored_each_in_its_place(parent: Process) -> None:
    pidfd, tid = new_cell(parent), new_cell(parent)
    child = parent.clone3(CLONE_PIDFD | CLONE_PARENT_SETTID, pidfd=pidfd, parent_tid=tid)
    assert stored(parent, tid) == child.tid
    assert parent.sys.fcntl(stored(parent, pidfd), F_GETFD) == FD_CLOEXEC


@clause("clone.2/into-cgroup-bad-descriptor")
@lie(drops(CLONE_INTO_CGROUP))
def test_a_closed_descriptor_is_no_cgroup(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    parent.sys.close(reader)
    with fails(EBADF):
        parent.clone3(CLONE_INTO_CGROUP, cgroup=reader)
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


@clause("clone.2/into-cgroup-bad-descriptor")
@lie(drops(CLONE_INTO_CGROUP))
@pytest.mark.parametrize("flags", [O_DIRECTORY, O_DIRECTORY | O_PATH], ids=["opened", "path"])
def test_a_folder_of_another_file_system_is_no_cgroup(
    parent: Process, target: Target, flags: int
) -> None:
    folder = parent.sys.openat(AT_FDCWD, target.folder(), flags)
    with fails(EBADF):
        parent.clone3(CLONE_INTO_CGROUP, cgroup=folder)


@clause("clone.2/into-cgroup-bad-descriptor")
@lie(drops(CLONE_INTO_CGROUP))
def test_a_pipe_is_no_cgroup(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    with fails(EBADF):
        parent.clone3(CLONE_INTO_CGROUP, cgroup=reader)


@clause("clone.2/clone3-unknown-flags")
@lie(drops(1 << 63))
def test_clone3_refuses_flags_that_it_does_not_know(parent: Process) -> None:
    with fails(EINVAL):
        parent.clone3(1 << 63)
