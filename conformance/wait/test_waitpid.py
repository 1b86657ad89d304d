"""wait(2): waitpid(2), by wait4(2): which child it waits for, until when, and for what change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    ECHILD,
    EINTR,
    P_PID,
    PTRACE_TRACEME,
    SA_RESTART,
    SIGCONT,
    SIGKILL,
    SIGRTMIN,
    SIGSTOP,
    SIGUSR1,
    WCONTINUED,
    WNOHANG,
    WNOWAIT,
    WSTOPPED,
    WUNTRACED,
)
from pytest_procsemantics.driven.step import Step
from pytest_procsemantics.lies import (
    ENDED_CHILDREN_VANISH,
    EXEC_DOES_NOTHING,
    Lie,
    function_becomes,
    in_child,
    leaves_out,
    lie,
    passes,
    reports,
)

STOPPED = 0x7F  # the low byte of the status of a stopped child
RESUMED = 0xFFFF

ANY_CHILD = passes("wait4 takes any child", "wait4", 0, -1)
OWN_GROUP = passes("wait4 takes a child of the own group", "wait4", 0, 0)
NO_KILL = leaves_out("kill", hangs=True)


def without(option: int, name: str) -> Lie:
    """wait4 does as if an option were not there."""
    return passes(f"wait4 drops {name}", "wait4", 2, lambda options: options & ~option, hangs=True)


class RestartsOtherwise(Process):
    """Sets SA_RESTART where the check doesn't, and the other way round."""

    def count_signals(self, *signals: int, flags: int = 0, mask: Iterable[int] = ()) -> None:
        super().count_signals(*signals, flags=flags ^ SA_RESTART, mask=mask)


RESTARTS_OTHERWISE = Lie("SA_RESTART does the contrary", RestartsOtherwise, hangs=True)


class StopsAgain(Process):
    """Stops a child anew once a wait has taken its stop."""

    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        step = super().ask_call(name, number, args, decode)
        if name == "wait4":
            self.post.sys.kill(args[0], SIGCONT)
            self.post.sys.kill(args[0], SIGSTOP)
            self.post.sys.waitid(P_PID, args[0], WSTOPPED | WNOWAIT)  # until it has
        return step


@clause("wait.2/waits-for-state-change")
@lie(NO_KILL)
def test_a_stop_a_resumption_and_the_end_are_reported(parent: Process) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    assert parent.sys.wait4(child.own_pid, WUNTRACED).status == SIGSTOP << 8 | STOPPED
    parent.sys.kill(child.own_pid, SIGCONT)
    assert parent.sys.wait4(child.own_pid, WCONTINUED).status == RESUMED
    child.exit(5)
    assert parent.sys.wait4(child.own_pid).status == 5 << 8


