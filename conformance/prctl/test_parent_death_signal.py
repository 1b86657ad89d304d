"""prctl(2): PR_SET_PDEATHSIG."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLD_TRAPPED,
    CLONE_THREAD,
    EINVAL,
    P_PID,
    PR_GET_PDEATHSIG,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    PTRACE_CONT,
    PTRACE_SEIZE,
    SI_USER,
    SIG_BLOCK,
    SIG_UNBLOCK,
    SIGRTMAX,
    SIGUSR1,
    SIGUSR2,
    WEXITED,
    WSTOPPED,
)
from pytest_procsemantics.lies import (
    before_call,
    before_exec,
    by_maker_too,
    drops,
    in_child,
    leaves_out,
    lie,
    passes,
)

NO_SETTING = leaves_out("prctl")


def children(process: Process) -> list[Process]:
    """Those that a process has made."""
    return [one for one in process.target.processes.values() if one.parent is process]


def signals_children(process: Process) -> None:
    """Let somebody else send a process's children the signal."""
    for child in children(process):
        process.target.observer.process.sys.kill(child.pid, SIGUSR1)


# --- set and read ---


@clause("prctl.2/pdeathsig-get-gives-set-value")
@lie(
    passes("0 is no value", "prctl", 1, lambda value: value or SIGUSR1),
    passes("another signal", "prctl", 1, lambda value: SIGUSR1 if value == SIGUSR2 else value),
)
def test_the_setting_can_be_read(parent: Process) -> None:
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == 0
    parent.sys.prctl(PR_SET_PDEATHSIG, SIGUSR2)
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == SIGUSR2
    parent.sys.prctl(PR_SET_PDEATHSIG, 0)
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == 0


@clause("prctl.2/pdeathsig-einval")
@lie(passes("a signal there is", "prctl", 1, lambda value: SIGUSR1 if value in (65, -1) else value))
@pytest.mark.parametrize("number", [65, -1])
def test_a_number_that_is_no_signal_is_refused(parent: Process, number: int) -> None:
    parent.sys.prctl(PR_SET_PDEATHSIG, SIGRTMAX)
    with fails(EINVAL):
        parent.sys.prctl(PR_SET_PDEATHSIG, number)
    assert parent.sys.prctl(PR_GET_PDEATHSIG) == SIGRTMAX


@clause("prctl.2/pdeathsig-is-per-thread")
@lie(by_maker_too("prctl"))
def test_each_thread_has_a_setting_of_its_own(parent: Process) -> None:
    child = parent.fork()
    child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    thread = child.thread()
    assert thread.sys.prctl(PR_GET_PDEATHSIG) == 0
    thread.sys.prctl(PR_SET_PDEATHSIG, SIGUSR2)
    assert child.sys.prctl(PR_GET_PDEATHSIG) == SIGUSR1


# --- whose end ---


@clause("prctl.2/pdeathsig-zero-clears")
@lie(passes("0 clears nothing", "prctl", 1, lambda value: value or SIGUSR1))
def test_after_zero_no_signal_comes(parent: Process) -> None:
    middle = parent.fork("middle")
    child = middle.fork()
    child.count_signals(SIGUSR1)
    child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    child.sys.prctl(PR_SET_PDEATHSIG, 0)
    middle.exit()
    middle.wait_for_exit()
    assert child.count(SIGUSR1) == 0


@clause("prctl.2/pdeathsig-parent-is-creating-thread")
@lie(NO_SETTING)
def test_the_end_of_the_thread_that_made_the_child_counts(
    parent: Process, observer: Observer
) -> None:
    thread = parent.thread()
    child = thread.fork()
    child.count_signals(SIGUSR1)
    child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    thread.exit_thread()
    observer.wait_until_gone(thread)
    assert child.count(SIGUSR1) >= 1
    assert child.sys.getppid() == parent.own_pid


@clause("prctl.2/pdeathsig-set-too-late")
@lie(in_child("it is set at once", lambda child: child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)))
def test_a_setting_after_the_parents_end_is_too_late(parent: Process) -> None:
    middle = parent.fork("middle")
    orphan = middle.fork("orphan")
    orphan.count_signals(SIGUSR1)
    middle.exit()
    middle.wait_for_exit()
    orphan.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    assert orphan.count(SIGUSR1) == 0


@clause("prctl.2/pdeathsig-parents-exec-does-not-count")
@lie(before_exec("the parent's exec counts", signals_children), leaves_out("prctl"))
def test_the_parents_exec_is_no_end(parent: Process) -> None:
    middle = parent.fork("middle")
    child = middle.fork()
    child.count_signals(SIGUSR1)
    child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    middle.execve()
    assert child.count(SIGUSR1) == 0
    middle.exit()
    middle.wait_for_exit()
    assert child.count(SIGUSR1) >= 1


# --- how it comes ---


@clause("prctl.2/pdeathsig-si-pid-is-parent")
@lie(before_call("exit_group", "another has sent it", signals_children))
def test_the_signal_names_who_has_ended(parent: Process) -> None:
    reaper = parent.fork("reaper")
    reaper.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    middle = reaper.fork("middle")
    orphan = middle.fork("orphan")
    orphan.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    orphan.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    middle.exit()
    told = orphan.sys.rt_sigtimedwait({SIGUSR1})
    assert (told.pid, told.code) == (middle.own_pid, SI_USER)
    reaper.exit()
    told = orphan.sys.rt_sigtimedwait({SIGUSR1})
    assert (told.pid, told.code) == (reaper.own_pid, SI_USER)


@clause("prctl.2/pdeathsig-can-be-blocked")
@lie(NO_SETTING)
def test_the_signal_can_be_blocked_and_then_taken(parent: Process) -> None:
    middle = parent.fork("middle")
    child = middle.fork()
    child.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    middle.exit()
    middle.wait_for_exit()
    assert child.sys.rt_sigpending() == {SIGUSR1}
    assert child.sys.rt_sigtimedwait({SIGUSR1}).pid == middle.own_pid
    assert child.sys.rt_sigpending() == frozenset()


@clause("prctl.2/pdeathsig-process-directed")
@lie(drops(CLONE_THREAD))
def test_a_thread_that_does_not_block_the_signal_takes_it(parent: Process) -> None:
    middle = parent.fork("middle")
    child = middle.fork()
    child.count_signals(SIGUSR1)
    child.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    thread = child.thread()
    thread.sys.rt_sigprocmask(SIG_UNBLOCK, {SIGUSR1})
    middle.exit()
    middle.wait_for_exit()
    thread.sys.getpid()
    assert child.sys.rt_sigpending() == frozenset()
    assert child.count(SIGUSR1) >= 1


@clause("prctl.2/pdeathsig-sent-while-traced")
@lie(leaves_out("ptrace"))
def test_the_tracer_sees_the_signal_and_passes_it_on(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    middle = parent.fork("middle")
    child = middle.fork()
    child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    parent.sys.ptrace(PTRACE_SEIZE, child.own_pid, 0, 0)
    middle.exit()
    stopped = parent.sys.waitid(P_PID, child.own_pid, WSTOPPED | WEXITED)
    assert (stopped.code, stopped.status) == (CLD_TRAPPED, SIGUSR1)
    parent.sys.ptrace(PTRACE_CONT, child.own_pid, 0, SIGUSR1)
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED).status == SIGUSR1
