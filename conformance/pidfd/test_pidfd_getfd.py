"""pidfd_getfd(2): a descriptor of another process, who may take it, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Out, Step, fails
from pytest_procsemantics.driven.constants import (
    AF_UNIX,
    AT_FDCWD,
    CLONE_FILES,
    EAGAIN,
    EBADF,
    EINVAL,
    EMFILE,
    EPERM,
    ESRCH,
    F_GETFD,
    F_GETFL,
    F_SETFL,
    FD_CLOEXEC,
    KCMP_FILE,
    O_APPEND,
    O_CLOEXEC,
    O_NONBLOCK,
    O_RDWR,
    PIDFD_THREAD,
    POLLIN,
    PR_SET_DUMPABLE,
    RLIMIT_NOFILE,
    SEEK_CUR,
    SIGSTOP,
    SOCK_STREAM,
)
from pytest_procsemantics.driven.target import Target
from pytest_procsemantics.lies import (
    EXEC_CLOSES_NOTHING,
    Liar,
    Lie,
    acts_on_caller,
    before_call,
    in_child,
    leaves_out,
    lie,
    passes,
    reports,
)
from pytest_procsemantics.requirements.surroundings import SOMEBODY

FIFTY = 50  # where the child has what the parent takes
CLOSED = 99
OTHER = SOMEBODY + 1  # another user who runs nothing

SOME_NAME = struct.pack("<H", AF_UNIX)  # the kernel is to choose one

NOTHING_TAKEN = leaves_out("pidfd_getfd")
WITHOUT_FLAGS = passes("pidfd_getfd drops its flags", "pidfd_getfd", 2, 0)
OF_CALLER = acts_on_caller("pidfd_open")
DUMPABLE_STAYS = leaves_out("prctl")


def pid_of(pidfd: int, holder: Process) -> int:
    """The pid with which somebody opened it."""
    steps = [event for event in holder.target.transcript.events if isinstance(event, Step)]
    return next(
        int(step.args[0]) for step in steps if (step.name, step.result) == ("pidfd_open", pidfd)
    )


class _Reopens(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        if name == "pidfd_getfd":
            self.tell()
            number = self.sys.number("openat")
            args = (AT_FDCWD, f"/proc/{pid_of(args[0], self)}/fd/{args[1]}", O_RDWR | O_CLOEXEC, 0)
        return super().ask_call(name, number, args, decode)


class _TakesAway(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        step = super().ask_call(name, number, args, decode)
        if name == "pidfd_getfd" and step.arrives():
            pid = pid_of(args[0], self)
            owner = next(one for one in self.target.processes.values() if one.own_pid == pid)
            self.does(lambda process: process.sys.close(args[1]), owner)
        return step


REOPENED = Lie("the file is opened once more", _Reopens)
TAKEN_AWAY = Lie("the target's descriptor is closed", _TakesAway)


def file_at_fifty(process: Process, target: Target) -> None:
    """Open a file that has the letters from a to f."""
    path = process.make_file(f"{target.folder()}/letters", b"abcdef")
    process.sys.dup3(process.sys.openat(AT_FDCWD, path, O_RDWR), FIFTY, 0)


def pipe_at_fifty(process: Process) -> None:
    """Make a pipe, with its write end there."""
    process.sys.dup3(process.sys.pipe()[1], FIFTY, 0)


def name_length(process: Process, socket: int) -> int:
    """Bytes of a socket's address."""
    most = struct.pack("<i", 128)
    _, _, length = process.sys.raw("getsockname", socket, Out(128), Out(4, most))
    return int.from_bytes(length, "little")


# --- what is taken ---


@clause("pidfd_getfd.2/duplicates-targets-descriptor")
@lie(OF_CALLER)
def test_the_targets_descriptor_is_duplicated(parent: Process, observer: Observer) -> None:
    parent.sys.dup3(0, FIFTY, 0)
    child = parent.fork()
    pipe_at_fifty(child)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    taken = parent.sys.pidfd_getfd(pidfd, FIFTY, 0)
    assert observer.kcmp(parent, child, KCMP_FILE, taken, FIFTY) == 0


