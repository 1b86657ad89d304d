"""proc(5): what is left of a process that has ended, until it is waited for and after that."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_NEWPID,
    ENOENT,
    ESRCH,
    O_DIRECTORY,
    P_PID,
    SIGCHLD,
    SIGKILL,
    SIGSTOP,
    WEXITED,
    WNOWAIT,
    WSTOPPED,
)
from pytest_procsemantics.lies import in_child, leaves_out, lie, opened, passes
from pytest_procsemantics.requirements import mount_proc, private_mounts

SOME = 4096  # bytes

ONLY_STOPS = passes("it only stops", "kill", 1, SIGSTOP)
REAPED = passes("it is reaped at once", "waitid", 3, lambda options: options & ~WNOWAIT)
STAYS_A_ZOMBIE = leaves_out("wait4")


def ends(child: Process, parent: Process) -> None:
    """End a child, whose parent sees it and doesn't wait for it."""
    parent.sys.kill(child.own_pid, SIGKILL)
    parent.sys.waitid(P_PID, child.own_pid, WEXITED | WSTOPPED | WNOWAIT)


def names(observer: Observer, folder: int) -> set[bytes]:
    """What the folder of a descriptor lists, but for itself and the one above."""
    return set(observer.process.sys.getdents64(folder)) - {b".", b".."}


# --- a zombie ---


