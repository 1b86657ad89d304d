"""prctl(2): PR_SET_CHILD_SUBREAPER."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, by_any_process
from pytest_procsemantics.driven.constants import (
    CLD_EXITED,
    CLONE_THREAD,
    P_PID,
    PR_GET_CHILD_SUBREAPER,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_PDEATHSIG,
    SIG_BLOCK,
    SIGCHLD,
    SIGUSR1,
    WEXITED,
)
from pytest_procsemantics.lies import before_call, drops, in_child, leaves_out, lie, passes

NO_REAPER = leaves_out("prctl")
STAYS_SET = passes("0 sets it too", "prctl", 1, lambda value: value or 1)


def gives_it_up(process: Process) -> None:
    """Let the parent of the process that is called middle be no sub-reaper any more."""
    if process.name == "middle" and process.parent:
        process.parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 0)


NEARER_IS_NONE = before_call("exit_group", "the nearer one is none by then", gives_it_up)


@clause("prctl.2/child-subreaper-set-and-get")
@lie(NO_REAPER, STAYS_SET)
def test_the_attribute_can_be_set_and_cleared(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 77)
    assert parent.sys.prctl(PR_GET_CHILD_SUBREAPER) == 1
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 0)
    assert parent.sys.prctl(PR_GET_CHILD_SUBREAPER) == 0


@clause("prctl.2/child-subreaper-any-nonzero-is-one")
@lie(NO_REAPER)
@pytest.mark.parametrize("value", [-3, -1, 1, 2])
def test_whatever_is_not_zero_reads_back_as_one(parent: Process, value: int) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, value)
    assert parent.sys.prctl(PR_GET_CHILD_SUBREAPER) == 1


@clause("prctl.2/child-subreaper-is-of-the-process")
@lie(drops(CLONE_THREAD))
def test_all_threads_have_the_attribute(parent: Process) -> None:
    before, thread = parent.thread("before"), parent.thread()
    thread.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    assert parent.sys.prctl(PR_GET_CHILD_SUBREAPER) == 1
    assert before.sys.prctl(PR_GET_CHILD_SUBREAPER) == 1


@by_any_process("prctl.2/child-subreaper-not-inherited-by-fork")
@lie(in_child("it is inherited", lambda child: child.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)))
def test_a_child_does_not_have_the_attribute(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    assert make(parent).sys.prctl(PR_GET_CHILD_SUBREAPER) == 0


# --- orphans ---


@clause("prctl.2/child-subreaper-adopts-orphans")
@lie(NO_REAPER)
def test_an_orphan_passes_by_its_grandparent_that_is_no_sub_reaper(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    grandparent = parent.fork("grandparent")
    middle = grandparent.fork("middle")
    orphan = middle.fork("orphan")
    middle.exit()
    assert grandparent.sys.getppid() == parent.own_pid
    assert orphan.sys.getppid() == parent.own_pid


@clause("prctl.2/child-subreaper-nearest-counts")
@lie(NEARER_IS_NONE)
def test_the_nearest_sub_reaper_adopts_then_the_next(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    nearer = parent.fork("nearer")
    nearer.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    middle = nearer.fork("middle")
    orphan = middle.fork("orphan")
    middle.exit()
    assert orphan.sys.getppid() == nearer.own_pid
    nearer.exit()
    assert orphan.sys.getppid() == parent.own_pid


@clause("prctl.2/child-subreaper-cleared-init-adopts")
@lie(STAYS_SET)
def test_an_orphan_passes_by_who_was_a_sub_reaper(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    former = parent.fork("former")
    former.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    former.sys.prctl(PR_SET_CHILD_SUBREAPER, 0)
    middle = former.fork("middle")
    orphan = middle.fork("orphan")
    middle.exit()
    assert orphan.sys.getppid() == parent.own_pid


@clause("prctl.2/child-subreaper-set-late")
@lie(NO_REAPER)
def test_who_becomes_a_sub_reaper_late_adopts_too(parent: Process) -> None:
    middle = parent.fork("middle")
    orphan = middle.fork("orphan")
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    middle.exit()
    assert orphan.sys.getppid() == parent.own_pid


@clause("prctl.2/child-subreaper-gets-sigchld")
@lie(leaves_out("prctl", hangs=True))
def test_the_end_of_an_orphan_sends_its_sub_reaper_sigchld(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGCHLD})
    middle = parent.clone(0, name="middle")  # sends nothing itself
    orphan = middle.fork("orphan")
    middle.exit()
    orphan.exit(9)
    told = parent.sys.rt_sigtimedwait({SIGCHLD})
    assert (told.pid, told.code, told.status) == (orphan.own_pid, CLD_EXITED, 9)


@clause("prctl.2/child-subreaper-can-wait")
@lie(NO_REAPER)
def test_a_sub_reaper_can_wait_for_an_orphan(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    middle = parent.fork("middle")
    orphan = middle.fork("orphan")
    middle.exit()
    orphan.exit(9)
    assert parent.sys.waitid(P_PID, orphan.own_pid, WEXITED).status == 9


@clause("prctl.2/pdeathsig-again-for-each-subreaper")
@lie(NEARER_IS_NONE)
def test_the_parent_death_signal_comes_again_at_a_sub_reapers_end(parent: Process) -> None:
    reaper = parent.fork("reaper")
    reaper.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    middle = reaper.fork("middle")
    orphan = middle.fork("orphan")
    orphan.count_signals(SIGUSR1)
    orphan.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    middle.exit()
    middle.wait_for_exit()
    before = orphan.count(SIGUSR1)
    assert before >= 1  # one for each thread that the parent had
    reaper.exit()
    reaper.wait_for_exit()
    assert orphan.count(SIGUSR1) > before
