"""proc(5): what stat and status say of a new process, a new image and a tracer."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, like_fork
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    ENOTTY,
    P_PID,
    PR_SET_NO_NEW_PRIVS,
    PTRACE_SEIZE,
    SECCOMP_MODE_FILTER,
    SECCOMP_SET_MODE_FILTER,
    SIGCHLD,
    SIGKILL,
    SIGUSR1,
    WEXITED,
    WNOWAIT,
)
from pytest_procsemantics.driven.filters import refusing
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    EXEC_IN_A_CHILD,
    every_child,
    in_child,
    leaves_out,
    lie,
    passes,
    reports,
)

# Of the fields that Observer.stat gives.
GROUP, SESSION, TERMINAL, FOREGROUND, FLAGS = 2, 3, 4, 5, 6
CHILDRENS_FAULTS, CHILDRENS_TIMES, EXIT_SIGNAL = 8, slice(13, 15), 35
FORKNOEXEC = 0x40
TWO_TICKS = 0.02  # seconds
PAGES = 50
MOST_EVER = 1 << 22  # no pid_max is above it on 64-bit Linux

HAS_EXECED = in_child("it has run a program", lambda child: child.execve())


def flags(observer: Observer, process: Process) -> int:
    return int(observer.stat(process)[FLAGS])


def exit_signal(observer: Observer, process: Process) -> int:
    return int(observer.stat(process)[EXIT_SIGNAL])


@clause("proc.5/status-tracer-and-pid-fields")
@lie(leaves_out("ptrace"))
def test_status_names_process_parent_and_tracer(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    thread = child.thread()
    parent.sys.ptrace(PTRACE_SEIZE, thread.tid, 0, 0)
    of_child, of_thread = observer.status(child), observer.status(thread)
    assert (of_child["Tgid"], of_child["Pid"]) == (str(child.pid), str(child.pid))
    assert (of_thread["Tgid"], of_thread["Pid"]) == (str(child.pid), str(thread.tid_seen))
    assert of_child["PPid"] == of_thread["PPid"] == of_thread["TracerPid"] == str(parent.pid)


@clause("proc.5/status-seccomp-and-no-new-privs")
@lie(leaves_out("seccomp"), leaves_out("prctl"))
def test_filters_and_no_new_privs_are_inherited_and_stay(
    parent: Process, observer: Observer
) -> None:
    parent.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    parent.sys.seccomp(SECCOMP_SET_MODE_FILTER, 0, refusing(parent, "getppid", ENOTTY))
    child = parent.fork()
    child.execve()
    assert observer.status_field(child, "NoNewPrivs") == "1"
    assert observer.status_field(child, "Seccomp") == str(SECCOMP_MODE_FILTER)


@like_fork("proc.5/stat-session-group-terminal")
@lie(in_child("it has a session of its own", lambda child: child.sys.setsid()))
def test_session_group_and_terminal_of_a_child_are_the_parents(
    parent: Process, observer: Observer, make: Make
) -> None:
    parent = parent.fork("leader")
    parent.lead_session()
    of_child, of_parent = observer.stat(make(parent)), observer.stat(parent)
    assert of_child[GROUP : FOREGROUND + 1] == of_parent[GROUP : FOREGROUND + 1]
    assert of_parent[TERMINAL] != "0"
    assert of_parent[FOREGROUND] == str(parent.pid)


@clause("proc.5/stat-starttime-new-at-fork-kept-at-exec")
@lie(EXEC_IN_A_CHILD)
def test_the_start_time_is_new_at_fork_and_kept_at_exec(
    parent: Process, observer: Observer
) -> None:
    parent.sys.poll([], TWO_TICKS)
    child = parent.fork()
    before = observer.start_time(child)
    assert before > observer.start_time(parent)
    child.sys.poll([], TWO_TICKS)
    child.execve()
    assert observer.start_time(child) == before


@like_fork("proc.5/stat-flag-forknoexec")
@lie(HAS_EXECED, EXEC_DOES_NOTHING)
def test_flags_tell_that_a_child_has_not_called_exec(
    parent: Process, observer: Observer, make: Make
) -> None:
    child = make(parent)
    assert flags(observer, child) & FORKNOEXEC
    child.execve()
    assert not flags(observer, child) & FORKNOEXEC


@pytest.mark.parametrize(
    ("make", "signal"),
    [
        pytest.param(Process.fork, SIGCHLD, id="fork"),
        pytest.param(lambda maker: maker.clone(SIGUSR1), SIGUSR1, id="clone"),
        pytest.param(Process.thread, -1, id="thread"),
    ],
)
@clause("proc.5/stat-exit-signal")
@lie(every_child(0))
def test_exit_signal_is_the_one_for_the_parent(
    parent: Process, observer: Observer, make: Callable[[Process], Process], signal: int
) -> None:
    assert exit_signal(observer, make(parent)) == signal


@clause("proc.5/stat-exit-signal")
@lie(EXEC_DOES_NOTHING)
def test_exec_makes_exit_signal_sigchld(parent: Process, observer: Observer) -> None:
    child = parent.clone(SIGUSR1)
    child.execve()
    assert exit_signal(observer, child) == SIGCHLD


def childrens(observer: Observer, process: Process) -> tuple[int, int]:
    """The faults and the time of a process's children, in clock ticks."""
    fields = observer.stat(process)
    return int(fields[CHILDRENS_FAULTS]), sum(map(int, fields[CHILDRENS_TIMES]))


@clause("proc.5/stat-children-faults-and-times")
@lie(
    leaves_out("wait4"),
    passes("it is reaped at once", "waitid", 3, lambda options: options & ~WNOWAIT),
)
def test_the_use_by_a_child_counts_when_it_is_waited_for(
    parent: Process, observer: Observer
) -> None:
    child, before = parent.fork(), childrens(observer, parent)
    child.pages(PAGES)
    child.burn(2 * TWO_TICKS)
    parent.sys.kill(child.own_pid, SIGKILL)
    parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOWAIT)
    assert childrens(observer, parent) == before
    parent.sys.wait4(child.own_pid)
    faults, time = childrens(observer, parent)
    assert faults >= before[0] + PAGES
    assert time > before[1]


def number_of_short_lived(new: Process) -> int:
    """The number of a new process or thread, which ends."""
    number = int(new.sys.gettid())
    new.exit_thread()
    return number


@pytest.mark.parametrize(
    "make", [pytest.param(Process.fork, id="fork"), pytest.param(Process.thread, id="thread")]
)
@clause("proc.5/pid-max-bounds-ids")
@lie(reports("numbers are beyond it", "gettid", lambda number: number + MOST_EVER))
def test_every_number_is_below_pid_max(parent: Process, observer: Observer, make: Make) -> None:
    numbers = [number_of_short_lived(make(parent)) for _ in range(50)]
    assert min(numbers) > 1
    assert max(numbers) < int(observer.read("/proc/sys/kernel/pid_max"))
