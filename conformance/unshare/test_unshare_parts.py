"""unshare(2): the descriptor table, the filesystem attributes and the semaphore adjustments."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_FILES,
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    EBADF,
    ECHILD,
    F_GETFD,
    FD_CLOEXEC,
    GETVAL,
    KCMP_FILE,
    KCMP_FILES,
    KCMP_FS,
    KCMP_SYSVSEM,
    KCMP_VM,
    O_CLOEXEC,
    P_ALL,
    SEM_UNDO,
    SIG_IGN,
    SIGCHLD,
    SIGUSR1,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.lies import (
    before_call,
    every_child,
    in_child,
    leaves_out,
    lie,
    passes,
    reports,
)
from pytest_procsemantics.requirements import namespace_flags

STAYS = leaves_out("unshare")
REFUSED = passes("unshare gets a bad flag", "unshare", 0, lambda flags: flags | CLONE_VFORK)
ALL_PARTS = CLONE_FILES | CLONE_FS | CLONE_SYSVSEM


def shares(observer: Observer, one: Process, other: Process, kind: int) -> bool:
    return observer.kcmp(one, other, kind) == 0


@clause("unshare.2/creates-no-process")
@lie(before_call("unshare", "forks first", lambda process: process.fork()))
def test_unshare_makes_no_process(parent: Process) -> None:
    before = parent.sys.getpid(), parent.sys.gettid(), parent.sys.getppid()
    parent.sys.unshare(CLONE_FS)
    assert (parent.sys.getpid(), parent.sys.gettid(), parent.sys.getppid()) == before
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


@clause("unshare.2/returns-zero")
@lie(reports("unshare gives 1", "unshare", lambda _: 1))
@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(CLONE_FILES, id="files"),
        pytest.param(CLONE_FS, id="fs"),
        pytest.param(CLONE_SYSVSEM, id="sysvsem"),
    ],
)
def test_success_is_zero(parent: Process, flag: int) -> None:
    assert parent.sys.unshare(flag) == 0


@clause("unshare.2/flags-combine")
@lie(
    passes("only files", "unshare", 0, CLONE_FILES),
    passes("all but files", "unshare", 0, CLONE_FS | CLONE_SYSVSEM),
    passes("all but fs", "unshare", 0, CLONE_FILES | CLONE_SYSVSEM),
)
def test_flags_can_be_given_together(parent: Process, observer: Observer) -> None:
    child = parent.clone(ALL_PARTS | SIGCHLD)
    child.sys.unshare(ALL_PARTS)
    assert not shares(observer, parent, child, KCMP_FILES)
    assert not shares(observer, parent, child, KCMP_FS)
    assert not shares(observer, parent, child, KCMP_SYSVSEM)


@clause("unshare.2/unnamed-parts-stay-shared")
@lie(passes("the rest as well", "unshare", 0, ALL_PARTS), every_child(CLONE_FILES | SIGCHLD))
def test_a_part_that_is_not_named_stays_shared(
    parent: Process, observer: Observer, target: Target
) -> None:
    child = parent.clone(CLONE_FILES | CLONE_FS | SIGCHLD)
    child.sys.unshare(CLONE_FILES)
    assert not shares(observer, parent, child, KCMP_FILES)
    child.sys.chdir(target.folder())
    assert parent.sys.getcwd() == target.folder().encode()


@clause("unshare.2/zero-is-no-op")
@lie(passes("unshare of all parts", "unshare", 0, ALL_PARTS))
def test_without_flags_nothing_changes(parent: Process, observer: Observer) -> None:
    child = parent.clone(CLONE_FILES | CLONE_FS | SIGCHLD)
    assert child.sys.unshare(0) == 0
    assert shares(observer, parent, child, KCMP_FILES)
    assert shares(observer, parent, child, KCMP_FS)


@clause("unshare.2/other-parts-are-shared-by-clone-flags")
@lie(every_child(SIGCHLD), every_child(CLONE_VM | SIGCHLD))
def test_memory_is_shared_where_clone_is_asked_to(parent: Process, observer: Observer) -> None:
    assert not shares(observer, parent, parent.fork(), KCMP_VM)
    assert shares(observer, parent, parent.clone(CLONE_VM | SIGCHLD), KCMP_VM)


# --- descriptors ---


@clause("unshare.2/files-unshares-table")
@lie(STAYS)
def test_the_caller_has_a_table_of_its_own(parent: Process, observer: Observer) -> None:
    child = parent.clone(CLONE_FILES | SIGCHLD)
    child.sys.unshare(CLONE_FILES)
    assert not shares(observer, parent, child, KCMP_FILES)
    child.sys.dup3(0, 40, 0)
    with fails(EBADF):
        parent.sys.fcntl(40, F_GETFD)
    parent.sys.dup3(0, 41, 0)
    with fails(EBADF):
        child.sys.fcntl(41, F_GETFD)


@clause("unshare.2/files-keeps-open-descriptors")
@lie(before_call("unshare", "40 is closed", lambda process: process.sys.close(40)))
def test_the_new_table_has_copies_of_all_descriptors(parent: Process, observer: Observer) -> None:
    child = parent.clone(CLONE_FILES | SIGCHLD)
    parent.sys.dup3(0, 40, 0)
    parent.sys.dup3(0, 41, O_CLOEXEC)
    child.sys.unshare(CLONE_FILES)
    assert child.sys.fcntl(40, F_GETFD) == 0
    assert child.sys.fcntl(41, F_GETFD) == FD_CLOEXEC
    assert observer.kcmp(parent, child, KCMP_FILE, 40, 40) == 0


@clause("unshare.2/files-works-for-a-thread")
@lie(STAYS)
def test_a_thread_can_leave_the_table_of_its_process(parent: Process) -> None:
    thread = parent.thread()
    thread.sys.unshare(CLONE_FILES)
    thread.sys.dup3(0, 40, 0)
    with fails(EBADF):
        parent.sys.fcntl(40, F_GETFD)


# --- filesystem attributes ---


@clause("unshare.2/fs-unshares-working-directory")
@lie(STAYS)
def test_the_caller_has_a_working_directory_of_its_own(parent: Process, target: Target) -> None:
    child = parent.clone(CLONE_FS | SIGCHLD)
    child.sys.unshare(CLONE_FS)
    parent.sys.chdir("/")
    child.sys.chdir(target.folder())
    assert parent.sys.getcwd() == b"/"
    parent.sys.chdir("/proc")
    assert child.sys.getcwd() == target.folder().encode()


@clause("unshare.2/fs-unshares-root")
@lie(STAYS)
def test_the_caller_has_a_root_of_its_own(parent: Process, target: Target) -> None:
    parent.make_file(f"{target.folder()}/inside")
    child = parent.clone(CLONE_FS | SIGCHLD)
    child.sys.unshare(CLONE_FS)
    child.sys.chroot(target.folder())
    assert child.sys.openat(AT_FDCWD, "/inside") > 0
    assert parent.sys.openat(AT_FDCWD, f"{target.folder()}/inside") > 0


@clause("unshare.2/fs-unshares-umask")
@lie(STAYS)
def test_the_caller_has_a_umask_of_its_own(parent: Process) -> None:
    parent.sys.umask(0o22)
    child = parent.clone(CLONE_FS | SIGCHLD)
    child.sys.unshare(CLONE_FS)
    child.sys.umask(0o123)
    assert parent.sys.umask(0) == 0o22


@clause("unshare.2/fs-keeps-values")
@lie(
    before_call("unshare", "umask 0", lambda process: process.sys.umask(0)),
    before_call("unshare", "chdir to /", lambda process: process.sys.chdir("/")),
)
def test_the_caller_begins_with_the_values_that_were_shared(
    parent: Process, target: Target
) -> None:
    child = parent.clone(CLONE_FS | SIGCHLD)
    parent.sys.chdir(target.folder())
    parent.sys.umask(0o123)
    child.sys.unshare(CLONE_FS)
    assert child.sys.getcwd() == target.folder().encode()
    assert child.sys.umask(0) == 0o123


@clause("unshare.2/fs-works-for-a-thread")
@lie(STAYS)
def test_a_thread_can_leave_the_working_directory_of_its_process(
    parent: Process, target: Target
) -> None:
    parent.sys.chdir("/")
    thread = parent.thread()
    thread.sys.unshare(CLONE_FS)
    thread.sys.chdir(target.folder())
    assert parent.sys.getcwd() == b"/"


# --- semaphore adjustments ---


@clause("unshare.2/sysvsem-new-empty-list")
@lie(STAYS)
def test_the_callers_new_list_of_adjustments_is_empty(parent: Process, semaphore: int) -> None:
    child = parent.clone(CLONE_SYSVSEM | SIGCHLD)
    parent.sys.semop(semaphore, (0, 1, SEM_UNDO))
    child.sys.unshare(CLONE_SYSVSEM)
    child.sys.semop(semaphore, (0, 1, SEM_UNDO))
    child.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 1


@clause("unshare.2/sysvsem-last-reference-applies")
@lie(STAYS)
def test_the_last_one_to_leave_a_list_has_it_applied(parent: Process, semaphore: int) -> None:
    child = parent.fork()
    child.sys.semop(semaphore, (0, 1, SEM_UNDO))
    child.sys.unshare(CLONE_SYSVSEM)
    assert child.sys.semctl(semaphore, 0, GETVAL) == 0


@clause("unshare.2/sysvsem-not-last-keeps")
@lie(every_child(SIGCHLD))
def test_a_list_that_another_one_has_is_not_applied(parent: Process, semaphore: int) -> None:
    other = parent.fork("other")
    child = other.clone(CLONE_SYSVSEM | SIGCHLD)
    child.sys.semop(semaphore, (0, 1, SEM_UNDO))
    child.sys.unshare(CLONE_SYSVSEM)
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 1
    other.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 0


# --- what changes nothing in a process with one thread ---


@pytest.mark.parametrize(
    "flag",
    [
        pytest.param(CLONE_THREAD, marks=clause("unshare.2/thread-without-effect"), id="thread"),
        pytest.param(CLONE_SIGHAND, marks=clause("unshare.2/sighand-without-effect"), id="sighand"),
        pytest.param(CLONE_VM, marks=clause("unshare.2/vm-without-effect"), id="vm"),
    ],
)
@lie(
    REFUSED,
    before_call("unshare", "SIGUSR1 is default", lambda p: p.sys.rt_sigaction(SIGUSR1, 0)),
)
def test_a_single_thread_may_give_the_flags_of_threads(
    parent: Process, observer: Observer, flag: int
) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 7)
    parent.sys.rt_sigaction(SIGUSR1, SIG_IGN)
    assert parent.sys.unshare(flag) == 0
    assert parent.load(cell) == 7
    assert parent.sys.rt_sigaction(SIGUSR1).handler == SIG_IGN
    assert (observer.threads(parent), parent.sys.gettid()) == (1, parent.pid)


@clause("unshare.2/mount-namespace-is-shared-by-fork")
@lie(in_child("it unshares", lambda child: child.sys.unshare(namespace_flags(child, CLONE_NEWNS))))
@pytest.mark.parametrize("make", [Process.fork, Process.vfork], ids=["fork", "vfork"])
def test_a_child_is_in_its_parents_mount_namespace(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    assert observer.namespace(child, "mnt") == observer.namespace(parent, "mnt")
