"""clone3(2): which id a child gets, by default and by set_tid.

All is asked for in pid namespaces of the check's own: there it is known which ids are free.
"""

from __future__ import annotations

import struct

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CAP_CHECKPOINT_RESTORE,
    CLONE_NEWPID,
    ECHILD,
    EEXIST,
    EINVAL,
    EPERM,
    O_WRONLY,
    P_ALL,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.lies import clone3_given, drops, in_maker, leaves_out, lie, passes
from pytest_procsemantics.requirements import namespace_flags, new_init

CHOSEN = 4242
NO_PID = 1 << 22  # no pid_max is higher
DEEPEST = 32  # pid namespaces below the initial one
INITIAL = "pid:[4026531836]"  # the initial pid namespace, on every kernel
NO_CAPABILITIES = bytes(24)  # for capset(2)

CHOOSES_ITSELF = clone3_given("set_tid is not looked at", set_tid=0, set_tid_size=0)


@pytest.fixture
def init(parent: Process) -> Process:
    """Process 1 of a pid namespace that has no other process."""
    return new_init(parent, "init")


def ask_for(maker: Process, *ids: int, flags: int = 0) -> Process:
    """Make a child with these ids, those of the innermost namespace first."""
    array = maker.allocate(4 * len(ids))
    maker.store(array, struct.pack(f"<{len(ids)}i", *ids))
    return maker.clone3(flags, set_tid=array, set_tid_size=len(ids))


def result(child: Process) -> int:
    """What its maker was told."""
    assert child.creation
    return int(child.creation.arrives())


def goes_on_at_100(process: Process) -> None:
    """Let the next id in the namespace of a process 1 be 101."""
    if process.own_pid == 1:
        fd = process.sys.openat(AT_FDCWD, "/proc/sys/kernel/ns_last_pid", O_WRONLY)
        process.sys.write(fd, b"100")


@clause("clone.2/default-pid-is-next")
@lie(in_maker("it is another", goes_on_at_100))
def test_by_default_the_child_gets_the_next_id(init: Process) -> None:
    first = init.fork()
    first.exit()
    first.wait_for_exit()
    assert (first.own_pid, init.fork().own_pid, init.clone3().own_pid) == (2, 3, 4)


@clause("clone.2/set-tid-chooses-pid")
@lie(CHOOSES_ITSELF)
def test_set_tid_chooses_the_childs_id(init: Process) -> None:
    child = ask_for(init, CHOSEN)
    assert child.sys.getpid() == result(child) == CHOSEN


# --- several namespaces ---


@clause("clone.2/set-tid-with-newpid-is-innermost")
@lie(CHOOSES_ITSELF, drops(CLONE_NEWPID))
def test_with_clone_newpid_the_first_id_is_that_in_the_new_namespace(init: Process) -> None:
    child = ask_for(init, 1, CHOSEN, flags=namespace_flags(init, CLONE_NEWPID))
    assert (child.sys.getpid(), result(child)) == (1, CHOSEN)


@clause("clone.2/set-tid-in-several-namespaces")
@lie(CHOOSES_ITSELF)
def test_ids_are_given_from_the_innermost_namespace_outwards(
    init: Process, observer: Observer
) -> None:
    innermost = new_init(new_init(init, "second init"), "third init")
    child = ask_for(innermost, 7, 42, CHOSEN)
    assert result(child) == 7
    assert observer.status_field(child, "NSpid").split()[1:] == [str(CHOSEN), "42", "7"]


@clause("clone.2/set-tid-outer-chosen-by-kernel")
@lie(CHOOSES_ITSELF, in_maker("the outer id is another", goes_on_at_100))
def test_namespaces_further_out_give_the_next_id(init: Process, observer: Observer) -> None:
    innermost = new_init(new_init(init, "second init"), "third init")
    child = ask_for(innermost, 7, 42)
    assert observer.status_field(child, "NSpid").split()[1:] == ["4", "42", "7"]


@clause("clone.2/set-tid-size-limited-by-nesting")
@lie(CHOOSES_ITSELF)
def test_more_ids_than_namespaces_can_nest_are_refused(init: Process) -> None:
    with fails(EINVAL):
        ask_for(init, *range(CHOSEN, CHOSEN + DEEPEST + 1))


@clause("clone.2/set-tid-size-limited-by-nesting")
@lie(CHOOSES_ITSELF)
def test_more_ids_than_namespaces_are_refused(init: Process, observer: Observer) -> None:
    if observer.namespace(observer.process, "pid") != INITIAL:
        raise Unsupported("to see each pid namespace (the observer is not in the initial one)")
    with fails(EINVAL):
        ask_for(init, CHOSEN, CHOSEN, CHOSEN)


# --- refusals ---


@clause("clone.2/set-tid-checkpoint-restore-suffices")
@lie(passes("it takes another capability", "capset", 1, NO_CAPABILITIES))
def test_cap_checkpoint_restore_is_enough(init: Process) -> None:
    only = 1 << CAP_CHECKPOINT_RESTORE
    init.sys.capset(only, only, 0)
    assert ask_for(init, CHOSEN).own_pid == CHOSEN


@clause("clone.2/set-tid-needs-capability")
@lie(leaves_out("capset"), CHOOSES_ITSELF)
def test_without_capabilities_set_tid_is_refused(init: Process) -> None:
    init.sys.capset(0, 0, 0)
    with fails(EPERM):
        ask_for(init, CHOSEN)
    with fails(ECHILD):
        init.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


@clause("clone.2/set-tid-not-one-first")
@lie(CHOOSES_ITSELF, drops(CLONE_NEWPID))
def test_the_first_process_of_a_namespace_is_1(parent: Process) -> None:
    with fails(EINVAL):
        ask_for(parent, 2, flags=namespace_flags(parent, CLONE_NEWPID))


@clause("clone.2/set-tid-array-and-size-go-together")
@lie(CHOOSES_ITSELF)
def test_an_array_without_a_size_is_refused(parent: Process) -> None:
    with fails(EINVAL):
        parent.clone3(set_tid=parent.allocate(4), set_tid_size=0)


@clause("clone.2/set-tid-array-and-size-go-together")
@lie(CHOOSES_ITSELF)
def test_a_size_without_an_array_is_refused(parent: Process) -> None:
    with fails(EINVAL):
        parent.clone3(set_tid=0, set_tid_size=1)


@clause("clone.2/einval-set-tid-invalid")
@lie(CHOOSES_ITSELF)
@pytest.mark.parametrize("id", [-1, 0, NO_PID])
def test_a_number_that_is_no_id_is_refused(parent: Process, id: int) -> None:
    with fails(EINVAL):
        ask_for(parent, id)


@clause("clone.2/eexist-set-tid")
@lie(CHOOSES_ITSELF)
def test_the_id_of_a_living_process_is_refused(init: Process) -> None:
    child = init.fork()
    with fails(EEXIST):
        ask_for(init, child.own_pid)


@clause("clone.2/eexist-set-tid")
@lie(CHOOSES_ITSELF)
def test_the_id_of_a_zombie_is_refused_until_it_is_reaped(init: Process) -> None:
    child = init.fork()
    child.exit()
    with fails(EEXIST):
        ask_for(init, child.own_pid)
    child.wait_for_exit()
    assert ask_for(init, child.own_pid).own_pid == child.own_pid