@clause("pidfd_getfd.2/lowest-free-descriptor")
@lie(reports("another number", "pidfd_getfd", lambda taken: taken + 1))
def test_the_duplicate_is_the_callers_lowest_free_number(parent: Process) -> None:
    child = parent.fork()
    pipe_at_fifty(child)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    free = parent.sys.dup(0)
    parent.sys.close(free)
    assert parent.sys.pidfd_getfd(pidfd, FIFTY, 0) == free


@clause("pidfd_getfd.2/shares-offset")
@lie(REOPENED)
def test_the_duplicate_has_the_same_offset(parent: Process, target: Target) -> None:
    child = parent.fork()
    file_at_fifty(child, target)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    taken = parent.sys.pidfd_getfd(pidfd, FIFTY, 0)
    assert parent.sys.read(taken, 3) == b"abc"
    assert child.sys.read(FIFTY, 2) == b"de"
    assert parent.sys.lseek(taken, 0, SEEK_CUR) == 5


@clause("pidfd_getfd.2/shares-status-flags")
@lie(REOPENED)
def test_the_duplicate_has_the_same_status_flags(parent: Process, target: Target) -> None:
    child = parent.fork()
    file_at_fifty(child, target)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    taken = parent.sys.pidfd_getfd(pidfd, FIFTY, 0)
    parent.sys.fcntl(taken, F_SETFL, O_APPEND)
    assert child.sys.fcntl(FIFTY, F_GETFL) & O_APPEND


@clause("pidfd_getfd.2/operations-act-on-object")
@lie(OF_CALLER)
def test_what_is_done_to_the_duplicate_is_done_to_the_targets(parent: Process) -> None:
    parent.sys.dup3(parent.sys.socket(AF_UNIX, SOCK_STREAM, 0), FIFTY, 0)
    child = parent.fork()
    child.sys.dup3(child.sys.socket(AF_UNIX, SOCK_STREAM, 0), FIFTY, 0)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    taken = parent.sys.pidfd_getfd(pidfd, FIFTY, 0)
    parent.sys.bind(taken, SOME_NAME)
    assert name_length(child, FIFTY) > len(SOME_NAME)