@clause("proc.5/cmdline-empty-for-zombie")
@lie(ONLY_STOPS)
def test_a_zombie_has_no_arguments(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    path = f"/proc/{child.pid}/cmdline"
    assert observer.read(path) != b""
    ends(child, parent)
    assert observer.read(path) == b""


@clause("proc.5/stat-state-zombie")
@lie(ONLY_STOPS)
def test_a_zombies_state_is_z(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    ends(child, parent)
    assert observer.state(child) == "Z"
    assert observer.status(child)["State"] == "Z (zombie)"


@pytest.mark.parametrize("name", ["stat", "status"])
@clause("proc.5/zombie-stat-and-status-readable")
@lie(REAPED)
def test_a_zombies_state_can_be_read(parent: Process, observer: Observer, name: str) -> None:
    child = parent.fork()
    path, calls = f"/proc/{child.pid}/{name}", observer.process.sys
    opened_before = calls.openat(AT_FDCWD, path)
    ends(child, parent)
    assert str(child.pid).encode() in calls.read(opened_before, SOME)
    assert str(child.pid).encode() in observer.read(path)


@clause("proc.5/status-threads-of-zombie")
@lie(ONLY_STOPS)
def test_a_zombie_has_one_thread(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.thread()
    ends(child, parent)
    tasks = observer.process.sys.openat(AT_FDCWD, f"/proc/{child.pid}/task", O_DIRECTORY)
    assert observer.threads(child) == 1
    assert names(observer, tasks) == {str(child.pid).encode()}


@clause("proc.5/vm-lines-absent-for-zombie")
@lie(ONLY_STOPS)
def test_a_zombie_has_no_sizes_of_memory(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    assert "VmSize" in observer.status(child)
    ends(child, parent)
    assert [name for name in observer.status(child) if name.startswith("Vm")] == []


@clause("proc.5/zombie-maps-empty")
@lie(ONLY_STOPS)
def test_a_zombie_has_no_mappings_and_no_descriptors(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    calls = observer.process.sys
    maps = calls.openat(AT_FDCWD, f"/proc/{child.pid}/maps")
    descriptors = calls.openat(AT_FDCWD, f"/proc/{child.pid}/fd", O_DIRECTORY)
    ends(child, parent)
    assert calls.read(maps, SOME) == observer.read(f"/proc/{child.pid}/maps") == b""
    assert names(observer, descriptors) == set()


@pytest.mark.parametrize("name", ["cwd", "exe", "ns/mnt", "root"])
@clause("proc.5/zombie-links-refused")
@lie(ONLY_STOPS)
def test_a_zombies_place_and_program_are_unknown(
    parent: Process, observer: Observer, name: str
) -> None:
    child = parent.fork()
    path = f"/proc/{child.pid}/{name}"
    assert observer.link(path) != ""
    ends(child, parent)
    with fails(ENOENT):
        observer.link(path)


@clause("proc.5/zombie-links-refused")
@lie(REAPED)
def test_a_zombies_pid_and_user_namespaces_are_known(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    ends(child, parent)
    assert observer.namespace(child, "pid") == observer.namespace(parent, "pid")
    assert observer.namespace(child, "user") == observer.namespace(parent, "user")


@clause("proc.5/mem-descriptor-after-end-reads-nothing")
@lie(ONLY_STOPS)
def test_the_memory_of_an_ended_process_reads_as_nothing(
    parent: Process, observer: Observer
) -> None:
    cell = parent.allocate(8)
    parent.store(cell, b"contents")
    child = parent.fork()
    memory = parent.sys.openat(AT_FDCWD, f"/proc/{child.pid}/mem")
    assert parent.sys.pread64(memory, 8, cell) == b"contents"
    ends(child, parent)
    assert parent.sys.pread64(memory, 8, cell) == b""
    parent.sys.wait4(child.own_pid)
    assert parent.sys.pread64(memory, 8, cell) == b""


@pytest.mark.parametrize("name", ["cwd", "exe", "root"])
@clause("proc.5/exe-gone-when-leader-ended")
@lie(leaves_out("exit", hangs=True))
def test_a_process_whose_leader_has_ended_has_no_place_and_program(
    parent: Process, observer: Observer, name: str
) -> None:
    thread = parent.thread()
    path = f"/proc/{parent.pid}/{name}"
    assert observer.link(path) != ""
    parent.post.sys.exit(0)
    observer.wait_for_state(parent, "Z")
    with fails(ENOENT):
        observer.link(path)
    assert observer.link(f"{observer.folder(thread)}/{name}") != ""


# --- after it was waited for ---


@clause("proc.5/directory-appears-at-fork")
@lie(STAYS_A_ZOMBIE)
def test_a_process_has_a_folder_until_it_is_waited_for(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    path = f"/proc/{child.pid}"
    observer.process.sys.stat(path)
    ends(child, parent)
    observer.process.sys.stat(path)
    parent.sys.wait4(child.own_pid)
    with fails(ENOENT):
        observer.process.sys.stat(path)


@pytest.mark.parametrize("name", ["cmdline", "maps", "stat", "status"])
@clause("proc.5/open-files-after-reaping")
@lie(STAYS_A_ZOMBIE)
def test_open_files_of_a_process_that_was_waited_for_cannot_be_read(
    parent: Process, observer: Observer, name: str
) -> None:
    child = parent.fork()
    calls = observer.process.sys
    opened_before = calls.openat(AT_FDCWD, f"/proc/{child.pid}/{name}")
    ends(child, parent)
    parent.sys.wait4(child.own_pid)
    with fails(ESRCH):
        calls.read(opened_before, SOME)
    with fails(ENOENT):
        calls.openat(AT_FDCWD, f"/proc/{child.pid}/{name}")


def follows(new: Process) -> None:
    """Let the folders that its maker has open be those of the later process."""
    assert new.creation
    if new.name != "later":
        return
    maker, path = new.creation.process, f"{new.target.folder()}/{new.own_pid}"
    for kept in opened(new):
        maker.sys.dup3(maker.sys.openat(AT_FDCWD, path, O_DIRECTORY), kept, 0)


@clause("proc.5/directory-descriptor-does-not-follow-pid")
@lie(in_child("the folder is the later one's", follows))
def test_an_open_folder_is_never_that_of_a_later_process(parent: Process, target: Target) -> None:
    private_mounts(parent, root=True)
    init = parent.clone(CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, name="init")
    mount_proc(init, target.folder())
    first = init.fork("first")
    path = f"{target.folder()}/{first.own_pid}"
    folder, inode = init.sys.openat(AT_FDCWD, path, O_DIRECTORY), init.sys.stat(path).ino
    first.exit()
    first.wait_for_exit()
    number = init.allocate(4)
    init.store(number, first.own_pid.to_bytes(4, "little"))
    later = init.clone3(name="later", set_tid=number, set_tid_size=1)
    assert later.own_pid == first.own_pid
    with fails(ESRCH):
        init.sys.openat(folder, "stat")
    assert init.sys.stat(path).ino != inode
