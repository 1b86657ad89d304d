"""vfork(2): the parent stands still until the child lets go.

That it stands still is shown by the kernel's word (state D) and by a posted step that stays
without answer while the child does several; that it goes on again, by that answer.
"""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, like_vfork
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_PARENT,
    CLONE_VFORK,
    CLONE_VM,
    ENOENT,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    SIGTERM,
    SIGUSR1,
)
from pytest_procsemantics.lies import every_child, leaves_out, lie

IS_FORK = every_child(SIGCHLD)
DOES_NOT_SUSPEND = every_child(CLONE_VM | SIGCHLD)


@like_vfork("vfork.2/creates-a-child")
@lie(every_child(CLONE_PARENT | CLONE_VM | CLONE_VFORK | SIGCHLD))
def test_a_child_that_can_be_waited_for(parent: Process, make: Make) -> None:
    child = make(parent)
    child.exit(7)
    assert child.wait_for_exit().code == 7


@like_vfork("vfork.2/parent-suspended")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_the_parent_stands_still_while_the_child_works(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    answer = parent.post.sys.getpid()
    child.sys.getppid()
    child.sys.umask(0o077)
    child.store(child.allocate(8), 1)
    assert observer.state(parent) == "D"
    assert not answer.ready


@like_vfork("vfork.2/parent-suspended-until-exec")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_exec_in_the_child_lets_the_parent_go_on(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    answer = parent.post.sys.getpid()
    assert observer.state(parent) == "D"
    child.execve()
    assert answer.arrives() == parent.own_pid
    assert child.sys.getpid() == child.own_pid


@like_vfork("vfork.2/parent-suspended-until-exit")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_the_childs_exit_lets_the_parent_go_on(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    answer = parent.post.sys.getpid()
    child.sys.getppid()
    assert not answer.ready
    assert observer.state(parent) == "D"
    child.exit()
    assert answer.arrives() == parent.own_pid


@like_vfork("vfork.2/parent-suspended-until-fatal-signal")
@lie(IS_FORK, DOES_NOT_SUSPEND, leaves_out("kill", hangs=True))
@pytest.mark.parametrize(
    "signal",
    [
        pytest.param(SIGKILL, id="kill"),
        pytest.param(SIGSEGV, id="segv"),
        pytest.param(SIGTERM, id="term"),
    ],
)
def test_the_childs_death_by_a_signal_lets_the_parent_go_on(
    parent: Process, observer: Observer, make: Make, signal: int
) -> None:
    child = make(parent)
    answer = parent.post.sys.getpid()
    assert observer.state(parent) == "D"
    observer.process.sys.kill(child.pid, signal)
    assert answer.arrives() == parent.own_pid
    assert child.wait_for_exit().signal == signal


@like_vfork("vfork.2/failed-exec-does-not-resume")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_a_failed_exec_leaves_the_parent_where_it_is(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    answer = parent.post.sys.getpid()
    with fails(ENOENT):
        child.execve("/no/such/program")
    child.sys.getppid()
    assert not answer.ready
    assert observer.state(parent) == "D"
    child.exit()
    assert answer.arrives() == parent.own_pid


@like_vfork("vfork.2/stopped-child-keeps-parent-suspended")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_a_stopped_child_keeps_the_parent_suspended(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    answer = parent.post.sys.getpid()
    observer.process.sys.kill(child.pid, SIGSTOP)
    observer.wait_for_state(child, "T")
    assert observer.state(parent) == "D"
    assert not answer.ready
    observer.process.sys.kill(child.pid, SIGCONT)
    child.exit()
    assert answer.arrives() == parent.own_pid


@like_vfork("vfork.2/grandchildren-do-not-resume")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_the_childs_own_children_do_not_release_the_parent(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    answer = parent.post.sys.getpid()
    grandchild = child.fork("grandchild")
    grandchild.exit(3)
    assert grandchild.wait_for_exit().code == 3
    assert observer.state(parent) == "D"
    assert not answer.ready


@like_vfork("vfork.2/nested-vfork-suspends-each")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_nested_vforks_are_released_from_the_inside_out(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    grandchild = make(child)
    of_parent, of_child = parent.post.sys.getpid(), child.post.sys.getpid()
    grandchild.sys.getppid()
    assert (observer.state(parent), observer.state(child)) == ("D", "D")
    grandchild.exit()
    assert of_child.arrives() == child.own_pid
    assert observer.state(parent) == "D"
    assert not of_parent.ready
    child.exit()
    assert of_parent.arrives() == parent.own_pid


@like_vfork("vfork.2/earlier-execed-child-does-not-resume")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_the_end_of_an_earlier_child_does_not_release_the_parent(
    parent: Process, observer: Observer, make: Make
) -> None:
    earlier = make(parent)
    earlier.execve()
    child = make(parent)
    answer = parent.post.sys.getpid()
    earlier.exit()
    child.sys.getppid()
    assert observer.state(parent) == "D"
    assert not answer.ready
    child.exit()
    assert answer.arrives() == parent.own_pid


# --- signals ---


@like_vfork("vfork.2/handled-signal-does-not-resume")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_a_handled_signal_waits_for_the_childs_end(
    parent: Process, observer: Observer, make: Make
) -> None:
    parent.count_signals(SIGUSR1)
    child = make(parent)
    answer = parent.post.sys.getpid()
    observer.process.sys.kill(parent.pid, SIGUSR1)
    child.sys.getppid()
    assert observer.state(parent) == "D"
    assert not answer.ready
    child.exit()
    assert answer.arrives() == parent.own_pid
    assert parent.count(SIGUSR1) == 1


@clause("vfork.2/signals-to-parent-wait")
@lie(IS_FORK, DOES_NOT_SUSPEND)
def test_a_signal_for_the_parent_waits_even_if_it_is_fatal(
    parent: Process, observer: Observer
) -> None:
    parent.vfork()
    observer.process.sys.kill(parent.pid, SIGTERM)
    assert observer.state(parent) == "D"


@like_vfork("vfork.2/sigkill-to-suspended-parent")
@lie(leaves_out("kill", hangs=True))
def test_the_suspended_parent_can_be_killed_and_the_child_lives_on(
    parent: Process, observer: Observer, make: Make
) -> None:
    cell = parent.allocate(8)
    child = make(parent)
    child.store(cell, 5)
    observer.process.sys.kill(parent.pid, SIGKILL)
    assert parent.wait_for_exit().signal == SIGKILL
    assert child.load(cell) == 5
    assert child.sys.getppid() != parent.own_pid


@like_vfork("vfork.2/termination-signal-is-sigchld")
@lie(every_child(CLONE_VM | CLONE_VFORK | SIGUSR1))
def test_the_childs_end_is_told_by_sigchld(parent: Process, make: Make) -> None:
    parent.count_signals(SIGCHLD, SIGUSR1)
    child = make(parent)
    child.exit()
    child.wait_for_exit()
    assert (parent.count(SIGCHLD), parent.count(SIGUSR1)) == (1, 0)