@clause("pidfd_getfd.2/close-on-exec-set")
@lie(EXEC_CLOSES_NOTHING)
def test_the_duplicate_is_closed_by_exec(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    taken = parent.sys.pidfd_getfd(pidfd, 0, 0)
    assert parent.sys.fcntl(taken, F_GETFD) == FD_CLOEXEC
    assert child.sys.fcntl(0, F_GETFD) == 0
    parent.execve()
    with fails(EBADF):
        parent.sys.fcntl(taken, F_GETFD)


@clause("pidfd_getfd.2/targets-table-unchanged")
@lie(TAKEN_AWAY)
def test_each_side_closes_its_own(parent: Process) -> None:
    child = parent.fork()
    pipe_at_fifty(child)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    taken = parent.sys.pidfd_getfd(pidfd, FIFTY, 0)
    assert child.sys.close(FIFTY) == 0
    assert parent.sys.fcntl(taken, F_GETFD) == FD_CLOEXEC
    with fails(EBADF):
        parent.sys.pidfd_getfd(pidfd, FIFTY, 0)


@clause("pidfd_getfd.2/duplicate-outlives-target")
@lie(NOTHING_TAKEN)
def test_the_duplicate_outlives_the_target(parent: Process) -> None:
    reader, writer = parent.sys.pipe2(O_NONBLOCK)
    child = parent.fork()
    parent.sys.close(writer)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    taken = parent.sys.pidfd_getfd(pidfd, writer, 0)
    child.exit()
    with fails(EAGAIN):
        parent.sys.read(reader, 1)
    parent.sys.close(taken)
    assert parent.sys.read(reader, 1) == b""


@clause("pidfd_getfd.2/needs-no-cooperation")
@lie(OF_CALLER)
def test_a_stopped_process_can_be_taken_from(parent: Process, observer: Observer) -> None:
    parent.sys.dup3(0, FIFTY, 0)
    child = parent.fork()
    pipe_at_fifty(child)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.kill(child.own_pid, SIGSTOP)
    observer.wait_for_state(child, "T")
    taken = parent.sys.pidfd_getfd(pidfd, FIFTY, 0)
    assert observer.kcmp(parent, child, KCMP_FILE, taken, FIFTY) == 0


@clause("pidfd_getfd.2/thread-pidfd-uses-threads-table")
@lie(leaves_out("unshare"))
def test_a_descriptor_of_a_thread_means_the_threads_table(parent: Process) -> None:
    thread = parent.thread()
    thread.sys.unshare(CLONE_FILES)
    pipe_at_fifty(thread)
    whole = parent.sys.pidfd_open(parent.own_pid, 0)
    with fails(EBADF):
        parent.sys.pidfd_getfd(whole, FIFTY, 0)
    one = parent.sys.pidfd_open(thread.tid, PIDFD_THREAD)
    assert parent.sys.pidfd_getfd(one, FIFTY, 0) > 0


# --- who may ---


@clause("pidfd_getfd.2/own-process-allowed")
@lie(NOTHING_TAKEN)
def test_a_process_may_always_take_its_own(parent: Process) -> None:
    reader, writer = parent.sys.pipe()
    parent.sys.capset(0, 0, 0)
    parent.sys.prctl(PR_SET_DUMPABLE, 0)
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    taken = parent.sys.pidfd_getfd(pidfd, writer, 0)
    parent.sys.write(taken, b"x")
    assert parent.sys.poll([(reader, POLLIN)], 0) == [(reader, POLLIN)]


@clause("pidfd_getfd.2/permission-same-user")
@lie(in_child("the child is not dumpable", lambda child: child.sys.prctl(PR_SET_DUMPABLE, 0)))
def test_of_the_same_user_parent_and_child_may_take(parent: Process) -> None:
    parent.sys.capset(0, 0, 0)
    child = parent.fork()
    of_child = parent.sys.pidfd_open(child.own_pid, 0)
    assert parent.sys.pidfd_getfd(of_child, 0, 0) > 0
    of_parent = child.sys.pidfd_open(parent.own_pid, 0)
    assert child.sys.pidfd_getfd(of_parent, 0, 0) > 0


@clause("pidfd_getfd.2/permission-real-ids-count")
@lie(passes("the real user is the other one", "setresuid", 0, SOMEBODY))
def test_the_callers_real_user_counts(parent: Process) -> None:
    child, same, other = parent.fork(), parent.fork("same"), parent.fork("other")
    child.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    child.sys.prctl(PR_SET_DUMPABLE, 1)
    same.sys.setresuid(SOMEBODY, OTHER, OTHER)
    assert same.sys.pidfd_getfd(same.sys.pidfd_open(child.own_pid, 0), 0, 0) > 0
    other.sys.setresuid(OTHER, SOMEBODY, SOMEBODY)
    with fails(EPERM):
        other.sys.pidfd_getfd(other.sys.pidfd_open(child.own_pid, 0), 0, 0)


@clause("pidfd_getfd.2/permission-dumpable")
@lie(DUMPABLE_STAYS)
def test_from_a_process_that_is_not_dumpable_nothing_is_taken(parent: Process) -> None:
    parent.sys.capset(0, 0, 0)
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.sys.prctl(PR_SET_DUMPABLE, 0)
    with fails(EPERM):
        parent.sys.pidfd_getfd(pidfd, 0, 0)
    child.sys.prctl(PR_SET_DUMPABLE, 1)
    assert parent.sys.pidfd_getfd(pidfd, 0, 0) > 0


@clause("pidfd_getfd.2/eperm")
@lie(leaves_out("setresuid"))
def test_from_another_users_process_nothing_is_taken(parent: Process) -> None:
    child = parent.fork()
    child.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    pidfd = child.sys.pidfd_open(parent.own_pid, 0)
    with fails(EPERM):
        child.sys.pidfd_getfd(pidfd, 0, 0)


# --- what is refused ---


@clause("pidfd_getfd.2/returns-descriptor-or-minus-one")
@lie(before_call("pidfd_getfd", "a descriptor is left", lambda process: process.sys.dup(0)))
def test_a_refused_call_takes_nothing(parent: Process) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    free = parent.sys.dup(0)
    parent.sys.close(free)
    with fails(EBADF):
        parent.sys.pidfd_getfd(pidfd, CLOSED, 0)
    with fails(EINVAL):
        parent.sys.pidfd_getfd(pidfd, 0, 1)
    assert parent.sys.pidfd_getfd(pidfd, 0, 0) == free
    assert parent.sys.fcntl(free, F_GETFD) == FD_CLOEXEC


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(lambda process: process.sys.pipe()[0], id="pipe"),
        pytest.param(lambda process: process.sys.openat(AT_FDCWD, "/dev/null"), id="file"),
        pytest.param(lambda process: -1, id="-1"),
    ],
)
@clause("pidfd_getfd.2/ebadf-pidfd")
@lie(NOTHING_TAKEN)
def test_what_is_no_pidfd_is_refused(parent: Process, opened: Callable[[Process], int]) -> None:
    with fails(EBADF):
        parent.sys.pidfd_getfd(opened(parent), 0, 0)


