"""clone(2): CLONE_THREAD, who a thread is and what becomes of its group."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    ECHILD,
    EINVAL,
    P_PID,
    SA_RESTART,
    SIGCHLD,
    SIGUSR1,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    adds,
    before_call,
    by_maker_too,
    drops,
    every_child,
    leaves_out,
    lie,
    misreports,
)
from pytest_procsemantics.requirements import namespace_flags

AS_THREAD = CLONE_VM | CLONE_SIGHAND | CLONE_THREAD
NOBODY = 65534
NEVER_A_THREAD = drops(CLONE_THREAD)


# --- who it is ---


@clause("clone.2/thread-same-tgid", "tutorial/clone-chooses-pid")
@lie(NEVER_A_THREAD)
def test_a_thread_has_its_makers_process_id(parent: Process) -> None:
    thread = parent.thread()
    assert thread.sys.getpid() == parent.sys.getpid()
    assert thread.sys.gettid() != parent.sys.gettid()


@clause("clone.2/unset-new-thread-group", "tutorial/clone-makes-processes-and-threads")
@lie(adds(CLONE_THREAD))
def test_without_clone_thread_the_child_leads_a_group_of_its_own(parent: Process) -> None:
    child = parent.clone(CLONE_VM | CLONE_SIGHAND | SIGCHLD)
    assert child.sys.getpid() == child.sys.gettid() != parent.sys.getpid()


@clause("clone.2/thread-tid-is-result")
@lie(misreports("clone"))
def test_the_threads_id_is_the_result_of_the_call(parent: Process) -> None:
    thread = parent.thread()
    assert thread.creation
    assert thread.creation.arrives() == thread.sys.gettid()


@clause("clone.2/returns-tid")
@lie(misreports("clone"))
@pytest.mark.parametrize(
    "flags", [SIGCHLD, CLONE_VM | SIGCHLD, AS_THREAD], ids=["child", "sharer", "thread"]
)
def test_clone_returns_the_childs_thread_id(parent: Process, flags: int) -> None:
    child = parent.clone(flags)
    assert child.creation
    assert child.creation.arrives() == child.sys.gettid()


@clause("clone.2/thread-tid-is-unique")
@lie(every_child(CLONE_NEWPID | SIGCHLD))
def test_no_two_threads_have_the_same_id(parent: Process) -> None:
    child = parent.fork()
    tasks = [parent, child, parent.thread(), child.thread()]
    assert len({task.sys.gettid() for task in tasks}) == 4


@clause("clone.2/thread-same-ppid")
@lie(NEVER_A_THREAD)
def test_a_thread_has_its_makers_parent(parent: Process) -> None:
    child = parent.fork()
    assert child.thread().sys.getppid() == child.sys.getppid() == parent.own_pid


@clause("clone.2/thread-shares-credentials-not")
@lie(by_maker_too("setresuid"))
def test_the_user_ids_are_each_threads_own(parent: Process) -> None:
    before = parent.sys.getresuid()
    thread = parent.thread()
    thread.sys.setresuid(NOBODY, NOBODY, NOBODY)
    assert thread.sys.getresuid() == (NOBODY, NOBODY, NOBODY)
    assert parent.sys.getresuid() == before


# --- its end ---


@clause("clone.2/thread-not-waitable")
@lie(NEVER_A_THREAD)
def test_a_thread_cannot_be_waited_for(parent: Process) -> None:
    thread = parent.thread()
    with fails(ECHILD):
        parent.sys.waitid(P_PID, thread.tid, WEXITED | WALL | WNOHANG)


@clause("clone.2/thread-no-termination-signal")
@lie(before_call("exit", "it sends one", lambda thread: thread.sys.kill(thread.own_pid, SIGCHLD)))
def test_the_end_of_a_thread_sends_its_maker_no_signal(parent: Process, observer: Observer) -> None:
    parent.count_signals(SIGCHLD)
    thread = parent.thread()
    thread.exit_thread()
    observer.wait_until_gone(thread)
    assert parent.count(SIGCHLD) == 0


@clause("clone.2/thread-exit-signal-ignored")
@lie(before_call("exit", "it is sent", lambda thread: thread.sys.kill(thread.own_pid, SIGUSR1)))
def test_a_threads_exit_signal_has_no_effect(parent: Process, observer: Observer) -> None:
    parent.count_signals(SIGUSR1)
    thread = parent.clone(AS_THREAD | SIGUSR1)
    thread.exit_thread()
    observer.wait_until_gone(thread)
    assert parent.count(SIGUSR1) == 0


@clause("clone.2/clone3-thread-exit-signal-refused")
@lie(NEVER_A_THREAD)
def test_clone3_refuses_an_exit_signal_for_a_thread(parent: Process) -> None:
    with fails(EINVAL):
        parent.clone3(AS_THREAD, exit_signal=SIGCHLD)
    assert parent.clone3(AS_THREAD, exit_signal=0).sys.getpid() == parent.own_pid
    assert parent.clone(AS_THREAD | SIGCHLD).sys.getpid() == parent.own_pid


@clause("clone.2/thread-group-end-signals-parent")
@lie(NEVER_A_THREAD)
def test_the_parent_is_told_when_the_last_thread_has_ended(
    parent: Process, observer: Observer
) -> None:
    parent.count_signals(SIGCHLD, flags=SA_RESTART)  # else it may interrupt the wait
    child = parent.fork()
    thread = child.thread()
    child.post.sys.exit()
    observer.wait_for_state(child, "Z")
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOHANG) is None
    assert parent.count(SIGCHLD) == 0
    thread.post.sys.exit()
    child.wait_for_exit()
    assert parent.count(SIGCHLD) == 1


# --- exec ---


@clause("clone.2/thread-exec-ends-others")
@lie(EXEC_DOES_NOTHING)
def test_exec_by_a_thread_ends_all_others(
    parent: Process, target: Target, observer: Observer
) -> None:
    thread, bystander = parent.thread(), parent.thread("bystander")
    thread.execve()
    assert observer.threads(thread) == 1
    target.wait_for_end(parent)
    target.wait_for_end(bystander)


@clause("clone.2/thread-exec-ends-others")
@lie(EXEC_DOES_NOTHING)
def test_after_exec_the_thread_has_the_groups_id(parent: Process) -> None:
    thread = parent.thread()
    thread.execve()
    assert thread.sys.gettid() == thread.sys.getpid() == parent.own_pid


# --- what is refused ---


@clause("clone.2/thread-needs-sighand")
@lie(adds(CLONE_SIGHAND))
@pytest.mark.parametrize("call", ["clone", "clone3"])
def test_clone_thread_without_clone_sighand_is_refused(
    parent: Process, observer: Observer, call: str
) -> None:
    with fails(EINVAL):
        getattr(parent, call)(CLONE_THREAD | CLONE_VM)
    assert observer.threads(parent) == 1


@clause("clone.2/thread-after-unshare-newpid-refused")
@lie(leaves_out("unshare"))
def test_who_makes_children_for_another_pid_namespace_makes_no_thread(parent: Process) -> None:
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWPID))
    with fails(EINVAL):
        parent.clone(AS_THREAD)
    assert parent.clone(CLONE_VM | SIGCHLD).sys.getpid() == 1
