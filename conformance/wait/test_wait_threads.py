"""wait(2), NOTES: threads, children of clone(2), and the status of a child with several threads."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_THREAD,
    ECHILD,
    P_PID,
    PTRACE_TRACEME,
    SIGCHLD,
    SIGUSR1,
    SIGUSR2,
    WALL,
    WCLONE,
    WEXITED,
    WNOHANG,
    WNOTHREAD,
    WNOWAIT,
)
from pytest_procsemantics.lies import Lie, drops, leaves_out, lie, passes

STOPPED = 0x7F  # the low byte of the status of a stopped child


def without(option: int, name: str) -> Lie:
    """wait4 does as if an option were not there."""
    return passes(f"wait4 drops {name}", "wait4", 2, lambda options: options & ~option)


@clause("wait.2/threads-can-wait-for-each-others-children")
@lie(drops(CLONE_THREAD), passes("__WNOTHREAD is added", "wait4", 2, WNOTHREAD))
def test_a_thread_waits_for_another_threads_child(parent: Process) -> None:
    thread = parent.thread()
    child = parent.fork()
    child.exit(4)
    assert thread.sys.wait4(child.own_pid)[:2] == (child.own_pid, 4 << 8)


@clause("wait.2/wnothread", "wait.2/accepted-option-has-its-effect")
@lie(without(WNOTHREAD, "__WNOTHREAD"))
def test_wnothread_waits_for_the_callers_own_children_only(parent: Process) -> None:
    thread = parent.thread()
    child = parent.fork()
    child.exit()
    with fails(ECHILD):
        thread.sys.wait4(-1, WNOTHREAD)
    assert parent.sys.wait4(-1, WNOTHREAD).pid == child.own_pid


@clause("wait.2/wclone", "wait.2/accepted-option-has-its-effect")
@lie(without(WCLONE, "__WCLONE"))
def test_wclone_waits_for_children_with_another_signal_only(parent: Process) -> None:
    sends_sigchld, sends_nothing = parent.clone(SIGCHLD), parent.clone(0)
    sends_sigchld.exit()
    sends_nothing.exit()
    assert parent.sys.wait4(-1, WCLONE).pid == sends_nothing.own_pid
    with fails(ECHILD):
        parent.sys.wait4(-1, WCLONE)
    assert parent.sys.wait4(-1).pid == sends_sigchld.own_pid


@clause("wait.2/wall", "wait.2/accepted-option-has-its-effect")
@lie(without(WALL, "__WALL"))
def test_wall_waits_for_children_with_any_signal(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    children = parent.clone(SIGCHLD), parent.clone(SIGUSR1)
    children[0].exit()
    children[1].exit()
    pids = {parent.sys.wait4(-1, WALL).pid, parent.sys.wait4(-1, WALL).pid}
    assert pids == {child.own_pid for child in children}


@clause("wait.2/wclone-ignored-with-wall")
@lie(without(WALL, "__WALL"))
def test_with_wall_wclone_is_ignored(parent: Process) -> None:
    children = parent.clone(SIGCHLD), parent.clone(0)
    children[0].exit()
    children[1].exit()
    pids = {parent.sys.wait4(-1, WALL | WCLONE).pid, parent.sys.wait4(-1, WALL | WCLONE).pid}
    assert pids == {child.own_pid for child in children}


@clause("wait.2/wclone-not-for-traced")
@lie(leaves_out("ptrace"))
@pytest.mark.parametrize(
    ("signal", "option"), [(SIGCHLD, WCLONE), (0, 0)], ids=["fork child", "clone child"]
)
def test_for_a_traced_child_wclone_does_not_matter(
    parent: Process, signal: int, option: int
) -> None:
    child = parent.clone(signal)
    with fails(ECHILD):
        parent.sys.wait4(child.own_pid, option | WNOHANG)
    child.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)
    parent.sys.kill(child.own_pid, SIGUSR2)
    assert parent.sys.wait4(child.own_pid, option).status == SIGUSR2 << 8 | STOPPED


@clause("wait.2/status-of-multithreaded-child")
@lie(passes("the leader's code is the child's", "exit", 0, 3))
def test_the_status_is_the_code_of_the_last_thread(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    thread = child.thread()
    child.post.sys.exit(3)
    observer.wait_for_state(child, "Z")
    thread.post.sys.exit(5)
    assert parent.sys.wait4(child.own_pid).status == 5 << 8


@clause("wait.2/status-of-multithreaded-child")
@lie(passes("the leader's code is the child's", "exit_group", 0, 3))
def test_the_status_is_the_code_of_exit_group(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    thread = child.thread()
    child.post.sys.exit(3)
    observer.wait_for_state(child, "Z")
    thread.post.sys.exit_group(9)
    assert parent.sys.wait4(child.own_pid).status == 9 << 8


@clause("wait.2/wnowait-reports-group-status")
@lie(passes("the leader's code is the child's", "exit_group", 0, 42))
def test_wnowait_gives_the_code_of_exit_group(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    thread = child.thread()
    child.post.sys.exit(42)
    observer.wait_for_state(child, "Z")
    thread.post.sys.exit_group(43)
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOWAIT).status == 43
    assert parent.sys.wait4(child.own_pid).status == 43 << 8