@clause("wait.2/returns-at-once-when-changed")
@lie(ENDED_CHILDREN_VANISH)
def test_the_wait_for_an_ended_child_returns_at_once(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    assert parent.sys.wait4(child.own_pid, WNOHANG).pid == child.own_pid


@clause("wait.2/blocks-until-change")
@lie(leaves_out("exit_group", hangs=True), passes("wait4 gets WNOHANG", "wait4", 2, WNOHANG))
def test_wait_blocks_until_the_child_changes_state(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    answer = parent.post.sys.wait4(child.own_pid)
    observer.wait_for_state(parent, "S")
    child.sys.getppid()
    assert not answer.ready
    child.exit(6)
    assert answer.arrives().status == 6 << 8


@clause("wait.2/blocks-until-signal")
@lie(RESTARTS_OTHERWISE)
def test_a_handled_signal_interrupts_a_wait(parent: Process, observer: Observer) -> None:
    parent.count_signals(SIGUSR1)
    child = parent.fork()
    answer = parent.post.sys.wait4(child.own_pid)
    observer.wait_for_state(parent, "S")
    child.sys.kill(parent.own_pid, SIGUSR1)
    with fails(EINTR):
        answer.arrives()
    assert parent.count(SIGUSR1) == 1


@clause("wait.2/restarts-with-sa-restart")
@lie(RESTARTS_OTHERWISE)
def test_with_sa_restart_the_wait_goes_on(
    parent: Process, target: Target, observer: Observer
) -> None:
    parent.count_signals(SIGUSR1, flags=SA_RESTART)
    child = parent.fork()
    thread = parent.thread()
    answer = parent.post.sys.wait4(child.own_pid)
    observer.wait_for_state(parent, "S")
    child.sys.tgkill(parent.own_pid, parent.tid, SIGUSR1)
    target.wait_until(lambda: thread.count(SIGUSR1) == 1, "the handler to run")
    observer.wait_for_state(parent, "S")
    assert not answer.ready
    child.exit(4)
    assert answer.arrives().status == 4 << 8


@clause("wait.2/waitable-child-stays-until-waited")
@lie(ENDED_CHILDREN_VANISH)
def test_a_child_that_ended_long_ago_is_still_reported(parent: Process) -> None:
    first, second, third = parent.fork("first"), parent.fork("second"), parent.fork("third")
    first.exit(1)
    second.exit(2)
    third.exit(3)
    assert parent.sys.wait4(third.own_pid).status == 3 << 8
    assert parent.sys.wait4(second.own_pid).status == 2 << 8
    assert parent.sys.wait4(first.own_pid)[:2] == (first.own_pid, 1 << 8)


@clause("wait.2/blocked-wait-survives-exec-by-thread")
@lie(EXEC_DOES_NOTHING)
def test_a_wait_goes_on_when_a_thread_of_the_child_execs(
    parent: Process, observer: Observer
) -> None:
    child = parent.fork()
    thread = child.thread()
    answer = parent.post.sys.wait4(child.own_pid)
    observer.wait_for_state(parent, "S")
    thread.execve()
    assert thread.sys.gettid() == child.own_pid
    assert not answer.ready
    thread.exit(9)
    assert answer.arrives()[:2] == (child.own_pid, 9 << 8)


@clause("wait.2/wait-suspends-calling-thread-only")
@lie(
    in_child(
        "the other thread waits too",
        lambda new: new.name == "thread" and new.post.sys.wait4(-1),
        hangs=True,
    )
)
def test_a_wait_suspends_the_calling_thread_only(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    thread = parent.thread()
    answer = parent.post.sys.wait4(child.own_pid)
    observer.wait_for_state(parent, "S")
    assert thread.sys.getpid() == parent.own_pid
    assert not answer.ready


@clause("wait.2/pid-positive", "wait4.2/like-waitpid")
@lie(ANY_CHILD)
def test_a_positive_pid_is_that_child(parent: Process) -> None:
    first, second = parent.fork("first"), parent.fork("second")
    first.exit()
    second.exit()
    assert parent.sys.wait4(second.own_pid).pid == second.own_pid
    with fails(ECHILD):
        parent.sys.wait4(second.own_pid)


@clause("wait.2/pid-minus-one", "wait4.2/like-waitpid")
@lie(OWN_GROUP)
def test_pid_minus_one_is_any_child(parent: Process) -> None:
    here, elsewhere = parent.fork("here"), parent.fork("elsewhere")
    elsewhere.sys.setpgid(0, 0)
    here.exit()
    elsewhere.exit()
    pids = {parent.sys.wait4(-1).pid, parent.sys.wait4(-1).pid}
    assert pids == {here.own_pid, elsewhere.own_pid}


@clause("wait.2/pid-below-minus-one", "wait4.2/like-waitpid")
@lie(ANY_CHILD)
def test_a_pid_below_minus_one_is_a_group(parent: Process) -> None:
    here, elsewhere = parent.fork("here"), parent.fork("elsewhere")
    elsewhere.sys.setpgid(0, 0)
    here.exit()
    elsewhere.exit()
    assert parent.sys.wait4(-elsewhere.own_pid).pid == elsewhere.own_pid
    with fails(ECHILD):
        parent.sys.wait4(-elsewhere.own_pid)


@clause("wait.2/pid-zero", "wait4.2/like-waitpid")
@lie(ANY_CHILD, leaves_out("setpgid"))
def test_pid_zero_is_the_group_that_the_caller_is_in_now(parent: Process) -> None:
    caller = parent.fork("caller")
    before, after = caller.fork("before"), caller.fork("after")
    caller.sys.setpgid(0, 0)
    after.sys.setpgid(0, caller.own_pid)
    before.exit()
    after.exit()
    assert caller.sys.wait4(0).pid == after.own_pid
    with fails(ECHILD):
        caller.sys.wait4(0)


@clause("wait.2/waitpid-returns-pid")
@lie(reports("wait4 gives the next pid", "wait4", lambda it: it._replace(pid=it.pid + 1)))
def test_waitpid_returns_the_pid_of_the_child_that_changed(parent: Process) -> None:
    lives, ends = parent.fork("lives"), parent.fork("ends")
    answer = parent.post.sys.wait4(-1)
    ends.exit()
    assert answer.arrives().pid == ends.own_pid
    assert lives.sys.getppid() == parent.own_pid


@clause("wait.2/wnohang-returns-zero", "wait.2/accepted-option-has-its-effect")
@lie(in_child("the child ends at once", lambda child: child.exit()))
def test_with_wnohang_waitpid_gives_zero_while_the_child_lives(parent: Process) -> None:
    child = parent.fork()
    assert parent.sys.wait4(child.own_pid, WNOHANG).pid == 0
    assert child.sys.getppid() == parent.own_pid


@clause("wait.2/status-untouched-on-wnohang-zero")
@lie(in_child("the child ends at once", lambda child: child.exit()))
def test_the_status_is_not_written_when_zero_is_returned(parent: Process) -> None:
    child = parent.fork()
    status = Out(4, b"\x77\x66\x55\x44")
    zero = (0, b"\x77\x66\x55\x44")
    assert parent.sys.raw("wait4", child.own_pid, status, WNOHANG, None) == zero


@clause("wait.2/status-may-be-null", "wait4.2/rusage-null")
@lie(passes("wait4 gets a bad status", "wait4", 1, 8), passes("a bad rusage", "wait4", 3, 8))
def test_status_and_usage_may_be_null(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    assert parent.sys.raw("wait4", child.own_pid, None, 0, None) == child.own_pid


@clause("wait.2/wuntraced-reports-stopped", "wait.2/accepted-option-has-its-effect")
@lie(NO_KILL, without(WUNTRACED, "WUNTRACED"))
def test_wuntraced_reports_a_stopped_child(parent: Process) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    waited = parent.sys.wait4(child.own_pid, WUNTRACED)
    assert waited[:2] == (child.own_pid, SIGSTOP << 8 | STOPPED)


@clause("wait.2/no-wuntraced-no-stop")
@lie(passes("wait4 adds WUNTRACED", "wait4", 2, WNOHANG | WUNTRACED))
def test_without_wuntraced_a_stopped_child_is_not_reported(
    parent: Process, observer: Observer
) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    observer.wait_for_state(child, "T")
    assert parent.sys.wait4(child.own_pid, WNOHANG).pid == 0


@clause("wait.2/stop-reported-once")
@lie(Lie("the child stops again", StopsAgain))
def test_one_stop_is_reported_once(parent: Process) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    assert parent.sys.wait4(child.own_pid, WUNTRACED).pid == child.own_pid
    assert parent.sys.wait4(child.own_pid, WUNTRACED | WNOHANG).pid == 0


@clause("wait.2/wuntraced-not-needed-for-traced")
@lie(leaves_out("ptrace"))
def test_the_stop_of_a_traced_child_is_reported_without_wuntraced(parent: Process) -> None:
    child = parent.fork()
    child.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)
    parent.sys.kill(child.own_pid, SIGUSR1)
    waited = parent.sys.wait4(child.own_pid)
    assert waited[:2] == (child.own_pid, SIGUSR1 << 8 | STOPPED)


@clause("wait.2/wcontinued-reports-resumed", "wait.2/accepted-option-has-its-effect")
@lie(NO_KILL, without(WCONTINUED, "WCONTINUED"))
def test_wcontinued_reports_a_resumed_child(parent: Process) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    parent.sys.wait4(child.own_pid, WUNTRACED)
    parent.sys.kill(child.own_pid, SIGCONT)
    assert parent.sys.wait4(child.own_pid, WCONTINUED)[:2] == (child.own_pid, RESUMED)


@clause("wait.2/wifexited")
@lie(passes("exit with another code", "exit_group", 0, 1))
def test_after_exit_the_status_has_the_low_byte_of_the_code(parent: Process) -> None:
    child = parent.fork()
    child.exit(0x1FF)
    assert parent.sys.wait4(child.own_pid).status == 0xFF << 8


@clause("wait.2/wifsignaled")
@lie(NO_KILL)
@pytest.mark.parametrize("signal", [SIGKILL, SIGUSR1, SIGRTMIN], ids=["KILL", "USR1", "RTMIN"])
def test_after_death_by_a_signal_the_status_is_its_number(parent: Process, signal: int) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, signal)
    assert parent.sys.wait4(child.own_pid).status == signal


@clause("wait.2/wait-equals-waitpid-any")
@lie(function_becomes("wait", "waitpid", args=(-2, Out(4), 0)))
def test_wait_is_waitpid_for_any_child(program: Process) -> None:
    first, second = program.lib.fork("first"), program.lib.fork("second")
    first.exit(7)
    waited = program.lib.wait(Out(4))
    second.exit(7)
    assert waited == (first.pid, (7 << 8).to_bytes(4, "little"))
    assert program.lib.waitpid(-1, Out(4), 0) == (second.pid, waited[1])
