"""fork(2): signals, timers and the use of resources."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, like_fork, like_fork_and_vfork
from pytest_procsemantics.driven import Step, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLOCK_MONOTONIC,
    CLOCK_PROCESS_CPUTIME_ID,
    CLONE_SIGHAND,
    CLONE_SYSVSEM,
    CLONE_THREAD,
    CLONE_VM,
    EINVAL,
    GETVAL,
    ITIMER_PROF,
    ITIMER_REAL,
    ITIMER_VIRTUAL,
    O_WRONLY,
    PR_GET_PDEATHSIG,
    PR_GET_TIMERSLACK,
    PR_SET_PDEATHSIG,
    PR_SET_TIMERSLACK,
    RUSAGE_CHILDREN,
    SA_NODEFER,
    SEM_UNDO,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIG_SETMASK,
    SIGALRM,
    SIGCHLD,
    SIGEV_NONE,
    SIGHUP,
    SIGRTMIN,
    SIGUSR1,
    SIGUSR2,
)
from pytest_procsemantics.driven.forms.timers import Timer, TimerEvent
from pytest_procsemantics.lies import HANDLERS_SWAPPED, allocations, every_child, in_child, lie

IS_THREAD = every_child(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)
SHARES_HANDLERS = every_child(CLONE_VM | CLONE_SIGHAND | SIGCHLD)
MIB = 1 << 20
BURNT = 0.025  # seconds: two ticks and more of the clocks that count in hundredths, as times(2) does for each mode


# --- signals ---


def raises_again(child: Process) -> None:
    """Have the maker's signals pending in the child too."""
    child.sys.kill(child.own_pid, SIGUSR1)
    child.sys.tgkill(child.own_pid, child.tid, SIGRTMIN)


@like_fork_and_vfork("fork.2/pending-signals-cleared")
@lie(in_child("pending signals are copied", raises_again))
def test_the_child_has_no_pending_signals(parent: Process, make: Make) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1, SIGRTMIN})
    parent.sys.kill(parent.own_pid, SIGUSR1)
    parent.sys.tgkill(parent.own_pid, parent.tid, SIGRTMIN)
    assert parent.sys.rt_sigpending() == {SIGUSR1, SIGRTMIN}
    child = make(parent)
    assert child.sys.rt_sigpending() == frozenset()
    child.exit()
    assert parent.sys.rt_sigpending() == {SIGUSR1, SIGRTMIN}


def resets_dispositions(child: Process) -> None:
    """Begin with the default for each signal, as a new image does."""
    child.sys.rt_sigaction(SIGUSR1, SIG_DFL)
    child.sys.rt_sigaction(SIGUSR2, SIG_DFL)


@like_fork_and_vfork("fork.2/dispositions-are-copied")
@lie(in_child("dispositions are reset", resets_dispositions), SHARES_HANDLERS)
def test_the_child_has_a_copy_of_the_dispositions(parent: Process, make: Make) -> None:
    parent.count_signals(SIGUSR1, flags=SA_NODEFER, mask={SIGHUP})
    parent.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    handled, ignored = parent.sys.rt_sigaction(SIGUSR1), parent.sys.rt_sigaction(SIGUSR2)
    child = make(parent)
    assert child.sys.rt_sigaction(SIGUSR1) == handled
    assert child.sys.rt_sigaction(SIGUSR2, SIG_DFL) == ignored
    child.exit()
    assert parent.sys.rt_sigaction(SIGUSR2) == ignored


@like_fork_and_vfork("fork.2/signal-mask-is-copied")
@lie(in_child("nothing is blocked", lambda child: child.sys.rt_sigprocmask(SIG_SETMASK, set())))
def test_the_child_has_a_copy_of_the_mask(parent: Process, make: Make) -> None:
    parent.sys.rt_sigprocmask(SIG_SETMASK, {SIGUSR1})
    child = make(parent)
    assert child.sys.rt_sigprocmask(SIG_SETMASK, {SIGUSR2}) == {SIGUSR1}
    child.exit()
    assert parent.sys.rt_sigprocmask() == {SIGUSR1}


