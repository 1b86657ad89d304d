"""clone(2): CLONE_VFORK."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
)
from pytest_procsemantics.lies import adds, drops, lie

SUSPENDS_NOT = drops(CLONE_VFORK)


@like_clone("clone.2/vfork-flag-suspends-caller")
@lie(SUSPENDS_NOT)
def test_clone_vfork_suspends_the_caller_until_the_child_exits(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    child = make(parent, CLONE_VFORK | CLONE_VM)
    answer = parent.post.sys.getpid()
    child.sys.getppid()
    assert observer.state(parent) == "D"
    assert not answer.ready
    child.exit()
    assert answer.arrives() == parent.own_pid


@like_clone("clone.2/vfork-flag-suspends-caller")
@lie(SUSPENDS_NOT)
def test_clone_vfork_suspends_the_caller_until_the_child_execs(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    child = make(parent, CLONE_VFORK | CLONE_VM)
    answer = parent.post.sys.getpid()
    assert observer.state(parent) == "D"
    child.execve()
    assert answer.arrives() == parent.own_pid
    assert child.sys.getpid() == child.own_pid


@like_clone("clone.2/vfork-flag-without-vm")
@lie(SUSPENDS_NOT, adds(CLONE_VM))
def test_without_clone_vm_the_caller_is_suspended_and_memory_a_copy(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    cell = parent.allocate(8)
    child = make(parent, CLONE_VFORK)
    answer = parent.post.sys.getpid()
    child.store(cell, 1)
    assert observer.state(parent) == "D"
    child.exit()
    assert answer.arrives() == parent.own_pid
    assert parent.load(cell) == 0


@like_clone("clone.2/vfork-flag-thread")
@lie(SUSPENDS_NOT)
def test_the_maker_of_a_thread_is_suspended_until_the_thread_ends(
    parent: Process, observer: Observer, make: MakeWith
) -> None:
    thread = make(parent, CLONE_VFORK | CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)
    answer = parent.post.sys.gettid()
    assert thread.sys.getpid() == parent.own_pid
    assert observer.state(parent) == "D"
    assert not answer.ready
    thread.exit_thread()
    assert answer.arrives() == parent.tid


@like_clone("clone.2/unset-both-run")
@lie(adds(CLONE_VFORK, hangs=True))
def test_without_clone_vfork_both_go_on(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_VM)
    assert parent.sys.getpid() == parent.own_pid
    assert child.sys.getppid() == parent.own_pid
    assert parent.sys.gettid() == parent.tid


@clause("vfork.2/equals-clone-vm-vfork-sigchld")
@lie(SUSPENDS_NOT)
def test_vforks_flags_make_what_vfork_makes(parent: Process, observer: Observer) -> None:
    cell = parent.allocate(8)
    child = parent.clone3(CLONE_VFORK | CLONE_VM)
    child.store(cell, 1)
    assert observer.state(parent) == "D"
    child.exit(3)
    assert child.wait_for_exit().code == 3
    assert parent.load(cell) == 1
