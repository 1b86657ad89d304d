"""vfork(2): what the child shares with its parent (memory), and what it has as a copy (the rest)."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make, like_vfork
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_SIGHAND,
    CLONE_VFORK,
    CLONE_VM,
    EBADF,
    EFAULT,
    F_GETFD,
    KCMP_FILES,
    KCMP_FS,
    KCMP_VM,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGUSR1,
)
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, every_child, lie, misreports

IS_FORK = every_child(SIGCHLD)
DOES_NOT_SHARE = every_child(CLONE_VFORK | SIGCHLD)
VFORK = CLONE_VM | CLONE_VFORK | SIGCHLD


@clause("vfork.2/returns-like-fork")
@lie(misreports("vfork"))
def test_the_parent_gets_the_childs_pid(parent: Process) -> None:
    child = parent.vfork()
    pid = child.sys.getpid()
    child.exit()
    assert child.creation is not None
    assert child.creation.arrives() == pid


# --- memory ---


@like_vfork("vfork.2/memory-is-shared")
@lie(IS_FORK, DOES_NOT_SHARE)
def test_what_the_child_stores_is_the_parents(parent: Process, make: Make) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 1)
    child = make(parent)
    child.store(cell, 2)
    child.exit()
    assert parent.load(cell) == 2


@like_vfork("vfork.2/mappings-are-shared")
@lie(IS_FORK, DOES_NOT_SHARE)
def test_what_the_child_maps_and_unmaps_the_parent_has_and_misses(
    parent: Process, target: Target, make: Make
) -> None:
    (page,) = parent.pages(1)
    child = make(parent)
    cell = child.allocate(8)
    child.store(cell, 7)
    child.sys.munmap(page, target.page_size)
    child.exit()
    assert parent.load(cell) == 7
    with fails(EFAULT):
        parent.load(page)


@clause("vfork.2/stack-is-shared")
@lie(IS_FORK, DOES_NOT_SHARE)
def test_the_child_begins_on_the_parents_stack(parent: Process) -> None:
    child = parent.vfork()
    child.store(child.stack_pointer - 256, 0x1234)
    child.exit()
    assert parent.load(child.stack_pointer - 256) == 0x1234


@clause("vfork.2/no-page-tables-copied")
@lie(IS_FORK, DOES_NOT_SHARE)
def test_the_child_uses_the_parents_page_tables(parent: Process, observer: Observer) -> None:
    pages = parent.pages(16)
    before = observer.status_field(parent, "VmPTE")
    child = parent.vfork()
    assert observer.kcmp(parent, child, KCMP_VM) == 0
    assert observer.status_field(child, "VmPTE") == before
    child.touch(pages[0], write=1)
    faults = observer.faults(child)
    assert [child.touch(page, write=1) for page in pages] == [1] * 16
    assert observer.faults(child) == faults


@like_vfork("vfork.2/memory-separate-after-exec")
@lie(EXEC_DOES_NOTHING)
def test_after_exec_the_childs_memory_is_its_own(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    child.execve()
    assert observer.kcmp(parent, child, KCMP_VM) != 0


@like_vfork("vfork.2/handler-in-child-changes-shared-memory")
@lie(IS_FORK, DOES_NOT_SHARE)
def test_what_a_handler_in_the_child_counts_is_counted_in_the_parent(
    parent: Process, make: Make
) -> None:
    parent.count_signals(SIGUSR1)
    child = make(parent)
    child.sys.kill(child.own_pid, SIGUSR1)
    assert child.count(SIGUSR1) == 1
    child.exit()
    assert parent.count(SIGUSR1) == 1


# --- the rest ---


@like_vfork("vfork.2/descriptors-are-copied")
@lie(every_child(VFORK | CLONE_FILES))
def test_the_child_has_copies_of_the_descriptors(
    parent: Process, observer: Observer, make: Make
) -> None:
    reader, writer = parent.sys.pipe()
    child = make(parent)
    assert observer.kcmp(parent, child, KCMP_FILES) != 0
    new = child.sys.dup(writer)
    child.sys.close(reader)
    child.exit()
    assert parent.sys.fcntl(reader, F_GETFD) == 0
    with fails(EBADF):
        parent.sys.fcntl(new, F_GETFD)


@like_vfork("vfork.2/dispositions-are-copied")
@lie(every_child(VFORK | CLONE_SIGHAND))
def test_the_child_has_copies_of_the_dispositions(parent: Process, make: Make) -> None:
    child = make(parent)
    child.sys.rt_sigaction(SIGUSR1, SIG_IGN)
    child.exit()
    assert parent.sys.rt_sigaction(SIGUSR1).handler == SIG_DFL


@like_vfork("vfork.2/working-directory-is-copied")
@lie(every_child(VFORK | CLONE_FS))
def test_the_child_has_a_copy_of_the_working_directory(
    parent: Process, target: Target, observer: Observer, make: Make
) -> None:
    folder = target.folder()
    parent.sys.chdir(folder)
    child = make(parent)
    assert observer.kcmp(parent, child, KCMP_FS) != 0
    assert child.sys.getcwd() == folder.encode()
    child.sys.chdir("/")
    child.exit()
    assert parent.sys.getcwd() == folder.encode()


@like_vfork("vfork.2/umask-is-copied")
@lie(every_child(VFORK | CLONE_FS))
def test_the_child_has_a_copy_of_the_umask(parent: Process, make: Make) -> None:
    parent.sys.umask(0o022)
    child = make(parent)
    assert child.sys.umask(0o123) == 0o022
    child.exit()
    assert parent.sys.umask(0) == 0o022


@clause("vfork.2/root-directory-is-copied")
@lie(every_child(VFORK | CLONE_FS))
def test_the_child_has_a_copy_of_the_root_directory(
    parent: Process, target: Target, observer: Observer
) -> None:
    folder = target.folder()
    before = observer.link(f"/proc/{parent.pid}/root")
    child = parent.vfork()
    child.sys.chroot(folder)
    assert observer.link(f"/proc/{child.pid}/root") == folder
    assert observer.link(f"/proc/{parent.pid}/root") == before
