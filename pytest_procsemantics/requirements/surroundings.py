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
    CLONE_NEWUSER,
    ENOENT,
    MS_PRIVATE,
    MS_REC,
    O_CLOEXEC,
    PR_SET_DUMPABLE,
    RLIMIT_NPROC,
)
from pytest_procsemantics.driven.errors import CallFailed, Unsupported
from pytest_procsemantics.driven.forms.identity import capability
from pytest_procsemantics.requirements.common import errno_of

SOMEBODY = 48157  # a user who runs nothing else


def namespace_flags(process: Process, flags: int) -> int:
    """The CLONE_NEW* flags with which a process can make the namespaces in `flags`.

    Returns:
        `flags`, with CLONE_NEWUSER where the process lacks CAP_SYS_ADMIN and so needs a user
        namespace of its own to have it in.
    """
    is_privileged = process.sys.capget().effective & capability("SYS_ADMIN")
    return flags if is_privileged else flags | CLONE_NEWUSER


def own_namespaces(process: Process, flags: int, *, root: bool = False) -> None:
    """Give a process the new namespaces in `flags` (CLONE_NEW*).

    Args:
        process: single-threaded where a user namespace is among them.
        flags: CLONE_NEWUSER is added where it is needed for the others.
        root: in a new user namespace the process has user and group 0 and not the ids that it has
            now. Without any it could make no file.
    """
    user, group = process.sys.geteuid(), process.sys.getegid()
    needed = namespace_flags(process, flags)
    _truly(process, "unshare", needed)
    if needed & CLONE_NEWUSER:
        inside = (0, 0) if root else (user, group)
        process.write_to("/proc/self/uid_map", b"%d %d 1" % (inside[0], user))
        try:
            process.write_to("/proc/self/setgroups", b"deny")
        except CallFailed as error:
            if error.errno != ENOENT:  # without the file nothing needs to be denied (Linux 3.18)
                raise
        process.write_to("/proc/self/gid_map", b"%d %d 1" % (inside[1], group))


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
    outside = process.sys.geteuid(), process.sys.getegid()
    process.sys.unshare(CLONE_NEWUSER)
    process.write_to("/proc/self/uid_map", b"%d %d 1" % (user, outside[0]))
    process.write_to("/proc/self/setgroups", b"deny")
    process.write_to("/proc/self/gid_map", b"%d %d 1" % (group, outside[1]))


def become_ordinary(process: Process, *, owns_its_files: bool = False) -> None:
    """Take the ids of a user whom limits hold; whoever may not do so is one already.

    Args:
        process: who.
        owns_its_files: those in /proc/PID stay with the process, which may write to them.
    """
    with suppress(CallFailed):
        process.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    if owns_its_files:
        process.sys.prctl(PR_SET_DUMPABLE, 1)


def lose_capabilities(process: Process, *names: str) -> None:
    """Take capabilities, by their names without CAP_, out of the effective and permitted set."""
    kept = process.sys.capget().permitted
    for name in names:
        kept &= ~capability(name)
    process.sys.capset(kept, kept, 0)


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
