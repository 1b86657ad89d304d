"""Scheduling of a child, a thread and a new image: sched(7), sched_setaffinity(2) and ioprio_set(2)."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, by_any_copy, by_any_process
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_IO,
    EPERM,
    IOPRIO_CLASS_BE,
    IOPRIO_CLASS_SHIFT,
    IOPRIO_WHO_PROCESS,
    PRIO_PROCESS,
    SCHED_BATCH,
    SCHED_FIFO,
    SCHED_FLAG_RESET_ON_FORK,
    SCHED_IDLE,
    SCHED_OTHER,
    SCHED_RESET_ON_FORK,
    SCHED_RR,
)
from pytest_procsemantics.driven.forms import SchedAttr
from pytest_procsemantics.lies import (
    adds,
    by_maker_too,
    in_child,
    in_image,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import become_nicer, lose_capabilities

ALL_CPUS = range(8192)
MILLISECOND = 10**6  # nanoseconds
LOW, HIGH = (IOPRIO_CLASS_BE << IOPRIO_CLASS_SHIFT | level for level in (7, 0))

NO_RESET = passes(
    "the flag is not set",
    "sched_setscheduler",
    1,
    lambda policy: policy & ~SCHED_RESET_ON_FORK,
)


# --- policies ---


def is_nicer(process: Process) -> None:
    """Be as nice as can be, which everybody may."""
    process.sys.setpriority(PRIO_PROCESS, 0, 19)


def has(process: Process) -> tuple[int, int]:
    """Its policy and its niceness."""
    return process.sys.sched_getscheduler(0), process.sys.getpriority()


@by_any_copy("sched.7/policy-and-parameters-inherited")
@lie(in_child("it is nicer", is_nicer))
@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(SCHED_BATCH, id="batch"),
        pytest.param(SCHED_IDLE, id="idle"),
        pytest.param(SCHED_OTHER, id="other"),
    ],
)
def test_policy_and_niceness_are_inherited(parent: Process, make: Make, policy: int) -> None:
    nice = become_nicer(parent)
    parent.sys.sched_setscheduler(0, policy)
    assert has(make(parent)) == has(parent) == (policy, nice)


@clause("sched.7/policy-kept-over-exec")
@lie(in_image("it is nicer", is_nicer))
def test_policy_and_niceness_stay_over_exec(parent: Process) -> None:
    nice = become_nicer(parent)
    parent.sys.sched_setscheduler(0, SCHED_BATCH)
    parent.execve()
    assert has(parent) == (SCHED_BATCH, nice)


@by_any_copy("sched.7/slice-inherited")
@lie(in_child("it begins anew", lambda child: child.sys.sched_setattr(0, SchedAttr(SCHED_OTHER))))
def test_a_requested_slice_is_inherited(parent: Process, make: Make) -> None:
    parent.sys.sched_setattr(0, SchedAttr(SCHED_OTHER, runtime=5 * MILLISECOND))
    assert parent.sys.sched_getattr().runtime == 5 * MILLISECOND
    assert make(parent).sys.sched_getattr().runtime == 5 * MILLISECOND


# --- reset on fork ---


@by_any_copy("sched.7/reset-on-fork-realtime-becomes-other")
@lie(NO_RESET)
@pytest.mark.parametrize(
    "policy", [pytest.param(SCHED_FIFO, id="fifo"), pytest.param(SCHED_RR, id="rr")]
)
def test_with_the_flag_a_real_time_policy_is_not_inherited(
    parent: Process, make: Make, policy: int
) -> None:
    parent.sys.sched_setscheduler(0, policy | SCHED_RESET_ON_FORK, 5)
    child = make(parent)
    assert (parent.sys.sched_getattr().policy, parent.sys.sched_getparam()) == (policy, 5)
    assert (child.sys.sched_getattr().policy, child.sys.sched_getparam()) == (SCHED_OTHER, 0)


@by_any_copy("sched.7/reset-on-fork-negative-nice-becomes-zero")
@lie(NO_RESET)
def test_with_the_flag_a_negative_niceness_is_not_inherited(parent: Process, make: Make) -> None:
    parent.sys.setpriority(PRIO_PROCESS, 0, -5)
    parent.sys.sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK)
    child = make(parent)
    assert (parent.sys.getpriority(), child.sys.getpriority()) == (-5, 0)


@by_any_copy("sched.7/reset-on-fork-positive-nice-stays")
@lie(in_child("it is nicer", is_nicer))
def test_with_the_flag_a_positive_niceness_is_inherited(parent: Process, make: Make) -> None:
    nice = max(1, become_nicer(parent))
    parent.sys.setpriority(PRIO_PROCESS, 0, nice)
    parent.sys.sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK)
    child = make(parent)
    assert (parent.sys.getpriority(), child.sys.getpriority()) == (nice, nice)


@by_any_copy("sched.7/reset-on-fork-batch-and-idle-stay")
@lie(in_child("it is another", lambda child: child.sys.sched_setscheduler(0, SCHED_IDLE)))
def test_with_the_flag_an_ordinary_policy_is_inherited(parent: Process, make: Make) -> None:
    parent.sys.sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK)
    assert make(parent).sys.sched_getscheduler(0) == SCHED_BATCH


def sets_flag(process: Process) -> None:
    """Have the flag too."""
    process.sys.sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK)


@by_any_copy("sched.7/reset-on-fork-flag-cleared-in-child")
@lie(in_child("it is inherited", sets_flag))
def test_the_child_does_not_have_the_flag(parent: Process, make: Make) -> None:
    sets_flag(parent)
    child = make(parent)
    assert parent.sys.sched_getscheduler(0) == SCHED_OTHER | SCHED_RESET_ON_FORK
    assert child.sys.sched_getscheduler(0) == SCHED_OTHER
    assert child.sys.sched_getattr().flags == 0


@clause("sched.7/reset-on-fork-flag-kept-over-exec")
@lie(NO_RESET)
def test_the_flag_stays_over_exec(parent: Process) -> None:
    sets_flag(parent)
    parent.execve()
    assert parent.sys.sched_getattr().flags == SCHED_FLAG_RESET_ON_FORK


@clause("sched.7/reset-on-fork-flag-not-clearable")
@lie(NO_RESET)
def test_without_privilege_the_flag_is_not_cleared(parent: Process) -> None:
    sets_flag(parent)
    lose_capabilities(parent, "SYS_NICE")
    with fails(EPERM):
        parent.sys.sched_setscheduler(0, SCHED_OTHER)
    sets_flag(parent)
    assert parent.sys.sched_getattr().flags == SCHED_FLAG_RESET_ON_FORK


# --- autogroups ---


def autogroup(process: Process) -> bytes:
    """The name of a process's autogroup (proc(5))."""
    return Observer(process).read("/proc/self/autogroup").split()[0]


