"""Surroundings of a process that are its own, for checks: what is changed there is changed nowhere else.

Whoever runs the suite, the process gets namespaces, mounts or a user as a check needs them. No lie has a part in
where that happens: one that left a namespace out would have the check change the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pytest_procsemantics.driven import Observer, Process
from pytest_procsemantics.driven.calls import Argument
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    ENOENT,
    EPERM,
    MS_PRIVATE,
    MS_REC,
    O_CLOEXEC,
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_RAISE,
    PR_SET_DUMPABLE,
    RLIMIT_NPROC,
    SIGCHLD,
)
from pytest_procsemantics.driven.errors import CallFailed, Unsupported
from pytest_procsemantics.driven.forms.identity import capability
from pytest_procsemantics.requirements.common import errno_of
from pytest_procsemantics.requirements.start import (
    expect_end_as_another,
    expect_own_id_map,
    has_capability,
    is_user_0_outside,
)

SOMEBODY = 48157  # a user who runs nothing else


def namespace_flags(process: Process, flags: int) -> int:
    """The CLONE_NEW* flags with which a process can make the namespaces in `flags`.

    Returns:
        `flags`, with CLONE_NEWUSER where the process lacks CAP_SYS_ADMIN and so needs a user
        namespace of its own to have it in.
    """
    return flags if has_capability(process, "SYS_ADMIN") else flags | CLONE_NEWUSER


def own_namespaces(process: Process, flags: int, *, root: bool = False) -> None:
    """Give a process the new namespaces in `flags` (CLONE_NEW*).

    Args:
        process: single-threaded where a user namespace is among them.
        flags: CLONE_NEWUSER is added where it is needed for the others.
        root: in a new user namespace the process has user and group 0 and not the ids that it has
            now. Without any it could make no file.

    Raises:
        Unsupported: its user can't be mapped.
    """
    user, group = process.sys.geteuid(), process.sys.getegid()
    needed = namespace_flags(process, flags)
    if needed & CLONE_NEWUSER:
        expect_own_id_map(process)
    _truly(process, "unshare", needed)
    if needed & CLONE_NEWUSER:
        _map_ids(process, (0, 0) if root else (user, group), (user, group))


def new_init(maker: Process, name: str = "init") -> Process:
    """Make the first process of a new pid namespace; lies have a part in it.

    Args:
        maker: where it lacks CAP_SYS_ADMIN, the child gets a user namespace too.
        name: of the child.
    """
    return maker.clone(namespace_flags(maker, CLONE_NEWPID) | SIGCHLD, name=name)


def nest_user_namespaces(process: Process, most: int) -> None:
    """Go so deep into user namespaces of its own, or as deep as it goes."""
    with suppress(CallFailed):
        for _ in range(most):
            own_namespaces(process, CLONE_NEWUSER)


def private_mounts(process: Process, flags: int = 0, *, root: bool = False) -> None:
    """Give a process a mount namespace of its own, whose changes reach no other.

    Args:
        process, flags, root: as for `own_namespaces`.
    """
    own_namespaces(process, flags | CLONE_NEWNS, root=root)
    _truly(process, "mount", "none", "/", 0, MS_REC | MS_PRIVATE, 0)


def mount_proc(process: Process, folder: str) -> None:
    """Mount proc for a process's pid namespace on a folder.

    Raises:
        Unsupported: it may not in its user namespace, for other mounts cover parts of the /proc that is there, as in
            containers (fs/namespace.c, mount_too_revealing).
    """
    __tracebackhide__ = True
    try:
        process.sys.mount("proc", folder, "proc")
    except CallFailed as error:
        lines = Observer(process).read("/proc/self/mounts").splitlines()
        if error.errno == EPERM and any(b" /proc/" in line for line in lines):
            raise Unsupported("a mount of proc (parts of /proc are covered)") from None
        raise


def open_namespace(process: Process, member: Process, kind: str) -> int:
    """Open a namespace of some process or thread: its descriptor.

    Args:
        process: who opens it.
        member: whose it is.
        kind: as in /proc/PID/ns (namespaces(7)).

    Raises:
        Unsupported: the process can't even open its own.
    """
    __tracebackhide__ = True
    try:
        return int(process.sys.openat(AT_FDCWD, f"{Observer.folder(member)}/ns/{kind}", O_CLOEXEC))
    except CallFailed:
        try:
            own = process.sys.openat(AT_FDCWD, f"/proc/self/ns/{kind}", O_CLOEXEC)
        except CallFailed as error:
            raise Unsupported(f"/proc/PID/ns/{kind} (open: {errno_of(error)})") from None
        process.sys.close(own)
        raise


def enter_user_namespace(process: Process, user: int, group: int) -> None:
    """Go into a new user namespace, in which the ids of now are these.

    Other than with `own_namespaces` lies have a part in it: it is what a check is about.
    """
    expect_own_id_map(process)
    outside = process.sys.geteuid(), process.sys.getegid()
    process.sys.unshare(CLONE_NEWUSER)
    _map_ids(process, (user, group), outside)


def _map_ids(process: Process, inside: tuple[int, int], outside: tuple[int, int]) -> None:
    """In a new user namespace: map one user and one group."""
    process.write_to("/proc/self/uid_map", b"%d %d 1" % (inside[0], outside[0]))
    try:
        process.write_to("/proc/self/setgroups", b"deny")
    except CallFailed as error:
        if error.errno != ENOENT:  # without the file nothing needs to be denied (Linux 3.18)
            raise
    process.write_to("/proc/self/gid_map", b"%d %d 1" % (inside[1], outside[1]))


def become_ordinary(process: Process, *, owns_its_files: bool = False) -> None:
    """Take the ids of a user whom limits hold; whoever may not do so is one already.

    Args:
        process: who.
        owns_its_files: those in /proc/PID stay with the process, which may write to them.

    Raises:
        Unsupported: it stays user 0, or could not be ended as another user.
    """
    expect_end_as_another(process)
    with suppress(CallFailed):
        process.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    if not process.sys.geteuid() and is_user_0_outside(process):
        raise Unsupported("an ordinary user (user 0 can't become one, and no limit holds it)")
    if owns_its_files:
        process.sys.prctl(PR_SET_DUMPABLE, 1)


def lose_capabilities(process: Process, *names: str) -> None:
    """Take capabilities, by their names without CAP_, out of the effective and permitted set."""
    kept = process.sys.capget().permitted
    for name in names:
        kept &= ~capability(name)
    process.sys.capset(kept, kept, 0)


def raise_ambient(process: Process, name: str) -> None:
    """Have a capability that is permitted, by its name without CAP_, in the inheritable and in the ambient set."""
    has = process.sys.capget()
    process.sys.capset(has.permitted, has.permitted, has.inheritable | capability(name))
    number = capability(name).bit_length() - 1
    process.sys.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


@contextmanager
def at_the_limit(process: Process) -> Iterator[None]:
    """At the limit of processes of an ordinary user, by the soft limit of this one process."""
    become_ordinary(process)
    soft, hard = process.sys.prlimit64(0, RLIMIT_NPROC)
    process.sys.prlimit64(0, RLIMIT_NPROC, (1, hard))
    yield
    process.sys.prlimit64(0, RLIMIT_NPROC, (soft, hard))


def _truly(process: Process, call: str, *args: Argument) -> None:
    """Make a step as it is: a lie is told by a class of processes, and this is not asked."""
    Process.ask_call(process, call, process.sys.number(call), args).arrives()
