"""_exit(2), exit_group(2) and the exit system call: who ends, and what the end does to others."""

from __future__ import annotations

import struct

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLD_EXITED,
    CLONE_NEWIPC,
    CLONE_THREAD,
    EAGAIN,
    EFD_NONBLOCK,
    ENXIO,
    F_OFD_SETLK,
    F_SETLK,
    F_WRLCK,
    FUTEX_OWNER_DIED,
    FUTEX_WAIT,
    FUTEX_WAITERS,
    GETVAL,
    IPC_PRIVATE,
    IPC_STAT,
    O_RDWR,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    SA_RESTART,
    SEM_UNDO,
    SIG_BLOCK,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGSTOP,
    SIGUSR1,
    TIOCGPGRP,
    TIOCSPGRP,
)
from pytest_procsemantics.driven.errors import Ended
from pytest_procsemantics.driven.forms.files import Lock
from pytest_procsemantics.lies import (
    drops,
    in_child,
    instead,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import namespace_flags

LIVES_ON = leaves_out("exit_group", hangs=True)
TTY_NUMBER = 4  # place of tty_nr in Observer.stat (proc(5), field 7)


@clause("exit/ends-at-once")
@lie(LIVES_ON)
def test_no_step_is_taken_after_the_end(parent: Process, target: Target) -> None:
    cell = parent.allocate(8, shared=True)
    child = parent.fork()
    child.post.sys.exit_group(0)
    child.post.store(cell, b"\x01")
    target.wait_for_end(child)
    assert parent.load(cell) == 0


@clause("exit/does-not-return")
@lie(leaves_out("exit"))
def test_the_exit_call_never_returns(parent: Process) -> None:
    answer = parent.fork().post.sys.exit(0)
    with pytest.raises(Ended):
        answer.arrives()


@clause("exit/group-does-not-return")
@lie(leaves_out("exit_group"))
def test_exit_group_never_returns(parent: Process) -> None:
    answer = parent.fork().post.sys.exit_group(0)
    with pytest.raises(Ended):
        answer.arrives()


@clause("exit/status-low-byte")
@lie(passes("exit with another code", "exit_group", 0, 1))
@pytest.mark.parametrize(
    ("status", "code"), [(0x1FF, 255), (-1, 255), (256, 0)], ids=["0x1ff", "-1", "256"]
)
def test_the_parent_gets_the_low_byte_of_the_status(
    parent: Process, status: int, code: int
) -> None:
    child = parent.fork()
    child.exit(status)
    assert child.wait_for_exit().code == code


@clause("exit/parent-gets-sigchld")
@lie(instead("fork", SIGUSR1), passes("exit with another code", "exit_group", 0, 1))
def test_the_parent_is_sent_sigchld(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGCHLD, SIGUSR1})
    child = parent.fork()
    child.exit(5)
    told = parent.sys.rt_sigtimedwait({SIGCHLD, SIGUSR1})
    assert (told.signo, told.code) == (SIGCHLD, CLD_EXITED)
    assert (told.pid, told.uid, told.status) == (child.own_pid, parent.sys.getuid(), 5)


@clause("exit/raw-exit-ends-thread-only")
@lie(drops(CLONE_THREAD))
def test_the_exit_call_ends_one_thread(parent: Process, observer: Observer) -> None:
    thread = parent.thread()
    before = observer.threads(parent)
    thread.exit_thread()
    assert parent.sys.getpid() == parent.own_pid
    assert observer.threads(parent) == before - 1


@clause("exit/group-ends-all-threads")
@lie(drops(CLONE_THREAD, hangs=True))
def test_exit_group_ends_all_threads(parent: Process, target: Target) -> None:
    child = parent.fork()
    threads = child.thread("first"), child.thread("second")
    threads[0].post.sys.exit_group(3)
    for process in (child, *threads):
        target.wait_for_end(process)
    assert child.wait_for_exit().code == 3


@clause("exit/group-status")
@lie(passes("exit_group with another code", "exit_group", 0, 0))
def test_the_status_is_that_of_the_thread_that_called_exit_group(parent: Process) -> None:
    child = parent.fork()
    thread = child.thread()
    thread.post.sys.exit_group(9)
    assert child.wait_for_exit().code == 9