@like_fork_and_vfork("fork.2/pdeathsig-reset")
@lie(in_child("it stays", lambda child: child.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)))
def test_the_parent_death_signal_is_cleared(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_PDEATHSIG, SIGUSR1)
    assert make(parent).sys.prctl(PR_GET_PDEATHSIG) == 0


@clause("fork.2/raise-after-fork-in-handler")
@lie(HANDLERS_SWAPPED)
def test_a_raise_is_the_childs_whom_a_handler_forked(program: Process) -> None:
    lib = program.lib
    lib.signal(SIGUSR2, lib.handler(3, "_exit", 5))
    lib.pthread_atfork(0, 0, lib.handler(2, "raise", SIGUSR2))
    lib.signal(SIGUSR1, lib.handler(1, "fork"))
    lib.raw("raise", SIGUSR1)
    ended = program.sys.wait4()
    assert ended.status == 5 << 8
    lib.signal(SIGUSR1, lib.handler(4))
    lib.raw("raise", SIGUSR1)
    assert [(note.handler, note.tid) for note in lib.notes()] == [
        (1, program.tid),
        (2, ended.pid),
        (3, ended.pid),
        (4, program.tid),
    ]


# --- timers ---


def sets_timers(child: Process) -> None:
    """Set what the maker has set."""
    for which in (ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL):
        child.sys.setitimer(which, 1000)


@like_fork_and_vfork("fork.2/setitimer-not-inherited")
@lie(in_child("interval timers are copied", sets_timers), IS_THREAD)
@pytest.mark.parametrize(
    "which",
    [
        pytest.param(ITIMER_PROF, id="prof"),
        pytest.param(ITIMER_REAL, id="real"),
        pytest.param(ITIMER_VIRTUAL, id="virtual"),
    ],
)
def test_the_child_has_no_interval_timer(parent: Process, make: Make, which: int) -> None:
    parent.sys.setitimer(which, 1000)
    child = make(parent)
    assert child.sys.getitimer(which) == Timer(0)
    child.exit()
    assert parent.sys.getitimer(which).value > 0


@like_fork_and_vfork("fork.2/alarm-not-inherited")
@lie(in_child("the alarm is copied", lambda child: child.sys.alarm(1000)), IS_THREAD)
def test_the_child_has_no_alarm(parent: Process, make: Make) -> None:
    parent.sys.alarm(1000)
    child = make(parent)
    assert child.sys.alarm(0) == 0
    child.exit()
    assert parent.sys.alarm(0) > 0


@like_fork_and_vfork("fork.2/posix-timers-not-inherited")
@lie(IS_THREAD)
def test_the_child_has_no_timers_of_timer_create(parent: Process, make: Make) -> None:
    timer = parent.sys.timer_create(CLOCK_MONOTONIC, TimerEvent(SIGEV_NONE))
    child = make(parent)
    with fails(EINVAL):
        child.sys.timer_gettime(timer)
    child.exit()
    assert parent.sys.timer_gettime(timer) == Timer(0)


@like_fork("fork.2/childs-alarm-leaves-parent")
@lie(every_child(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD))
def test_a_timer_of_the_child_is_the_childs_alone(parent: Process, make: Make) -> None:
    child = make(parent)
    parent.count_signals(SIGALRM)
    child.sys.setitimer(ITIMER_REAL, 0.02)
    assert child.wait_for_exit().signal == SIGALRM
    assert parent.count(SIGALRM) == 0
    assert parent.sys.getitimer(ITIMER_REAL) == Timer(0)


@like_fork_and_vfork("fork.2/timer-slack-default-is-parents-current")
@lie(in_child("slack is reset", lambda child: child.sys.prctl(PR_SET_TIMERSLACK, 50000)))
def test_the_childs_timer_slack_is_the_parents_current_one(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_TIMERSLACK, 123456)
    child = make(parent)
    assert child.sys.prctl(PR_GET_TIMERSLACK) == 123456
    child.sys.prctl(PR_SET_TIMERSLACK, 1)
    child.sys.prctl(PR_SET_TIMERSLACK, 0)
    assert child.sys.prctl(PR_GET_TIMERSLACK) == 123456


