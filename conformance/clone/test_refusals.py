"""clone(2), ERRORS: what refuses a child or thread, and that nothing is left of it then."""

from __future__ import annotations

import struct

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import NAMESPACES, MakeWith, like_clone
from pytest_procsemantics.driven import Observer, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_PIDFD,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    EAGAIN,
    ECHILD,
    EINVAL,
    ENOSPC,
    EPERM,
    ITIMER_REAL,
    O_WRONLY,
    P_ALL,
    SIGALRM,
    SIGCHLD,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.driven.creation import Creation
from pytest_procsemantics.lies import Lie, drops, in_maker, leaves_out, lie, passes
from pytest_procsemantics.requirements import at_the_limit, nest_user_namespaces, own_namespaces

AS_THREAD = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD
NONE = -1  # where a descriptor is to come
OFTEN = 0.0001  # seconds
DEEPEST = 32  # user namespaces below the initial one, in the manual page; one more in Linux

NOT_LIMITED = passes("limits are not set", "prlimit64", 2, 0)


def leaves_one(maker: Process) -> None:
    """Have a child more."""
    Process.create(maker, Creation("clone", "clone", (SIGCHLD, 0, 0, 0, 0), SIGCHLD), "").begin()


# --- nothing is left ---


@clause("clone.2/failure-leaves-no-child")
@lie(in_maker("a child is left", leaves_one), drops(CLONE_FS | CLONE_SIGHAND | CLONE_THREAD))
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(CLONE_NEWNS | CLONE_FS, id="fs with newns"),
        pytest.param(CLONE_SIGHAND, id="sighand without vm"),
        pytest.param(CLONE_VM | CLONE_THREAD, id="thread without sighand"),
    ],
)
def test_a_refused_clone_leaves_nothing(parent: Process, observer: Observer, flags: int) -> None:
    threads, free = observer.threads(parent), parent.sys.dup(0)
    parent.sys.close(free)
    cell = parent.allocate(8)
    parent.store(cell, struct.pack("<i", NONE))
    with fails(EINVAL):
        parent.clone3(CLONE_PIDFD | flags, pidfd=cell)
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)
    assert observer.threads(parent) == threads
    assert parent.load_bytes(cell, 4) == struct.pack("<i", NONE)
    assert parent.sys.dup(0) == free


# --- limits ---


@like_clone("clone.2/eagain-too-many")
@lie(NOT_LIMITED)
@pytest.mark.parametrize("flags", [0, AS_THREAD], ids=["process", "thread"])
def test_at_the_users_limit_a_process_or_thread_is_refused(
    parent: Process, make: MakeWith, flags: int
) -> None:
    with at_the_limit(parent), fails(EAGAIN):
        make(parent, flags)
    assert make(parent, flags).own_pid


@like_clone("clone.2/enospc-user-namespace-depth")
@lie(drops(CLONE_NEWUSER))
def test_deeper_user_namespaces_than_the_limit_are_refused(parent: Process, make: MakeWith) -> None:
    nest_user_namespaces(parent, DEEPEST + 2)
    with fails(ENOSPC):
        make(parent, CLONE_NEWUSER)


def allow_none(process: Process, observer: Observer, kind: str) -> None:
    """Set the limit of a process's own user namespace on namespaces of a kind to 0."""
    own_namespaces(process, CLONE_NEWUSER)
    if observer.namespace(process, "user") == observer.namespace(observer.process, "user"):
        raise Unsupported("a user namespace of the process's own (it has the target's)")
    limit = process.sys.openat(AT_FDCWD, f"/proc/sys/user/max_{kind}_namespaces", O_WRONLY)
    process.sys.write(limit, b"0")


@clause("clone.2/enospc-user-namespace-count")
@lie(leaves_out("write"))
@pytest.mark.parametrize(("kind", "flag"), NAMESPACES.items(), ids=NAMESPACES)
def test_more_namespaces_than_the_limit_are_refused(
    parent: Process, observer: Observer, kind: str, flag: int
) -> None:
    allow_none(parent, observer, kind)
    with fails(ENOSPC):
        parent.clone3(flag)


# --- privilege ---


@like_clone("clone.2/eperm-unmapped-ids")
@lie(leaves_out("unshare"))
def test_who_has_no_ids_in_its_user_namespace_makes_none_below(
    parent: Process, make: MakeWith
) -> None:
    parent.sys.unshare(CLONE_NEWUSER)
    with fails(EPERM):
        make(parent, CLONE_NEWUSER)


@like_clone("clone.2/eperm-newuser-in-chroot")
@lie(leaves_out("chroot"))
def test_with_another_root_a_user_namespace_is_refused(
    parent: Process, target: Target, make: MakeWith
) -> None:
    own_namespaces(parent, CLONE_NEWUSER)
    parent.sys.chroot(target.folder())
    with fails(EPERM):
        make(parent, CLONE_NEWUSER)


# --- signals ---


class IsInterrupted(Process):
    def actual(self, creation: Creation) -> Creation:
        """Wait for a signal, and make nothing."""
        return Creation(creation.primitive, "ppoll", (0, 0, 0, 0, 8), creation.flags)


def make_many(maker: Process, make: MakeWith, count: int) -> None:
    """Have children that end at once."""
    for _ in range(count):
        make(maker, 0).exit()


@like_clone("clone.2/erestartnointr")
@lie(Lie("it ends with EINTR", IsInterrupted))
def test_a_signal_never_interrupts_clone(parent: Process, make: MakeWith) -> None:
    parent.count_signals(SIGALRM)
    parent.sys.setitimer(ITIMER_REAL, OFTEN, OFTEN)
    make_many(parent, make, 200)
    assert parent.count(SIGALRM) > 0
