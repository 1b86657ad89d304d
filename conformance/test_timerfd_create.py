"""Timers that are descriptors: timerfd_create(2)."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven.constants import CLOCK_MONOTONIC
from pytest_procsemantics.lies import in_child, lie

TIMER = 99


def make_a_timer(process: Process) -> None:
    process.sys.dup2(process.sys.timerfd_create(CLOCK_MONOTONIC, 0), TIMER)


@clause("timerfd_create.2/fork-shares-timer-object")
@lie(in_child("a child has a timer of its own", make_a_timer))
def test_the_child_sets_the_timer_of_both(parent: Process) -> None:
    make_a_timer(parent)
    child = parent.fork()
    child.sys.timerfd_settime(TIMER, 1000, interval=7)
    assert parent.sys.timerfd_gettime(TIMER).interval == 7
