"""clone(2): the flags that say what is shared, alone and in every combination.

The kernel's word is kcmp(2). Where neither side has an I/O context or a list of semaphore adjustments it calls them
shared, so the caller gets both first.
"""

from __future__ import annotations

from functools import reduce
from itertools import combinations
from operator import or_

import pytest

from pytest_procsemantics import Process
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_IO,
    CLONE_NEWIPC,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    ECHILD,
    EINVAL,
    KCMP_FILES,
    KCMP_FS,
    KCMP_IO,
    KCMP_SIGHAND,
    KCMP_SYSVSEM,
    KCMP_VM,
    P_ALL,
    SIG_IGN,
    SIGCHLD,
    WALL,
    WEXITED,
    WNOHANG,
    flag_names,
)
from pytest_procsemantics.lies import drops, lie, toggles
from pytest_procsemantics.requirements import namespace_flags

IOPRIO_WHO_PROCESS = 1
BEST_EFFORT = 2 << 13 | 4  # class and level (ioprio_set(2))

KINDS = {
    CLONE_FILES: KCMP_FILES,
    CLONE_FS: KCMP_FS,
    CLONE_IO: KCMP_IO,
    CLONE_SIGHAND: KCMP_SIGHAND,
    CLONE_SYSVSEM: KCMP_SYSVSEM,
    CLONE_VM: KCMP_VM,
}
FREE = [CLONE_FILES, CLONE_FS, CLONE_IO, CLONE_SYSVSEM, CLONE_VFORK]  # each goes with all others
BOUND = [CLONE_PARENT, CLONE_SIGHAND, CLONE_THREAD, CLONE_VM]
ALONE = [0, CLONE_FILES, CLONE_FS, CLONE_IO, CLONE_SYSVSEM, CLONE_VM, CLONE_VM | CLONE_SIGHAND]
NAMESPACES = [CLONE_NEWIPC, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER]

AS_SHARER = CLONE_VM | CLONE_SIGHAND
AS_THREAD = AS_SHARER | CLONE_THREAD


def shown(flags: int) -> str:
    """A set of flags for the reader."""
    return str(flag_names(flags, "CLONE_")) if flags else "none"


def sets_of(flags: list[int]) -> list[int]:
    """All sums of these flags, from none of them to all."""
    sizes = range(len(flags) + 1)
    return [reduce(or_, chosen, 0) for size in sizes for chosen in combinations(flags, size)]


def breaks_a_rule(flags: int) -> bool:
    """Whether the manual page forbids this set."""
    lacking = {CLONE_SIGHAND: CLONE_VM, CLONE_THREAD: CLONE_SIGHAND}
    unwilling = {
        CLONE_NEWNS: CLONE_FS,
        CLONE_NEWUSER: CLONE_FS | CLONE_THREAD,
        CLONE_NEWPID: CLONE_THREAD,
        CLONE_NEWIPC: CLONE_SYSVSEM,
    }
    return any(flags & flag and not flags & needed for flag, needed in lacking.items()) or any(
        flags & flag and flags & other for flag, other in unwilling.items()
    )


ILLEGAL = [
    flags | namespace
    for namespace in (0, *NAMESPACES)
    for flags in sets_of(FREE + BOUND)
    if breaks_a_rule(flags | namespace)
]


@pytest.fixture
def caller(parent: Process) -> Process:
    """A process with an I/O context and a list of semaphore adjustments, whose children vanish."""
    parent.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    caller = parent.fork("caller")
    caller.sys.ioprio_set(IOPRIO_WHO_PROCESS, 0, BEST_EFFORT)
    caller.thread().exit_thread()  # to share a list of adjustments makes one
    return caller


def sharing(caller: Process, child: Process, observer: Observer) -> int:
    """The flags whose effect is there."""
    is_so = {
        CLONE_PARENT: child.sys.getppid() != caller.own_pid,
        CLONE_THREAD: child.sys.getpid() == caller.own_pid,
        CLONE_VFORK: observer.state(caller) == "D",
        **{flag: observer.kcmp(caller, child, kind) == 0 for flag, kind in KINDS.items()},
    }
    return sum(flag for flag in is_so if is_so[flag])


@like_clone("clone.2/kcmp-tells-sharing")
@lie(toggles(CLONE_FILES), toggles(CLONE_IO))
@pytest.mark.parametrize("flags", ALONE, ids=shown)
def test_kcmp_tells_just_what_the_flag_shares(
    caller: Process, observer: Observer, make: MakeWith, flags: int
) -> None:
    assert shown(sharing(caller, make(caller, flags), observer)) == shown(flags)


def share_just_that(
    caller: Process, observer: Observer, make: MakeWith, sets: list[int], implied: int
) -> None:
    """Fail at the first of these sets of flags whose child shares something else."""
    for flags in sets:
        child = make(caller, flags)
        found = shown(flags), shown(sharing(caller, child, observer))
        assert found == (shown(flags), shown(flags | implied))
        child.exit_thread()


@like_clone("clone.2/every-legal-flag-set")
@lie(drops(CLONE_FILES), drops(CLONE_VFORK), toggles(CLONE_FS))
@pytest.mark.parametrize(
    ("bound", "implied"),
    [
        pytest.param(0, 0, id="memory of its own"),
        pytest.param(CLONE_VM, 0, id="memory"),
        pytest.param(AS_SHARER, 0, id="memory and handlers"),
        pytest.param(AS_THREAD, CLONE_PARENT, id="thread"),  # a thread's parent is its maker's
    ],
)
def test_a_legal_set_gives_just_the_sharing_of_its_members(
    caller: Process, observer: Observer, make: MakeWith, bound: int, implied: int
) -> None:
    sets = [bound | flags for flags in sets_of([*FREE, CLONE_PARENT])]
    share_just_that(caller, observer, make, sets, implied)


def refuses_each(caller: Process, make: MakeWith, sets: list[int]) -> None:
    """Fail at the first of these sets of flags that is not refused."""
    for flags in sets:
        with fails(EINVAL):
            make(caller, flags)


@like_clone("clone.2/every-illegal-flag-set")
@lie(drops(CLONE_FS), drops(CLONE_SIGHAND), drops(CLONE_SYSVSEM), drops(CLONE_THREAD))
def test_a_set_that_breaks_a_rule_is_refused(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWIPC))  # to have the privilege for all
    refuses_each(parent, make, ILLEGAL)
    assert observer.threads(parent) == 1
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)
