"""seccomp(2): whom filters and the strict mode bind, what they do to processes and threads, and who is told of."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Exit, Observer, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    CLONE_NEWUSER,
    EBADF,
    ENOTTY,
    ESRCH,
    PR_GET_NO_NEW_PRIVS,
    PR_GET_SECCOMP,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_FILTER_FLAG_TSYNC,
    SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
    SECCOMP_IOCTL_NOTIF_RECV,
    SECCOMP_IOCTL_NOTIF_SEND,
    SECCOMP_MODE_FILTER,
    SECCOMP_RET_KILL_PROCESS,
    SECCOMP_RET_KILL_THREAD,
    SECCOMP_RET_USER_NOTIF,
    SECCOMP_SET_MODE_FILTER,
    SECCOMP_SET_MODE_STRICT,
    SIGKILL,
    SIGSYS,
)
from pytest_procsemantics.driven.filters import answering, refusing
from pytest_procsemantics.driven.forms.processes import FILTER
from pytest_procsemantics.lies import (
    EXEC_CLOSES_NOTHING,
    before_call,
    by_maker_too,
    drops,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import (
    expect_new_privileges,
    new_init,
    own_namespaces,
)

NOT_SET = leaves_out("seccomp")
WITHOUT_FLAGS = passes("without flags", "seccomp", 1, 0)
UNKNOWN_ACTION = 0x00AA0000
NOTIFICATION = struct.Struct("<QII64x")  # struct seccomp_notif: id, pid, flags, the call
RESPONSE = struct.Struct("<QqiI")  # struct seccomp_notif_resp: id, result, error, flags


def sets(process: Process, program: tuple[int, int], flags: int = 0) -> int:
    """Set a filter; gives what the call does."""
    process.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    return int(process.sys.seccomp(SECCOMP_SET_MODE_FILTER, flags, program))


def refused(process: Process) -> None:
    with fails(ENOTTY):
        process.sys.getppid()


# --- whom a filter binds ---


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Process.fork, id="fork", marks=clause("seccomp.2/filters-inherited-by-fork")),
        pytest.param(
            Process.thread,
            id="thread",
            marks=clause("seccomp.2/filters-inherited-by-new-threads"),
        ),
    ],
)
@lie(NOT_SET)
def test_a_new_child_or_thread_is_under_the_filters(
    parent: Process, observer: Observer, make: Callable[[Process], Process]
) -> None:
    sets(parent, refusing(parent, "getppid", ENOTTY))
    child = make(parent)
    refused(child)
    assert observer.status_field(child, "Seccomp") == "2"


@clause("seccomp.2/childs-filter-leaves-parent")
@lie(by_maker_too("seccomp"))
def test_a_filter_of_the_child_does_not_bind_the_parent(parent: Process) -> None:
    parent.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    program = refusing(parent, "getppid", ENOTTY)
    child = parent.fork()
    sets(child, program)
    refused(child)
    parent.sys.getppid()


@clause("seccomp.2/filter-does-not-bind-existing-threads")
@lie(passes("with the flag", "seccomp", 1, SECCOMP_FILTER_FLAG_TSYNC))
def test_a_filter_does_not_bind_threads_that_are_there(parent: Process) -> None:
    thread = parent.thread()
    sets(parent, refusing(parent, "getppid", ENOTTY))
    refused(parent)
    thread.sys.getppid()


@clause("seccomp.2/filter-needs-sys-admin-or-no-new-privs")
@lie(NOT_SET)
def test_who_has_the_capability_needs_no_no_new_privs(parent: Process) -> None:
    expect_new_privileges(parent)
    own_namespaces(parent, CLONE_NEWUSER)
    program = refusing(parent, "getppid", ENOTTY)
    assert parent.sys.seccomp(SECCOMP_SET_MODE_FILTER, 0, program) == 0
    assert parent.sys.prctl(PR_GET_NO_NEW_PRIVS) == 0
    refused(parent.fork())
    refused(parent.execve())


# --- SECCOMP_FILTER_FLAG_TSYNC ---


@clause("seccomp.2/tsync-binds-all-threads")
@lie(WITHOUT_FLAGS)
def test_tsync_binds_all_threads(parent: Process) -> None:
    thread = parent.thread()
    program = refusing(parent, "getppid", ENOTTY)
    assert sets(parent, program, SECCOMP_FILTER_FLAG_TSYNC) == 0
    refused(thread)
    refused(parent)


@clause("seccomp.2/tsync-sets-no-new-privs")
@lie(WITHOUT_FLAGS)
def test_tsync_gives_all_threads_no_new_privs(parent: Process) -> None:
    expect_new_privileges(parent)
    thread = parent.thread()
    parent.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    assert thread.sys.prctl(PR_GET_NO_NEW_PRIVS) == 0
    sets(parent, refusing(parent, "getppid", ENOTTY), SECCOMP_FILTER_FLAG_TSYNC)
    assert thread.sys.prctl(PR_GET_NO_NEW_PRIVS) == 1


@clause("seccomp.2/tsync-failure-returns-thread-id")
@lie(WITHOUT_FLAGS)
def test_tsync_gives_the_thread_that_it_cannot_bind(parent: Process) -> None:
    thread = parent.thread()
    sets(thread, refusing(parent, "getsid", ENOTTY))
    program = refusing(parent, "getppid", ENOTTY)
    assert sets(parent, program, SECCOMP_FILTER_FLAG_TSYNC) == thread.tid
    assert parent.sys.getppid() == thread.sys.getppid()


@clause("seccomp.2/tsync-esrch")
@lie(passes("the id is given", "seccomp", 1, lambda flags: flags & SECCOMP_FILTER_FLAG_TSYNC))
def test_tsync_fails_for_a_thread_that_it_cannot_bind(parent: Process) -> None:
    thread = parent.thread()
    sets(thread, refusing(parent, "getsid", ENOTTY))
    program = refusing(parent, "getppid", ENOTTY)
    with fails(ESRCH):
        sets(parent, program, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_TSYNC_ESRCH)
    assert parent.sys.getppid() == thread.sys.getppid()


# --- what becomes of processes and threads ---


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(
            SECCOMP_RET_KILL_PROCESS,
            id="process",
            marks=clause("seccomp.2/kill-process-ends-all-threads"),
        ),
        pytest.param(
            UNKNOWN_ACTION,
            id="unknown",
            marks=clause("seccomp.2/unknown-action-kills-process"),
        ),
    ],
)
@lie(leaves_out("seccomp", hangs=True))
def test_what_one_thread_asks_for_ends_all_past_a_handler(parent: Process, action: int) -> None:
    child = parent.fork()
    child.count_signals(SIGSYS)
    thread = child.thread()
    sets(thread, answering(thread, "getppid", action))
    thread.post.sys.getppid()
    assert child.wait_for_exit().signal == SIGSYS


def kills_all(thread: Process) -> None:
    """Let what a thread asks for end its process."""
    program = answering(thread, "getppid", SECCOMP_RET_KILL_PROCESS)
    thread.sys.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, FILTER.pack(*program))


@clause("seccomp.2/kill-thread-ends-thread-only")
@lie(
    leaves_out("seccomp", hangs=True),
    before_call("seccomp", "all end", kills_all),
)
def test_what_one_thread_asks_for_ends_it_alone(parent: Process, target: Target) -> None:
    child = parent.fork()
    thread = child.thread()
    sets(thread, answering(thread, "getppid", SECCOMP_RET_KILL_THREAD))
    thread.post.sys.getppid()
    target.wait_for_end(thread)
    assert child.sys.getppid() == parent.own_pid
    child.exit(5)
    assert child.wait_for_exit() == Exit(5)


@clause("seccomp.2/execve-can-be-filtered")
@lie(NOT_SET)
def test_exec_can_be_refused(parent: Process) -> None:
    sets(parent, refusing(parent, "execve", ENOTTY))
    with fails(ENOTTY):
        parent.execve()
    assert parent.images == 0


def enters_strict_mode(process: Process) -> None:
    """Allow a process nothing more than to read, write and end.

    Raises:
        Unsupported: it is under a filter, so it can't.
    """
    if process.sys.prctl(PR_GET_SECCOMP):
        raise Unsupported("strict mode (the suite was started with a filter of system calls)")
    process.sys.seccomp(SECCOMP_SET_MODE_STRICT)


@clause("seccomp.2/strict-mode-kills-fork")
@lie(leaves_out("seccomp", hangs=True))
def test_in_strict_mode_fork_is_death(parent: Process) -> None:
    child = parent.fork()
    enters_strict_mode(child)
    child.post.fork()
    assert child.wait_for_exit().signal == SIGKILL


@clause("seccomp.2/strict-mode-allows-exit-only")
@lie(NOT_SET)
def test_in_strict_mode_a_thread_may_end_and_not_the_process(parent: Process) -> None:
    first, second = parent.fork("first"), parent.fork("second")
    enters_strict_mode(first)
    enters_strict_mode(second)
    first.post.sys.exit(6)
    second.post.sys.exit_group(6)
    assert first.wait_for_exit() == Exit(6)
    assert second.wait_for_exit().signal == SIGKILL


# --- SECCOMP_FILTER_FLAG_NEW_LISTENER ---


def listens(process: Process) -> int:
    """Let calls of getppid be told, and give the descriptor that tells them."""
    program = answering(process, "getppid", SECCOMP_RET_USER_NOTIF)
    return sets(process, program, SECCOMP_FILTER_FLAG_NEW_LISTENER)


def told(process: Process, listener: int) -> tuple[int, int]:
    """The next call that is told: an id, and the caller's pid."""
    memory = process.allocate(NOTIFICATION.size)
    process.sys.ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, memory)
    id, pid, _ = NOTIFICATION.unpack(process.load_bytes(memory, NOTIFICATION.size))
    return id, pid


@clause("seccomp.2/listener-has-cloexec")
@lie(EXEC_CLOSES_NOTHING)
def test_a_listener_is_closed_at_exec(parent: Process) -> None:
    listener = listens(parent)
    parent.execve()
    with fails(EBADF):
        parent.sys.close(listener)


@clause("seccomp.2/notification-pid-as-reader-sees")
@lie(drops(CLONE_NEWPID))
def test_the_pid_that_is_told_is_the_one_that_the_reader_sees(parent: Process) -> None:
    listener = listens(parent)
    caller = new_init(parent, "caller")
    caller.post.sys.getppid()
    assert caller.own_pid == 1
    assert told(parent, listener)[1] == caller.pid


@clause("seccomp.2/notification-pid-outside-is-zero")
@lie(drops(CLONE_NEWPID))
def test_where_the_reader_sees_none_the_pid_that_is_told_is_zero(parent: Process) -> None:
    listener = listens(parent)
    caller, reader = new_init(parent, "caller"), new_init(parent, "reader")
    answer = caller.post.sys.getppid()
    id, pid = told(reader, listener)
    assert pid == 0
    reader.sys.ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, RESPONSE.pack(id, 77, 0, 0))
    assert answer.arrives() == 77