@clause("exit/group-one-sigchld")
@lie(drops(CLONE_THREAD, hangs=True), leaves_out("rt_sigaction"))
def test_the_end_of_a_group_sends_one_sigchld(parent: Process) -> None:
    parent.count_signals(SIGCHLD, flags=SA_RESTART)  # else it may interrupt the wait
    child = parent.fork()
    child.thread("first")
    child.thread("second").post.sys.exit_group(2)
    assert child.wait_for_exit().code == 2
    assert parent.count(SIGCHLD) == 1


@clause("exit/reparenting-uses-same-threadgroup-thread")
@lie(drops(CLONE_THREAD))
def test_the_children_of_a_thread_go_to_another_thread(parent: Process) -> None:
    thread = parent.thread()
    child = thread.fork()
    thread.exit_thread()
    assert child.sys.getppid() == parent.own_pid
    child.exit(4)
    assert parent.sys.wait4(child.own_pid)[:2] == (child.own_pid, 4 << 8)


@clause("exit/pdeathsig-sent")
@lie(leaves_out("prctl"))
def test_children_get_the_signal_that_they_chose(parent: Process) -> None:
    middle = parent.fork("middle")
    child = middle.fork()
    child.count_signals(SIGUSR1)
    child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    middle.exit()
    assert child.count(SIGUSR1) >= 1


# --- what the process held ---


@clause("exit/closes-descriptors")
@lie(
    in_child(
        "somebody else keeps them",
        lambda new: new.name == "child" and new.fork("keeper"),
        hangs=True,
    )
)
def test_descriptors_are_closed(parent: Process) -> None:
    reader, writer = parent.sys.pipe()
    child = parent.fork()
    parent.sys.close(writer)
    child.sys.write(writer, b"x")
    child.exit()
    assert parent.sys.read(reader, 8) == b"x"
    assert parent.sys.read(reader, 8) == b""


@clause("exit/alarms-and-timers-gone")
@lie(
    passes(
        "the lock is the file's", "fcntl", 1, lambda kind: {F_SETLK: F_OFD_SETLK}.get(kind, kind)
    )
)
def test_record_locks_end_with_the_process(parent: Process, target: Target) -> None:
    path = parent.make_file(f"{target.folder()}/locked")
    file = parent.sys.openat(AT_FDCWD, path, O_RDWR)
    child = parent.fork()
    child.sys.fcntl(file, F_SETLK, Lock(F_WRLCK))
    with fails(EAGAIN):
        parent.sys.fcntl(file, F_SETLK, Lock(F_WRLCK))
    child.exit()
    assert parent.sys.fcntl(file, F_SETLK, Lock(F_WRLCK)) == 0


@clause("exit/shared-memory-detached")
@lie(in_child("a child has it too", lambda new: new.name == "child" and new.fork("keeper")))
def test_segments_are_detached(parent: Process) -> None:
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWIPC))
    segment = parent.sys.shmget(IPC_PRIVATE, 4096, 0o600)
    parent.sys.shmat(segment)
    child = parent.fork()
    assert parent.sys.shmctl(segment, IPC_STAT).attached == 2
    child.exit()
    assert parent.sys.shmctl(segment, IPC_STAT).attached == 1


@clause("exit/semaphore-adjustments-applied")
@lie(
    passes("SEM_UNDO is dropped", "semop", 1, struct.pack("<Hhh", 0, 2, 0)),
)
def test_semaphore_adjustments_are_applied(parent: Process, semaphore: int) -> None:
    child = parent.fork()
    child.sys.semop(semaphore, (0, 2, SEM_UNDO))
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 2
    child.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 0


def child_with_bit(parent: Process, bit: int, value: int) -> Process:
    """A child whose id has a bit set or clear; those before it are gone."""
    child = parent.fork()
    while child.tid >> bit & 1 != value:
        child.exit()
        parent.sys.wait4(child.own_pid)
        child = parent.fork()
    return child


