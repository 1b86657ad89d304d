"""clone(2): CLONE_PARENT."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_PARENT,
    ECHILD,
    EINVAL,
    P_ALL,
    SIGCHLD,
    SIGUSR1,
    SIGUSR2,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.lies import adds, drops, in_child, lie
from pytest_procsemantics.requirements import new_init


@pytest.fixture
def caller(parent: Process) -> Process:
    """A child of the parent, for whom the parent's children are siblings."""
    return parent.fork("caller")


@like_clone("clone.2/parent-makes-sibling")
@lie(drops(CLONE_PARENT))
def test_clone_parent_makes_a_sibling(
    parent: Process, caller: Process, observer: Observer, make: MakeWith
) -> None:
    sibling = make(caller, CLONE_PARENT)
    assert sibling.sys.getppid() == parent.own_pid
    assert observer.status_field(sibling, "PPid") == str(parent.pid)


@like_clone("clone.2/parent-unset-caller-is-parent")
@lie(adds(CLONE_PARENT))
def test_without_clone_parent_the_caller_is_the_parent(caller: Process, make: MakeWith) -> None:
    assert make(caller, 0).sys.getppid() == caller.own_pid


@like_clone("clone.2/parent-grandparent-may-wait")
@lie(drops(CLONE_PARENT))
def test_the_callers_parent_waits_for_the_sibling_and_the_caller_cannot(
    parent: Process, caller: Process, make: MakeWith
) -> None:
    sibling = make(caller, CLONE_PARENT)
    with fails(ECHILD):
        caller.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)
    sibling.exit(4)
    assert parent.sys.wait4(sibling.own_pid, WALL)[:2] == (sibling.own_pid, 4 << 8)


@like_clone("clone.2/parent-grandparent-is-signalled")
@lie(drops(CLONE_PARENT))
def test_the_callers_parent_gets_the_siblings_signal(
    parent: Process, caller: Process, make: MakeWith
) -> None:
    parent.count_signals(SIGCHLD)
    caller.count_signals(SIGCHLD)
    sibling = make(caller, CLONE_PARENT)
    sibling.exit()
    sibling.wait_for_exit()
    assert (parent.count(SIGCHLD), caller.count(SIGCHLD)) == (1, 0)


@clause("clone.2/parent-uses-callers-exit-signal")
@lie(drops(CLONE_PARENT), in_child("exec has reset it", Process.execve))
def test_the_siblings_exit_signal_is_the_callers(parent: Process) -> None:
    parent.count_signals(SIGUSR1, SIGUSR2, SIGCHLD)
    caller = parent.clone(SIGUSR1, name="caller")
    sibling = caller.clone(CLONE_PARENT | SIGUSR2, name="sibling")
    sibling.exit()
    sibling.wait_for_exit()
    assert [parent.count(signal) for signal in (SIGUSR1, SIGUSR2, SIGCHLD)] == [1, 0, 0]


@clause("clone.2/parent-refused-for-init")
@lie(drops(CLONE_PARENT))
def test_the_init_of_a_pid_namespace_cannot_make_a_sibling(parent: Process) -> None:
    init = new_init(parent)
    assert init.own_pid == 1
    with fails(EINVAL):
        init.clone(CLONE_PARENT | SIGCHLD)


@clause("clone.2/clone3-parent-exit-signal-refused")
@lie(drops(CLONE_PARENT))
def test_clone3_refuses_an_exit_signal_for_a_sibling(parent: Process, caller: Process) -> None:
    with fails(EINVAL):
        caller.clone3(CLONE_PARENT, exit_signal=SIGCHLD)
    with fails(ECHILD):
        caller.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)
    assert caller.clone3(CLONE_PARENT, exit_signal=0).sys.getppid() == parent.own_pid
    assert caller.clone(CLONE_PARENT | SIGCHLD).sys.getppid() == parent.own_pid
