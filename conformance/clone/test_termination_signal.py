"""clone(2): the child termination signal, and CLONE_DETACHED, which once meant none."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    CLD_EXITED,
    CLONE_DETACHED,
    CLONE_PIDFD,
    ECHILD,
    EINVAL,
    P_ALL,
    P_PID,
    SIG_SETMASK,
    SIGCHLD,
    SIGRTMIN,
    SIGUSR1,
    WALL,
    WCLONE,
    WEXITED,
    WNOHANG,
    WNOWAIT,
)
from pytest_procsemantics.lies import drops, in_child, lie

ALL = range(1, 65)
EXEC_RESETS_IT = in_child("exec has made it SIGCHLD", Process.execve)


def make_with_signal(maker: Process, call: str, signal: int) -> Process:
    """A child with a termination signal, by clone or clone3."""
    return maker.clone(signal) if call == "clone" else maker.clone3(exit_signal=signal)


both_calls = pytest.mark.parametrize("call", ["clone", "clone3"])


@both_calls
@clause("clone.2/termination-signal-sent")
@lie(in_child("exec has made it SIGCHLD", Process.execve, hangs=True))
@pytest.mark.parametrize("signal", [SIGUSR1, SIGRTMIN + 3], ids=["SIGUSR1", "SIGRTMIN+3"])
def test_the_chosen_signal_is_sent_at_the_childs_end(
    parent: Process, call: str, signal: int
) -> None:
    parent.sys.rt_sigprocmask(SIG_SETMASK, ALL)
    child = make_with_signal(parent, call, signal)
    child.exit(3)
    sent = parent.sys.rt_sigtimedwait({signal})
    assert (sent.pid, sent.code, sent.status) == (child.own_pid, CLD_EXITED, 3)
    assert parent.sys.rt_sigpending() == frozenset()


@both_calls
@clause("clone.2/zero-signal-sends-none")
@lie(EXEC_RESETS_IT)
def test_with_signal_zero_none_is_sent(parent: Process, call: str) -> None:
    parent.sys.rt_sigprocmask(SIG_SETMASK, ALL)
    child = make_with_signal(parent, call, 0)
    child.exit()
    assert parent.sys.wait4(child.own_pid, WALL).pid == child.own_pid
    assert parent.sys.rt_sigpending() == frozenset()


@both_calls
@clause("clone.2/other-signal-needs-wall-or-wclone")
@lie(EXEC_RESETS_IT)
@pytest.mark.parametrize("signal", [0, SIGUSR1], ids=["none", "SIGUSR1"])
def test_a_child_with_another_signal_is_waited_for_with_wall_or_wclone_only(
    parent: Process, call: str, signal: int
) -> None:
    parent.sys.rt_sigprocmask(SIG_SETMASK, ALL)
    child = make_with_signal(parent, call, signal)
    with fails(ECHILD):
        parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOHANG)
    child.exit(3)
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED | WCLONE | WNOWAIT).status == 3
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED | WALL).status == 3


@clause("clone.2/exec-resets-termination-signal")
@lie(in_child("it is another's child", lambda child: child.sys.kill(child.sys.getppid(), SIGUSR1)))
def test_after_exec_the_signal_is_sigchld(parent: Process) -> None:
    parent.count_signals(SIGUSR1, SIGCHLD)
    child = parent.clone(SIGUSR1)
    child.execve()
    child.exit()
    child.wait_for_exit()
    assert (parent.count(SIGUSR1), parent.count(SIGCHLD)) == (0, 1)


@clause("clone.2/clone-exit-signal-mask")
@lie(EXEC_RESETS_IT)
@pytest.mark.parametrize("number", [65, 127])
def test_the_old_clone_takes_a_number_that_is_no_signal(parent: Process, number: int) -> None:
    parent.sys.rt_sigprocmask(SIG_SETMASK, ALL)
    child = parent.clone(number)
    child.exit()
    assert parent.sys.wait4(child.own_pid, WALL).pid == child.own_pid
    assert parent.sys.rt_sigpending() == frozenset()


# --- CLONE_DETACHED ---


@clause("clone.2/detached-ignored-by-clone")
@lie(drops(SIGCHLD))
def test_clone_ignores_clone_detached(parent: Process) -> None:
    parent.count_signals(SIGCHLD)
    child = parent.clone(CLONE_DETACHED | SIGCHLD)
    child.exit(3)
    assert parent.sys.wait4(child.own_pid).status == 3 << 8
    assert parent.count(SIGCHLD) == 1


@clause("clone.2/detached-refused-by-clone3")
@lie(drops(CLONE_DETACHED))
def test_clone3_refuses_clone_detached(parent: Process) -> None:
    with fails(EINVAL):
        parent.clone3(CLONE_DETACHED)
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


@clause("clone.2/detached-with-pidfd-refused")
@lie(drops(CLONE_DETACHED), drops(CLONE_PIDFD))
def test_clone_refuses_clone_detached_with_a_pidfd(parent: Process) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 77)
    with fails(EINVAL):
        parent.clone(CLONE_DETACHED | CLONE_PIDFD | SIGCHLD, parent_tid=cell)
    assert parent.load(cell) == 77