# The word holds an id, and is no set of flags: FUTEX_PRIVATE_FLAG is bit 7 of an operation.
@clause("exit/robust-futexes-marked")
@lie(leaves_out("set_robust_list", hangs=True))
@pytest.mark.parametrize("private", [0, 1], ids=["bit 7 clear", "bit 7 set"])
def test_an_owned_robust_futex_is_marked_and_its_waiter_woken(
    parent: Process, observer: Observer, private: int
) -> None:
    head = parent.allocate(4096, shared=True)
    entry, word = head + 64, head + 72
    child = child_with_bit(parent, 7, private)
    child.store(head, struct.pack("<QqQ", entry, word - entry, 0))
    child.store(entry, head)
    child.store(word, child.tid | FUTEX_WAITERS)
    child.sys.set_robust_list(head, 24)
    answer = parent.post.sys.futex(word, FUTEX_WAIT, child.tid | FUTEX_WAITERS)
    observer.wait_for_state(parent, "S")
    child.exit()
    assert answer.arrives() == 0
    assert parent.load(word) == FUTEX_OWNER_DIED | FUTEX_WAITERS


POLL, RESFD, POLLIN = 5, 1, 1  # io_submit(2): IOCB_CMD_POLL, IOCB_FLAG_RESFD; poll(2)
IOCB = struct.Struct("<QIIHhIQQQQII")


@clause("exit/pending-io-cancelled")
@lie(leaves_out("io_submit"), LIVES_ON)
def test_pending_io_is_cancelled(parent: Process) -> None:
    reader, _ = parent.sys.pipe()
    event = parent.sys.eventfd2(0, EFD_NONBLOCK)
    child = parent.fork()
    cell = child.allocate(4096)
    child.sys.io_setup(1, cell)
    child.store(cell + 8, cell + 16)
    child.store(cell + 16, IOCB.pack(0, 0, 0, POLL, 0, reader, POLLIN, 0, 0, 0, RESFD, event))
    child.sys.io_submit(child.load(cell), 1, cell + 8)
    with fails(EAGAIN):
        parent.sys.read(event, 8)
    child.exit()
    assert parent.sys.read(event, 8) == struct.pack("<Q", 1)


# --- terminals and stopped groups ---


def session_with_terminal(parent: Process) -> tuple[Process, Process]:
    """The leader of a session with a terminal, and its child in the foreground, alone in a group."""
    path = parent.new_terminal()
    leader = parent.fork("leader")
    leader.sys.setsid()
    terminal = leader.sys.openat(AT_FDCWD, path, O_RDWR)
    child = leader.fork()
    child.sys.setpgid(0, 0)
    child.count_signals(SIGHUP)
    leader.sys.ioctl(terminal, TIOCSPGRP, child.own_pid)
    return leader, child


@clause("exit/session-leader-exit-hangs-up")
@lie(
    passes(
        "the leader stays in the foreground",
        "ioctl",
        1,
        lambda request: TIOCGPGRP if request == TIOCSPGRP else request,
    )
)
def test_the_end_of_a_session_leader_hangs_up_the_foreground(parent: Process) -> None:
    leader, child = session_with_terminal(parent)
    leader.exit()
    assert child.count(SIGHUP) == 1


@clause("exit/session-leader-exit-gives-up-terminal")
@lie(LIVES_ON)
def test_the_end_of_a_session_leader_takes_the_terminal_from_the_session(
    parent: Process, observer: Observer
) -> None:
    leader, child = session_with_terminal(parent)
    assert observer.stat(child)[TTY_NUMBER] != "0"
    leader.exit()
    assert observer.stat(child)[TTY_NUMBER] == "0"
    with fails(ENXIO):
        child.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR)


@clause("exit/orphaned-stopped-group-gets-hup-cont")
@lie(
    in_child(
        "the reaper is of the session",
        lambda new: (
            new.name == "middle"
            and new.parent
            and new.parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1) == 0
        ),
        hangs=True,
    )
)
def test_a_stopped_group_that_is_orphaned_is_hung_up_and_goes_on(
    parent: Process, observer: Observer
) -> None:
    leader = parent.fork("leader")
    leader.sys.setsid()
    middle = leader.fork("middle")
    member = middle.fork("member")
    member.sys.setpgid(0, 0)
    member.count_signals(SIGHUP, SIGCONT)
    parent.sys.kill(member.own_pid, SIGSTOP)
    observer.wait_for_state(member, "T")
    middle.exit()
    assert (member.count(SIGHUP), member.count(SIGCONT)) == (1, 1)
