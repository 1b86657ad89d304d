"""fcntl(2): locks, leases and signals of a file, when more than one process has it open."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make, by_any_copy
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_FILES,
    CLONE_NEWPID,
    EAGAIN,
    F_DUPFD_CLOEXEC,
    F_GETFD,
    F_GETLEASE,
    F_GETLK,
    F_GETOWN,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_RDLCK,
    F_SETFL,
    F_SETLEASE,
    F_SETLK,
    F_SETOWN,
    F_SETSIG,
    F_UNLCK,
    F_WRLCK,
    FD_CLOEXEC,
    O_CREAT,
    O_NONBLOCK,
    O_RDWR,
    P_PID,
    POLL_IN,
    SIG_BLOCK,
    SIGCHLD,
    SIGIO,
    SIGRTMIN,
    WEXITED,
    WNOWAIT,
)
from pytest_procsemantics.driven.forms import Lock
from pytest_procsemantics.lies import (
    by_maker_too,
    drops,
    in_child,
    leaves_out,
    lie,
    opened,
    passes,
)
from pytest_procsemantics.requirements import new_init

O_ASYNC = 0o20000
WHOLE = Lock(F_WRLCK)
NO_OFD = passes(
    "the lock is the process's", "fcntl", 1, lambda kind: {F_OFD_SETLK: F_SETLK}.get(kind, kind)
)
OFD = passes(
    "the lock is the file's", "fcntl", 1, lambda kind: {F_SETLK: F_OFD_SETLK}.get(kind, kind)
)


def new_file(process: Process, target: Target) -> int:
    """A descriptor of a new file."""
    return open_file(process, target, O_CREAT)


def open_file(process: Process, target: Target, flags: int = 0) -> int:
    """Another description of that file."""
    return int(process.sys.openat(AT_FDCWD, f"{target.folder()}/file", O_RDWR | flags, 0o600))


@clause("fcntl.2/dupfd-cloexec-sets-bit")
@lie(leaves_out("fcntl"))
def test_f_dupfd_cloexec_marks_the_duplicate(parent: Process, target: Target) -> None:
    fd = new_file(parent, target)
    duplicate = parent.sys.fcntl(fd, F_DUPFD_CLOEXEC, 0)
    assert parent.sys.fcntl(duplicate, F_GETFD) == FD_CLOEXEC
    assert parent.sys.fcntl(fd, F_GETFD) == 0


# --- record locks ---


@clause("fcntl.2/record-locks-released-at-end")
@lie(OFD)
def test_record_locks_are_gone_when_the_end_can_be_waited_for(
    parent: Process, target: Target
) -> None:
    fd = new_file(parent, target)
    child = parent.fork()
    child.sys.fcntl(fd, F_SETLK, WHOLE)
    assert parent.sys.fcntl(fd, F_GETLK, WHOLE).pid == child.own_pid
    child.post.sys.exit_group(0)
    parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOWAIT)
    assert parent.sys.fcntl(fd, F_GETLK, WHOLE).type == F_UNLCK


@clause("fcntl.2/record-locks-dropped-by-any-close")
@lie(OFD)
def test_record_locks_are_dropped_by_the_close_of_another_descriptor(
    parent: Process, target: Target
) -> None:
    fd = new_file(parent, target)
    child = parent.fork()
    child.sys.fcntl(fd, F_SETLK, WHOLE)
    another = open_file(child, target)
    assert parent.sys.fcntl(fd, F_GETLK, WHOLE).type == F_WRLCK
    child.sys.close(another)
    assert parent.sys.fcntl(fd, F_GETLK, WHOLE).type == F_UNLCK


@by_any_copy("fcntl.2/childs-close-keeps-parents-locks")
@lie(by_maker_too("fcntl"), by_maker_too("close"))
def test_a_child_ends_no_record_lock_of_its_makers(
    parent: Process, make: Make, target: Target
) -> None:
    fd = new_file(parent, target)
    parent.sys.fcntl(fd, F_SETLK, WHOLE)
    child, other = make(parent), parent.fork("other")
    child.sys.fcntl(fd, F_SETLK, Lock(F_UNLCK))
    child.sys.close(fd)
    child.exit()
    assert other.sys.fcntl(fd, F_GETLK, WHOLE).pid == parent.own_pid


@clause("fcntl.2/clone-files-shares-record-locks")
@lie(drops(CLONE_FILES))
def test_who_shares_the_table_is_one_owner(parent: Process, target: Target) -> None:
    fd = new_file(parent, target)
    parent.sys.fcntl(fd, F_SETLK, WHOLE)
    other = parent.fork("other")
    child = parent.clone(CLONE_FILES | SIGCHLD)
    assert child.sys.fcntl(fd, F_GETLK, WHOLE).type == F_UNLCK
    assert child.sys.fcntl(fd, F_SETLK, WHOLE) == 0
    child.exit()
    assert other.sys.fcntl(fd, F_GETLK, WHOLE).type == F_WRLCK


@clause("fcntl.2/getlk-pid-of-foreign-holder")
@lie(drops(CLONE_NEWPID))
def test_a_holder_without_a_number_here_is_0(parent: Process, target: Target) -> None:
    fd = new_file(parent, target)
    parent.sys.fcntl(fd, F_SETLK, WHOLE)
    found = new_init(parent).sys.fcntl(fd, F_GETLK, WHOLE)
    assert (found.type, found.pid) == (F_WRLCK, 0)


# --- locks of a description ---


@by_any_copy("fcntl.2/ofd-lock-wait-does-not-conflict-with-copy")
@lie(NO_OFD)
def test_locks_of_one_description_do_not_conflict(
    parent: Process, make: Make, target: Target
) -> None:
    fd = new_file(parent, target)
    parent.sys.fcntl(fd, F_OFD_SETLK, WHOLE)
    assert make(parent).sys.fcntl(fd, F_OFD_SETLK, WHOLE) == 0


@by_any_copy("fcntl.2/ofd-locks-end-with-last-close")
@lie(NO_OFD)
def test_a_description_keeps_its_lock_until_the_last_close(
    parent: Process, make: Make, target: Target
) -> None:
    fd = new_file(parent, target)
    child = make(parent)
    child.sys.fcntl(fd, F_OFD_SETLK, WHOLE)
    child.exit()
    another = open_file(parent, target)
    assert parent.sys.fcntl(another, F_OFD_GETLK, WHOLE).type == F_WRLCK
    parent.sys.close(fd)
    assert parent.sys.fcntl(another, F_OFD_GETLK, WHOLE).type == F_UNLCK


# --- leases ---


def new_lease(process: Process, target: Target) -> int:
    """A descriptor, for reading only, with a lease."""
    fd = int(process.sys.openat(AT_FDCWD, process.make_file(f"{target.folder()}/file")))
    process.sys.fcntl(fd, F_SETLEASE, F_RDLCK)
    return fd


@by_any_copy("fcntl.2/lease-inherited", "fcntl.2/lease-released-by-child")
@lie(leaves_out("fcntl"))
def test_a_lease_is_the_childs_too(parent: Process, make: Make, target: Target) -> None:
    fd = new_lease(parent, target)
    child = make(parent)
    assert child.sys.fcntl(fd, F_GETLEASE) == F_RDLCK
    child.sys.fcntl(fd, F_SETLEASE, F_UNLCK)
    assert parent.sys.fcntl(fd, F_GETLEASE) == F_UNLCK


def takes_over(child: Process) -> None:
    """Be told instead of its maker."""
    for fd in opened(child):
        child.sys.fcntl(fd, F_SETOWN, child.own_pid)


@clause("fcntl.2/lease-break-signals-holder-only")
@lie(in_child("it takes the lease over", takes_over))
def test_a_break_is_told_to_the_holder_alone(parent: Process, target: Target) -> None:
    parent.count_signals(SIGIO)
    new_lease(parent, target)
    child = parent.fork()
    with fails(EAGAIN):
        open_file(child, target, O_NONBLOCK)
    assert (parent.count(SIGIO), child.count(SIGIO)) == (1, 0)


# --- signals ---


@clause("fcntl.2/owner-set-by-child-holds-for-parent")
@lie(leaves_out("fcntl"))
def test_an_owner_whom_a_child_sets_is_the_descriptions(parent: Process) -> None:
    parent.count_signals(SIGIO)
    here, there = parent.sys.socketpair()
    parent.sys.fcntl(here, F_SETFL, O_ASYNC)
    child = parent.fork()
    child.sys.fcntl(here, F_SETOWN, child.own_pid)
    assert parent.sys.fcntl(here, F_GETOWN) == child.own_pid
    child.exit()
    child.wait_for_exit()
    parent.sys.write(there, b"x")
    assert parent.sys.fcntl(here, F_GETOWN) == 0
    assert parent.count(SIGIO) == 0


@clause("fcntl.2/owner-signal-crosses-pid-namespaces")
@lie(leaves_out("fcntl"))
def test_the_owner_is_told_of_what_another_namespace_writes(parent: Process) -> None:
    here, there = parent.sys.socketpair()
    owner, writer = new_init(parent, "owner"), new_init(parent, "writer")
    owner.sys.rt_sigprocmask(SIG_BLOCK, {SIGRTMIN})
    owner.sys.fcntl(here, F_SETOWN, owner.own_pid)
    owner.sys.fcntl(here, F_SETSIG, SIGRTMIN)
    owner.sys.fcntl(here, F_SETFL, O_ASYNC)
    writer.sys.write(there, b"x")
    told = owner.sys.rt_sigtimedwait({SIGRTMIN}, 0)
    assert (told.code, told.status) == (POLL_IN, here)