@by_any_copy("sched.7/autogroup-inherited")
@lie(in_child("it begins another", lambda child: child.sys.setsid()))
def test_a_child_is_in_the_parents_autogroup(parent: Process, make: Make) -> None:
    assert autogroup(make(parent)) == autogroup(parent)


@clause("sched.7/autogroup-new-by-setsid")
@lie(leaves_out("setsid"))
def test_a_new_session_is_a_new_autogroup(parent: Process) -> None:
    child = parent.fork()
    child.sys.setsid()
    assert autogroup(child) != autogroup(parent)


# --- processors ---


def may_run_anywhere(process: Process) -> None:
    """Have every processor in the mask that there is."""
    process.sys.sched_setaffinity(0, ALL_CPUS)


@by_any_process("sched_setaffinity.2/fork-inherits-mask")
@lie(in_child("it may run anywhere", may_run_anywhere))
def test_a_child_has_its_makers_mask(parent: Process, make: Make) -> None:
    may_run_anywhere(parent)
    last = max(parent.sys.sched_getaffinity())
    parent.sys.sched_setaffinity(0, {last})
    assert make(parent).sys.sched_getaffinity() == {last}


@clause("sched_setaffinity.2/new-thread-inherits-mask")
@lie(in_child("it may run anywhere", may_run_anywhere))
def test_a_thread_has_its_makers_mask(parent: Process) -> None:
    may_run_anywhere(parent)
    last = max(parent.sys.sched_getaffinity())
    maker = parent.thread("maker")
    maker.sys.sched_setaffinity(0, {last})
    assert maker.thread().sys.sched_getaffinity() == {last}


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            Process.fork, id="fork", marks=clause("sched_setaffinity.2/childs-change-leaves-parent")
        ),
        pytest.param(
            Process.thread, id="thread", marks=clause("sched_setaffinity.2/mask-is-per-thread")
        ),
    ],
)
@lie(by_maker_too("sched_setaffinity"))
def test_a_childs_or_threads_mask_is_its_own(parent: Process, make: Make) -> None:
    may_run_anywhere(parent)
    everywhere = parent.sys.sched_getaffinity()
    other = make(parent)
    other.sys.sched_setaffinity(0, {max(everywhere)})
    assert other.sys.sched_getaffinity() == {max(everywhere)}
    assert parent.sys.sched_getaffinity() == everywhere


# --- input and output ---


def io_priority(process: Process) -> int:
    """The I/O priority of a process or thread."""
    return int(process.sys.ioprio_get(IOPRIO_WHO_PROCESS, 0))


def set_io_priority(process: Process, priority: int) -> None:
    """Set it."""
    process.sys.ioprio_set(IOPRIO_WHO_PROCESS, 0, priority)


@by_any_process("ioprio_set.2/fork-child-starts-with-parents-priority")
@lie(in_child("it begins with another", lambda child: set_io_priority(child, HIGH)))
def test_a_child_begins_with_its_makers_io_priority(parent: Process, make: Make) -> None:
    set_io_priority(parent, LOW)
    assert io_priority(make(parent)) == LOW


@clause("ioprio_set.2/threads-do-not-share-context")
@lie(adds(CLONE_IO))
def test_a_threads_io_priority_is_its_own(parent: Process) -> None:
    set_io_priority(parent, LOW)
    thread = parent.thread()
    set_io_priority(thread, HIGH)
    assert (io_priority(parent), io_priority(thread)) == (LOW, HIGH)


@clause("ioprio_set.2/exec-keeps-priority")
@lie(in_image("exec changes it", lambda image: set_io_priority(image, HIGH)))
def test_the_io_priority_stays_over_exec(parent: Process) -> None:
    set_io_priority(parent, LOW)
    parent.execve()
    assert io_priority(parent) == LOW
