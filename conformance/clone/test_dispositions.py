"""clone(2): CLONE_SIGHAND and CLONE_CLEAR_SIGHAND."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_CLEAR_SIGHAND,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    ECHILD,
    EINVAL,
    KCMP_SIGHAND,
    P_ALL,
    SA_NODEFER,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGHUP,
    SIGRTMIN,
    SIGUSR1,
    SIGUSR2,
    WALL,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    adds,
    by_maker_too,
    drops,
    in_child,
    lie,
)

DROPS_CLEAR_SIGHAND = drops(CLONE_CLEAR_SIGHAND)


def resets_dispositions(child: Process) -> None:
    """Begin with the default for each signal."""
    child.sys.rt_sigaction(SIGUSR1, SIG_DFL)
    child.sys.rt_sigaction(SIGUSR2, SIG_DFL)


# --- CLONE_SIGHAND ---


@like_clone("clone.2/sighand-shares-handlers")
@lie(drops(CLONE_SIGHAND))
def test_with_clone_sighand_a_disposition_is_one_for_both(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_VM | CLONE_SIGHAND)
    child.sys.rt_sigaction(SIGUSR1, SIG_IGN)
    assert parent.sys.rt_sigaction(SIGUSR1).handler == SIG_IGN
    parent.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    assert child.sys.rt_sigaction(SIGUSR2).handler == SIG_IGN


@like_clone("clone.2/sighand-unset-copies")
@lie(adds(CLONE_SIGHAND))
def test_without_clone_sighand_dispositions_are_copies(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_VM)
    child.sys.rt_sigaction(SIGUSR1, SIG_IGN)
    assert parent.sys.rt_sigaction(SIGUSR1).handler == SIG_DFL
    parent.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    assert child.sys.rt_sigaction(SIGUSR2).handler == SIG_DFL


@like_clone("clone.2/sighand-masks-stay-separate")
@lie(by_maker_too("rt_sigprocmask"))
def test_with_clone_sighand_each_has_a_mask_of_its_own(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_VM | CLONE_SIGHAND)
    child.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    assert parent.sys.rt_sigprocmask() == frozenset()


@like_clone("clone.2/sighand-pending-stay-separate")
@lie(adds(CLONE_THREAD))
def test_with_clone_sighand_each_has_pending_signals_of_its_own(
    parent: Process, make: MakeWith
) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    child = make(parent, CLONE_VM | CLONE_SIGHAND)
    child.sys.kill(child.own_pid, SIGUSR1)
    assert child.sys.rt_sigpending() == {SIGUSR1}
    assert parent.sys.rt_sigpending() == frozenset()


@like_clone("clone.2/sighand-needs-vm")
@lie(adds(CLONE_VM), drops(CLONE_SIGHAND))
def test_clone_sighand_without_clone_vm_is_refused(parent: Process, make: MakeWith) -> None:
    with fails(EINVAL):
        make(parent, CLONE_SIGHAND)
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


@like_clone("clone.2/sighand-exec-unshares")
@lie(EXEC_DOES_NOTHING)
def test_a_sharer_that_execs_gets_dispositions_of_its_own(parent: Process, make: MakeWith) -> None:
    parent.count_signals(SIGUSR1)
    handled = parent.sys.rt_sigaction(SIGUSR1)
    child = make(parent, CLONE_VM | CLONE_SIGHAND)
    child.execve()
    child.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    assert parent.sys.rt_sigaction(SIGUSR1) == handled
    assert parent.sys.rt_sigaction(SIGUSR2).handler == SIG_DFL


@clause("clone.2/sighand-exec-unshares")
@lie(EXEC_DOES_NOTHING)
def test_the_kernel_has_two_sets_of_dispositions_after_the_exec(
    parent: Process, observer: Observer
) -> None:
    child = parent.clone(CLONE_VM | CLONE_SIGHAND | SIGCHLD)
    assert observer.kcmp(parent, child, KCMP_SIGHAND) == 0
    child.execve()
    assert observer.kcmp(parent, child, KCMP_SIGHAND) != 0


@like_clone("clone.2/default-dispositions-are-copied")
@lie(in_child("they are reset", resets_dispositions))
def test_the_child_begins_with_the_parents_dispositions(parent: Process, make: MakeWith) -> None:
    parent.count_signals(SIGUSR1, flags=SA_NODEFER, mask={SIGHUP})
    parent.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    child = make(parent, 0)
    assert child.sys.rt_sigaction(SIGUSR1) == parent.sys.rt_sigaction(SIGUSR1)
    assert child.sys.rt_sigaction(SIGUSR2) == parent.sys.rt_sigaction(SIGUSR2)


# --- CLONE_CLEAR_SIGHAND ---


@clause("clone.2/clear-sighand-resets-handlers")
@lie(DROPS_CLEAR_SIGHAND)
@pytest.mark.parametrize("signal", [SIGUSR1, SIGRTMIN], ids=["SIGUSR1", "SIGRTMIN"])
def test_a_handled_signal_has_its_default_in_the_child(parent: Process, signal: int) -> None:
    parent.count_signals(signal)
    child = parent.clone3(CLONE_CLEAR_SIGHAND)
    assert child.sys.rt_sigaction(signal).handler == SIG_DFL


@clause("clone.2/clear-sighand-keeps-ignored")
@lie(in_child("ignored signals are reset too", resets_dispositions))
def test_an_ignored_signal_stays_ignored_in_the_child(parent: Process) -> None:
    parent.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    child = parent.clone3(CLONE_CLEAR_SIGHAND)
    assert child.sys.rt_sigaction(SIGUSR2).handler == SIG_IGN


def resets_the_callers(child: Process) -> None:
    """Reset what the maker does with its signals."""
    assert child.creation
    resets_dispositions(child.creation.process)


@clause("clone.2/clear-sighand-leaves-caller")
@lie(in_child("the caller's are reset", resets_the_callers))
def test_the_callers_dispositions_stay(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    parent.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    parent.clone3(CLONE_CLEAR_SIGHAND)
    assert parent.sys.rt_sigaction(SIGUSR2).handler == SIG_IGN
    parent.sys.kill(parent.own_pid, SIGUSR1)
    assert parent.count(SIGUSR1) == 1


@clause("clone.2/clear-sighand-with-sighand")
@lie(DROPS_CLEAR_SIGHAND, drops(CLONE_SIGHAND))
def test_clone_clear_sighand_with_clone_sighand_is_refused(parent: Process) -> None:
    with fails(EINVAL):
        parent.clone3(CLONE_VM | CLONE_SIGHAND | CLONE_CLEAR_SIGHAND)
    with fails(ECHILD):
        parent.sys.waitid(P_ALL, 0, WEXITED | WALL | WNOHANG)


@clause("clone.2/clear-sighand-not-in-clone")
@lie(in_child("clone knows the flag", resets_dispositions))
def test_the_old_clone_does_not_know_clone_clear_sighand(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    child = parent.clone(CLONE_CLEAR_SIGHAND | SIGCHLD)
    assert child.sys.rt_sigaction(SIGUSR1) == parent.sys.rt_sigaction(SIGUSR1)