@pytest.mark.parametrize("number", [CLOSED, -1])
@clause("pidfd_getfd.2/ebadf-targetfd")
@lie(passes("pidfd_getfd takes 0", "pidfd_getfd", 1, 0))
def test_what_the_target_has_not_open_is_refused(parent: Process, number: int) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    with fails(EBADF):
        parent.sys.pidfd_getfd(pidfd, number, 0)


@pytest.mark.parametrize("flags", [1, O_CLOEXEC, 1 << 31], ids=hex)
@clause("pidfd_getfd.2/einval-flags")
@lie(WITHOUT_FLAGS)
def test_there_are_no_flags(parent: Process, flags: int) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    with fails(EINVAL):
        parent.sys.pidfd_getfd(pidfd, 0, flags)


@clause("pidfd_getfd.2/emfile")
@lie(leaves_out("prlimit64"))
def test_at_the_callers_limit_of_descriptors_nothing_is_taken(parent: Process) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    free = parent.sys.dup(0)
    parent.sys.close(free)
    _, hard = parent.sys.prlimit64(0, RLIMIT_NOFILE)
    parent.sys.prlimit64(0, RLIMIT_NOFILE, (free, hard))
    with fails(EMFILE):
        parent.sys.pidfd_getfd(pidfd, 0, 0)
    parent.sys.prlimit64(0, RLIMIT_NOFILE, (free + 1, hard))
    assert parent.sys.pidfd_getfd(pidfd, 0, 0) == free


@clause("pidfd_getfd.2/zombie-has-no-descriptors")
@lie(NOTHING_TAKEN)
def test_from_a_zombie_nothing_is_taken(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.exit()
    assert observer.state(child) == "Z"
    with fails(ESRCH):
        parent.sys.pidfd_getfd(pidfd, 0, 0)


@clause("pidfd_getfd.2/esrch-reaped")
@lie(NOTHING_TAKEN)
def test_from_a_process_that_was_waited_for_nothing_is_taken(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.exit()
    parent.sys.wait4(child.own_pid)
    with fails(ESRCH):
        parent.sys.pidfd_getfd(pidfd, 0, 0)
