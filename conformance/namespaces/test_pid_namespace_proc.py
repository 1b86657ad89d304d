"""pid_namespaces(7): /proc and its files, as processes of different namespaces see them.

What would change the machine is written by the init of a namespace of the check's own only.
"""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    EAGAIN,
    ENOENT,
    EPERM,
    O_DIRECTORY,
    SIGCHLD,
)
from pytest_procsemantics.driven.forms import capability
from pytest_procsemantics.lies import before_call, leaves_out, lie, passes
from pytest_procsemantics.requirements import (
    become_ordinary,
    lose_capabilities,
    mount_proc,
    own_namespaces,
    private_mounts,
)

LAST, MAX = "/proc/sys/kernel/ns_last_pid", "/proc/sys/kernel/pid_max"
OLD_MOUNT = leaves_out("mount")


def init_with_mounts(parent: Process) -> Process:
    """The init of a new pid namespace, with a mount namespace of its own."""
    private_mounts(parent, root=True)
    init = parent.clone(CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, name="init")
    assert init.sys.getpid() == 1
    return init


def listed(process: Process, path: str) -> set[int]:
    """The processes that a mount of proc lists to a process."""
    folder = process.sys.openat(AT_FDCWD, path, O_DIRECTORY)
    return {int(name) for name in process.sys.getdents64(folder) if name.isdigit()}


@clause("pid_namespaces.7/proc-shows-mounters-namespace")
@lie(OLD_MOUNT)
def test_a_mount_of_proc_lists_the_mounters_namespace_to_everybody(
    parent: Process, target: Target
) -> None:
    init = init_with_mounts(parent)
    init.fork()
    mount_proc(init, target.folder())
    assert listed(init, target.folder()) == {1, 2}
    assert listed(parent, f"/proc/{init.pid}/root{target.folder()}") == {1, 2}
    assert listed(init, "/proc") >= {parent.pid, init.pid}


@clause("pid_namespaces.7/proc-mounted-over-in-new-mount-namespace")
@lie(OLD_MOUNT)
def test_with_a_mount_namespace_proc_is_mounted_over_the_old_one(parent: Process) -> None:
    init = init_with_mounts(parent)
    assert Observer(parent).link("/proc/self") == str(parent.pid)
    mount_proc(init, "/proc")
    assert listed(init, "/proc") == {1}
    assert listed(parent, "/proc") >= {parent.pid, init.pid}


@clause("pid_namespaces.7/proc-self-is-pid-in-mounts-namespace")
@lie(OLD_MOUNT)
def test_proc_self_is_the_readers_number_for_the_mount(parent: Process) -> None:
    init = init_with_mounts(parent)
    assert Observer(init).link("/proc/self") == str(init.pid)
    mount_proc(init, "/proc")
    assert Observer(init).link("/proc/self") == "1"


@clause("pid_namespaces.7/proc-self-of-foreign-mount")
@lie(OLD_MOUNT)
def test_who_is_not_seen_has_no_proc_self(parent: Process, target: Target) -> None:
    init = init_with_mounts(parent)
    mount_proc(init, target.folder())
    assert Observer(init).link(f"{target.folder()}/self") == "1"
    with fails(ENOENT):
        Observer(parent).link(f"/proc/{init.pid}/root{target.folder()}/self")


# --- the last number given ---


def init_with_numbers(parent: Process) -> Process:
    """The init of a new pid namespace, whose numbers it may choose."""
    own_namespaces(parent, 0)
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    assert init.sys.getpid() == 1
    return init


def last(process: Process) -> int:
    """The last number given in a process's namespace."""
    return int(Observer(process).read(LAST))


@clause("pid_namespaces.7/ns-last-pid-is-per-namespace")
@lie(before_call("openat", "one more is made", lambda init: init.fork()))
def test_the_last_number_is_that_of_the_readers_namespace(parent: Process) -> None:
    init = init_with_numbers(parent)
    last_child = [init.fork(), init.fork(), init.fork()][-1]
    assert last(init) == last_child.own_pid == 4
    assert last(parent) >= init.pid


@clause("pid_namespaces.7/ns-last-pid-next-is-lowest-above")
@lie(leaves_out("write"))
def test_the_next_number_is_the_lowest_free_one_above(parent: Process) -> None:
    init = init_with_numbers(parent)
    init.write_to(LAST, b"499")
    assert (init.fork().own_pid, last(init)) == (500, 500)
    init.write_to(LAST, b"498")
    assert (init.fork().own_pid, init.fork().own_pid) == (499, 501)


@clause("pid_namespaces.7/ns-last-pid-write-needs-capability")
@lie(leaves_out("capset"))
def test_to_write_it_takes_one_of_two_capabilities(parent: Process) -> None:
    init = init_with_numbers(parent)
    neither, restore, admin = init.fork("neither"), init.fork("restore"), init.fork("admin")
    lose_capabilities(neither, "SYS_ADMIN", "CHECKPOINT_RESTORE")
    restore.sys.capset(capability("CHECKPOINT_RESTORE"), capability("CHECKPOINT_RESTORE"), 0)
    admin.sys.capset(capability("SYS_ADMIN"), capability("SYS_ADMIN"), 0)
    with fails(EPERM):
        neither.write_to(LAST, b"99")
    restore.write_to(LAST, b"199")
    admin.write_to(LAST, b"299")
    assert init.fork().own_pid == 300


def init_with_limit(parent: Process, most: bytes) -> Process:
    """The init of a new pid namespace with its own limit of numbers. Before Linux 6.14 that is the machine's, which
    nobody may set who is an ordinary user outside.
    """
    become_ordinary(parent, owns_its_files=True)
    private_mounts(parent, CLONE_NEWUSER, root=True)
    init = parent.clone(CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, name="init")
    assert init.sys.getpid() == 1
    mount_proc(init, "/proc")
    init.write_to(MAX, most)
    return init


@clause("pid_namespaces.7/pid-max-of-namespace")
@lie(passes("the limit is higher", "write", 1, lambda data: b"500" if data == b"400" else data))
def test_no_number_reaches_the_limit_of_the_namespace(parent: Process, observer: Observer) -> None:
    outside = observer.read(MAX)
    init = init_with_limit(parent, b"400")
    init.write_to(LAST, b"398")
    assert [init.fork().sys.getpid(), init.fork().sys.getpid()] == [399, 300]
    assert observer.read(MAX) == outside


@clause("pid_namespaces.7/pid-max-of-ancestors-binds")
@lie(passes("the limit is higher", "write", 1, lambda data: b"400" if data == b"301" else data))
def test_the_limit_of_the_namespace_above_holds_too(parent: Process) -> None:
    init = init_with_limit(parent, b"301")
    inner = init.clone(CLONE_NEWPID | SIGCHLD, name="inner")
    init.write_to(LAST, b"299")
    last = inner.fork("last")
    assert last.sys.getpid() == 2
    with fails(EAGAIN):
        inner.fork()
    last.exit()
    last.wait_for_exit()
    assert inner.fork().sys.getppid() == 1