# --- use of resources ---


@like_fork_and_vfork("fork.2/rusage-reset")
@lie(IS_THREAD)
def test_the_childs_use_of_resources_begins_anew(parent: Process, make: Make) -> None:
    parent.pages(200)
    parent.burn(BURNT)
    before = parent.sys.getrusage()
    child = make(parent).sys.getrusage()
    assert child.utime + child.stime < before.utime + before.stime
    assert child.minflt <= before.minflt // 2


def reaps_a_child(child: Process) -> None:
    """Have a child that used the processor and was waited for."""
    if child.name == "child":
        grandchild = child.fork("grandchild")
        grandchild.burn(BURNT)
        grandchild.exit()
        grandchild.wait_for_exit()


@like_fork("fork.2/rusage-children-reset")
@lie(in_child("the use by waited-for children is copied", reaps_a_child))
def test_the_use_by_waited_for_children_begins_anew(parent: Process, make: Make) -> None:
    sibling = parent.fork("sibling")
    sibling.burn(BURNT)
    sibling.exit()
    sibling.wait_for_exit()
    before = parent.sys.getrusage(RUSAGE_CHILDREN)
    assert before.utime + before.stime > 0
    assert set(make(parent).sys.getrusage(RUSAGE_CHILDREN)) == {0}


@like_fork_and_vfork("fork.2/times-reset")
@lie(IS_THREAD)
def test_the_childs_processor_times_begin_anew(parent: Process, make: Make) -> None:
    parent.burn(BURNT)
    before = parent.sys.times()
    child = make(parent).sys.times()
    assert child.user + child.system < before.user + before.system
    assert (child.children_user, child.children_system) == (0, 0)


@like_fork_and_vfork("fork.2/process-cpu-clock-reset")
@lie(IS_THREAD)
def test_the_childs_processor_clock_begins_anew(parent: Process, make: Make) -> None:
    parent.burn(BURNT)
    assert make(parent).sys.clock_gettime(CLOCK_PROCESS_CPUTIME_ID) < BURNT


def begins_small(child: Process) -> None:
    """Forget the largest size: by what lets the kernel forget it (proc(5), clear_refs)."""
    for start, size in allocations(child):
        child.sys.munmap(start, size)
    fd = child.sys.openat(AT_FDCWD, "/proc/self/clear_refs", O_WRONLY)
    child.sys.write(fd, b"5")
    child.sys.close(fd)


@like_fork("fork.2/maxrss-starts-with-shared-pages")
@lie(in_child("the largest size begins at zero", begins_small))
def test_the_childs_largest_size_begins_with_what_it_shares(parent: Process, make: Make) -> None:
    start = parent.allocate(16 * MIB)
    parent.sys.read(parent.sys.openat(AT_FDCWD, "/dev/zero"), start, 16 * MIB)
    assert make(parent).sys.getrusage().maxrss > 8 * 1024
    parent.sys.munmap(start, 16 * MIB)
    assert make(parent).sys.getrusage().maxrss < 8 * 1024 < parent.sys.getrusage().maxrss


def undoes_too(child: Process) -> None:
    """Adjust as much at the child's end as at its maker's, and leave the value as it is."""
    steps = [event for event in child.target.transcript.events if isinstance(event, Step)]
    for semaphore in {step.result for step in steps if step.name == "semget"}:
        child.sys.semop(semaphore, (0, 2, SEM_UNDO))
        child.sys.semop(semaphore, (0, -2))


@clause("fork.2/semaphore-adjustments-not-inherited")
@lie(in_child("adjustments are copied", undoes_too), every_child(CLONE_SYSVSEM | SIGCHLD))
def test_the_childs_end_undoes_nothing_and_the_parents_does(
    parent: Process, semaphore: int
) -> None:
    worker = parent.fork("worker")
    worker.sys.semop(semaphore, (0, 2, SEM_UNDO))
    child = worker.fork()
    child.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 2
    worker.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 0
