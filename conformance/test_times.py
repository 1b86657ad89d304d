"""Use of the processor by children: times(2) and clock_getcpuclockid(3)."""

from __future__ import annotations

import struct

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Out, fails
from pytest_procsemantics.driven.constants import (
    EINVAL,
    ESRCH,
    P_PID,
    SIGSTOP,
    WSTOPPED,
)
from pytest_procsemantics.lies import (
    ENDED_CHILDREN_VANISH,
    before_call,
    function_given,
    function_reports,
    lie,
    passes,
)

BURNT = 0.045  # seconds: four ticks and more
A_LITTLE = 0.001  # seconds
TICK = 0.01  # seconds, of what times(2) counts in


def of_children(process: Process) -> float:
    """Seconds that children used who were waited for."""
    told = process.sys.times()
    return float(told.children_user + told.children_system) * TICK


def clock_of(pid: int) -> int:
    """The clock of what a process uses of the processor (linux/posix-timers.h, CPUCLOCK_SCHED)."""
    return ~pid << 3 | 2


@clause("times.2/children-added-at-wait")
@lie(ENDED_CHILDREN_VANISH)
def test_a_childs_times_are_added_when_it_is_waited_for(
    parent: Process, observer: Observer
) -> None:
    child = parent.fork()
    child.burn(BURNT)
    child.exit()
    observer.wait_for_state(child, "Z")
    assert of_children(parent) == 0
    child.wait_for_exit()
    assert of_children(parent) > 0


@clause("times.2/unwaited-grandchildren-never-seen")
@lie(before_call("exit_group", "it waits", lambda one: one.name == "child" and one.sys.wait4()))
def test_times_of_grandchildren_whom_nobody_awaited_are_not_added(parent: Process) -> None:
    child = parent.fork()
    grandchild = child.fork("grandchild")
    grandchild.burn(BURNT)
    grandchild.exit()
    own = child.sys.times()
    child.exit()
    child.wait_for_exit()
    assert of_children(parent) < (own.user + own.system + 3) * TICK


# --- clocks ---


@clause("clock_getcpuclockid.3/clock-of-zombie-readable")
@lie(ENDED_CHILDREN_VANISH)
def test_the_clock_of_a_zombie_can_be_read(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.burn(A_LITTLE)
    child.exit()
    observer.wait_for_state(child, "Z")
    assert parent.sys.clock_gettime(clock_of(child.own_pid)) >= A_LITTLE


def clock_by_library(program: Process, child: Process) -> int:
    """The clock of a child, as the library finds it."""
    _, clock = program.lib.clock_getcpuclockid(child.own_pid, Out(4))
    return int(struct.unpack("<i", clock)[0])


@clause("clock_getcpuclockid.3/clock-of-child")
@lie(function_given("it is the caller's", "clock_getcpuclockid", 0, 0))
def test_the_clock_of_a_child_goes_when_the_child_runs(program: Process) -> None:
    child = program.lib.fork()
    clock = clock_by_library(program, child)
    before = program.sys.clock_gettime(clock)
    child.burn(A_LITTLE)
    assert program.sys.clock_gettime(clock) > before
    program.sys.kill(child.own_pid, SIGSTOP)
    program.sys.waitid(P_PID, child.own_pid, WSTOPPED)
    stopped = program.sys.clock_gettime(clock)
    assert program.sys.clock_gettime(clock) == stopped > before


@clause("clock_getcpuclockid.3/esrch-after-reaping")
@lie(function_reports("it gives 0", "clock_getcpuclockid", lambda _: 0))
def test_who_was_reaped_has_no_clock(program: Process) -> None:
    child = program.lib.fork()
    child.exit()
    child.wait_for_exit()
    assert program.lib.clock_getcpuclockid(child.own_pid, Out(4))[0] == ESRCH


@clause("clock_getcpuclockid.3/clock-dies-with-process")
@lie(passes("it is the caller's", "clock_gettime", 0, lambda clock: 2 if clock < 0 else clock))
def test_the_clock_ends_with_the_process(program: Process) -> None:
    child = program.lib.fork()
    clock = clock_by_library(program, child)
    assert program.sys.clock_gettime(clock) >= 0
    child.exit()
    child.wait_for_exit()
    with fails(EINVAL):
        program.sys.clock_gettime(clock)
