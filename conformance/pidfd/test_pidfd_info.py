"""PIDFD_GET_INFO: what the kernel tells of the process of a pidfd, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Out, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWCGROUP,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PIDFD,
    EBADF,
    EINVAL,
    ENOTTY,
    EREMOTE,
    ESRCH,
    PIDFD_COREDUMP_SKIP,
    PIDFD_COREDUMP_USER,
    PIDFD_GET_INFO,
    PIDFD_INFO_CGROUPID,
    PIDFD_INFO_COREDUMP,
    PIDFD_INFO_CREDS,
    PIDFD_INFO_EXIT,
    PIDFD_INFO_PID,
    PIDFD_SELF,
    PIDFD_THREAD,
    PR_SET_DUMPABLE,
    SIGKILL,
)
from pytest_procsemantics.driven.forms import PidfdInfo
from pytest_procsemantics.driven.target import Target
from pytest_procsemantics.lies import (
    acts_on_caller,
    before_call,
    drops,
    leaves_out,
    lie,
    passes,
    reports,
)
from pytest_procsemantics.requirements import new_init, private_mounts
from pytest_procsemantics.requirements.surroundings import SOMEBODY

CLOSED = 99
IDS = PIDFD_INFO_PID | PIDFD_INFO_CREDS
SIZE_AT = 16  # where in an ioctl's number the size of its structure begins
FIRST_SIZE = 64  # bytes of Linux 6.13's structure
LARGE_SIZE = 128  # bytes, more than any kernel's

NOTHING_TOLD = leaves_out("ioctl")
STAYS_A_ZOMBIE = leaves_out("wait4")
OF_CALLER = acts_on_caller("pidfd_open")


def told(process: Process, pidfd: int, asked: int = 0) -> PidfdInfo:
    """What PIDFD_GET_INFO tells."""
    return process.sys.ioctl(pidfd, PIDFD_GET_INFO, asked)  # type: ignore[no-any-return]


def of_size(size: int) -> int:
    """PIDFD_GET_INFO with a structure of another size."""
    return PIDFD_GET_INFO & ~(0x3FFF << SIZE_AT) | size << SIZE_AT


# --- who it is ---


@clause("pidfd_info.2/gives-ids-of-process")
@lie(OF_CALLER)
def test_it_tells_the_process_and_its_parent(parent: Process) -> None:
    child = parent.fork()
    info = told(parent, parent.sys.pidfd_open(child.own_pid, 0))
    assert info.mask & PIDFD_INFO_PID
    assert (info.pid, info.tgid, info.ppid) == (child.own_pid, child.own_pid, parent.own_pid)


@clause("pidfd_info.2/gives-credentials")
@lie(OF_CALLER)
def test_it_tells_users_and_groups(parent: Process) -> None:
    child = parent.fork()
    child.sys.setresgid(1004, 1005, 1006)
    child.sys.setfsgid(1006)
    child.sys.setresuid(1001, 1002, 1003)
    child.sys.setfsuid(1003)
    info = told(parent, parent.sys.pidfd_open(child.own_pid, 0))
    assert info.mask & PIDFD_INFO_CREDS
    assert (info.ruid, info.euid, info.suid, info.fsuid) == (1001, 1002, 1003, 1003)
    assert (info.rgid, info.egid, info.sgid, info.fsgid) == (1004, 1005, 1006, 1006)


@clause("pidfd_info.2/gives-cgroup-id")
@lie(NOTHING_TOLD)
def test_it_tells_the_cgroup(parent: Process, target: Target) -> None:
    private_mounts(parent, CLONE_NEWCGROUP, root=True)
    parent.sys.mount("none", target.folder(), "cgroup2", 0, None)
    child = parent.fork()
    info = told(parent, parent.sys.pidfd_open(child.own_pid, 0))
    assert info.mask & PIDFD_INFO_CGROUPID
    assert info.cgroupid == parent.sys.stat(target.folder()).ino


@clause("pidfd_info.2/thread-descriptor-gives-thread")
@lie(OF_CALLER)
def test_by_a_descriptor_of_a_thread_it_tells_the_thread(parent: Process) -> None:
    thread = parent.thread()
    info = told(parent, parent.sys.pidfd_open(thread.tid, PIDFD_THREAD))
    assert (info.pid, info.tgid) == (thread.tid, parent.own_pid)


@clause("pidfd_info.2/no-permission-needed")
@lie(NOTHING_TOLD)
def test_another_user_may_ask(parent: Process) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    child = parent.fork()
    child.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    assert told(child, pidfd) == told(parent, pidfd)
    assert told(child, pidfd).pid == parent.own_pid


@clause("pidfd_info.2/coredump-mask")
@lie(leaves_out("prctl"))
def test_it_tells_whether_a_core_would_be_dumped(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    info = told(parent, pidfd, PIDFD_INFO_COREDUMP)
    assert info.mask & PIDFD_INFO_COREDUMP
    assert info.coredump_mask == PIDFD_COREDUMP_USER
    child.sys.prctl(PR_SET_DUMPABLE, 0)
    assert told(parent, pidfd, PIDFD_INFO_COREDUMP).coredump_mask == PIDFD_COREDUMP_SKIP


# --- how it ended ---


@clause("pidfd_info.2/exit-not-given-while-alive")
@lie(reports("an exit", "ioctl", lambda info: info._replace(mask=info.mask | PIDFD_INFO_EXIT)))
def test_while_a_process_lives_no_exit_is_told(parent: Process) -> None:
    child = parent.fork()
    info = told(parent, parent.sys.pidfd_open(child.own_pid, 0), IDS | PIDFD_INFO_EXIT)
    assert info.mask & (IDS | PIDFD_INFO_EXIT) == IDS
    assert child.sys.getppid() == parent.own_pid


@clause("pidfd_info.2/zombie-gives-ids-without-exit")
@lie(before_call("ioctl", "the child is reaped", lambda process: process.sys.wait4(-1)))
def test_of_a_zombie_ids_are_told_and_no_exit(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.exit(5)
    assert observer.state(child) == "Z"
    info = told(parent, pidfd, IDS | PIDFD_INFO_EXIT)
    assert info.mask & (IDS | PIDFD_INFO_EXIT) == IDS
    assert info.pid == child.own_pid


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param(lambda child: child.exit(5), 5 << 8, id="exit"),
        pytest.param(lambda child: child.post.sys.kill(child.own_pid, SIGKILL), SIGKILL, id="KILL"),
    ],
)
@clause("pidfd_info.2/exit-status-after-reaping")
@lie(STAYS_A_ZOMBIE)
def test_after_the_wait_the_exit_is_told(
    parent: Process, end: Callable[[Process], None], status: int
) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    end(child)
    parent.sys.wait4(child.own_pid)
    info = told(parent, pidfd, IDS | PIDFD_INFO_EXIT)
    assert info.mask & (IDS | PIDFD_INFO_EXIT) == PIDFD_INFO_EXIT
    assert info.exit_code == status


@clause("pidfd_info.2/exit-status-for-any-holder")
@lie(STAYS_A_ZOMBIE)
def test_whoever_has_the_descriptor_can_ask_for_the_exit(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    sibling = parent.fork("sibling")
    child.exit(5)
    parent.sys.wait4(child.own_pid)
    info = told(sibling, pidfd, PIDFD_INFO_EXIT)
    assert (info.mask & PIDFD_INFO_EXIT, info.exit_code) == (PIDFD_INFO_EXIT, 5 << 8)


@clause("pidfd_info.2/exit-status-of-thread")
@lie(leaves_out("exit", hangs=True))
def test_when_a_thread_has_ended_its_exit_is_told(parent: Process, observer: Observer) -> None:
    thread = parent.thread()
    pidfd = parent.sys.pidfd_open(thread.tid, PIDFD_THREAD)
    assert not told(parent, pidfd, PIDFD_INFO_EXIT).mask & PIDFD_INFO_EXIT
    thread.post.sys.exit(3)
    observer.wait_until_gone(thread)
    assert told(parent, pidfd, PIDFD_INFO_EXIT).mask & PIDFD_INFO_EXIT


@clause("pidfd_info.2/exit-status-of-thread")
@lie(OF_CALLER)
def test_a_thread_that_was_killed_with_its_process_has_the_same_exit(parent: Process) -> None:
    child = parent.fork()
    thread = child.thread()
    pidfd = parent.sys.pidfd_open(thread.tid, PIDFD_THREAD)
    parent.sys.kill(child.own_pid, SIGKILL)
    parent.sys.wait4(child.own_pid)
    info = told(parent, pidfd, PIDFD_INFO_EXIT)
    assert (info.mask & PIDFD_INFO_EXIT, info.exit_code) == (PIDFD_INFO_EXIT, SIGKILL)


@clause("pidfd_info.2/exit-status-in-new-namespaces")
@lie(STAYS_A_ZOMBIE)
def test_the_exit_of_a_child_in_new_namespaces_is_told(parent: Process) -> None:
    cell = parent.allocate(8)
    parent.store(cell, CLOSED)
    child = parent.clone3(CLONE_NEWUSER | CLONE_NEWPID | CLONE_PIDFD, pidfd=cell)
    child.exit(9)
    parent.sys.wait4(child.pid)
    info = told(parent, parent.load(cell), PIDFD_INFO_EXIT)
    assert (info.mask & PIDFD_INFO_EXIT, info.exit_code) == (PIDFD_INFO_EXIT, 9 << 8)


@clause("pidfd_info.2/esrch-reaped-without-exit")
@lie(STAYS_A_ZOMBIE)
def test_after_the_wait_nothing_but_the_exit_is_told(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.exit()
    parent.sys.wait4(child.own_pid)
    with fails(ESRCH):
        told(parent, pidfd, IDS)
    assert told(parent, pidfd, IDS | PIDFD_INFO_EXIT).mask & PIDFD_INFO_EXIT


# --- the structure, and what is refused ---


@clause("pidfd_info.2/larger-structure-accepted")
@lie(NOTHING_TOLD)
def test_a_larger_structure_is_filled_as_far_as_the_kernel_knows_it(parent: Process) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    _, memory = parent.sys.ioctl(pidfd, of_size(LARGE_SIZE), Out(LARGE_SIZE))
    assert int.from_bytes(memory[16:20], "little") == parent.own_pid
    assert memory[-8:] == bytes(8)


@pytest.mark.parametrize("size", range(8, FIRST_SIZE, 8))
@clause("pidfd_info.2/too-small-structure")
@lie(passes("the structure is large enough", "ioctl", 1, PIDFD_GET_INFO))
def test_a_structure_that_is_too_small_is_refused(parent: Process, size: int) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    with fails(ENOTTY, EINVAL):
        parent.sys.ioctl(pidfd, of_size(size), Out(LARGE_SIZE))


@clause("pidfd_info.2/null-argument")
@lie(NOTHING_TOLD)
def test_a_null_pointer_is_refused(parent: Process) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    with fails(EINVAL):
        parent.sys.raw("ioctl", pidfd, PIDFD_GET_INFO, None)


@pytest.mark.parametrize(
    ("opened", "errno"),
    [
        pytest.param(lambda one: one.sys.openat(AT_FDCWD, "/dev/null"), ENOTTY, id="device"),
        pytest.param(lambda one: one.sys.pipe()[0], ENOTTY, id="pipe"),
        pytest.param(lambda one: one.sys.eventfd(), ENOTTY, id="eventfd"),
        pytest.param(lambda one: one.sys.openat(AT_FDCWD, "/proc/self"), ENOTTY, id="proc"),
        pytest.param(lambda one: CLOSED, EBADF, id="closed"),
        pytest.param(lambda one: PIDFD_SELF, EBADF, id="self"),
    ],
)
@clause("pidfd_info.2/not-a-pidfd")
@lie(NOTHING_TOLD)
def test_what_is_no_pidfd_is_refused(
    parent: Process, opened: Callable[[Process], int], errno: int
) -> None:
    with fails(errno):
        told(parent, opened(parent))


@pytest.mark.parametrize("asked", [IDS, IDS | PIDFD_INFO_EXIT], ids=["ids", "exit"])
@clause("pidfd_info.2/outside-callers-namespace")
@lie(drops(CLONE_NEWPID))
def test_from_an_inner_namespace_nothing_is_told(parent: Process, asked: int) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    init = new_init(parent)
    with fails(EREMOTE, ESRCH):
        told(init, pidfd, asked)
    child.exit()
    parent.sys.wait4(child.own_pid)
    with fails(EREMOTE, ESRCH):
        told(init, pidfd, PIDFD_INFO_EXIT)
