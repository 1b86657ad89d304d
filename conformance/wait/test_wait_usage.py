"""wait4(2): the resource usage that comes with a wait, and waitid's fifth argument.

A process burns until its own CPU-time clock says so, so no figure here depends on the machine's speed.
"""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import (
    ECHILD,
    MAP_ANONYMOUS,
    MAP_POPULATE,
    MAP_PRIVATE,
    P_PID,
    PROT_READ,
    PROT_WRITE,
    RUSAGE_CHILDREN,
    SIG_IGN,
    SIGCHLD,
    WEXITED,
)
from pytest_procsemantics.driven.forms.processes import Rusage
from pytest_procsemantics.lies import Lie, leaves_out, lie

BURNT = 0.01  # seconds
LITTLE = BURNT / 2
MIB = 1 << 20


class BurnsElsewhere(Process):
    """Lets a child do the work, which it never waits for."""

    def burn(self, seconds: float) -> None:
        Process.burn(self.fork("helper"), seconds)


BURNS_ELSEWHERE = Lie("somebody else does the work", BurnsElsewhere)


def processor_time(usage: Rusage) -> float:
    """Seconds in user and in system mode."""
    return usage.utime + usage.stime


@clause("wait4.2/rusage-filled")
@lie(BURNS_ELSEWHERE)
def test_wait4_gets_the_childs_processor_time(parent: Process) -> None:
    child = parent.fork()
    child.burn(BURNT)
    child.exit()
    assert processor_time(parent.sys.wait4(child.own_pid).rusage) > LITTLE


@clause("wait4.2/rusage-filled")
@lie(leaves_out("mmap"))
def test_wait4_gets_the_most_memory_that_the_child_had(parent: Process) -> None:
    child = parent.fork()
    kind = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE
    child.sys.mmap(0, 4 * MIB, PROT_READ | PROT_WRITE, kind, -1, 0)
    child.exit()
    assert parent.sys.wait4(child.own_pid).rusage.maxrss >= 4 * MIB // 1024


@clause("wait.2/waitid-rusage")
@lie(BURNS_ELSEWHERE)
def test_waitids_fifth_argument_gets_the_childs_usage(parent: Process) -> None:
    child = parent.fork()
    child.burn(BURNT)
    child.exit()
    _, usage = parent.sys.waitid(P_PID, child.own_pid, WEXITED, usage=True)
    assert processor_time(usage) > LITTLE


@clause("wait4.2/rusage-includes-waited-descendants")
@lie(BURNS_ELSEWHERE)
def test_usage_of_a_grandchild_that_was_waited_for_is_included(parent: Process) -> None:
    child = parent.fork()
    grandchild = child.fork("grandchild")
    grandchild.burn(BURNT)
    grandchild.exit()
    child.sys.wait4(grandchild.own_pid)
    child.exit()
    assert processor_time(parent.sys.wait4(child.own_pid).rusage) > LITTLE


@clause("wait4.2/children-usage-only-after-wait")
@lie(BURNS_ELSEWHERE)
def test_a_childs_usage_is_counted_once_it_was_waited_for(parent: Process) -> None:
    child = parent.fork()
    child.burn(BURNT)
    child.exit()
    assert processor_time(parent.sys.getrusage(RUSAGE_CHILDREN)) == 0
    parent.sys.wait4(child.own_pid)
    assert processor_time(parent.sys.getrusage(RUSAGE_CHILDREN)) > LITTLE


@clause("wait4.2/sigchld-ignored-usage-not-counted")
@lie(leaves_out("rt_sigaction"))
def test_with_sigchld_ignored_a_childs_usage_is_not_counted(parent: Process) -> None:
    parent.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    child = parent.fork()
    child.burn(BURNT)
    child.exit()
    with fails(ECHILD):
        parent.sys.wait4(child.own_pid)
    assert processor_time(parent.sys.getrusage(RUSAGE_CHILDREN)) == 0
