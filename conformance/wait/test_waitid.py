"""wait(2): waitid(2): which child, for what change, and what it tells of it."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.call import Out
from pytest_procsemantics.driven.constants import (
    CLD_CONTINUED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    CLD_TRAPPED,
    EAGAIN,
    ECHILD,
    P_ALL,
    P_PGID,
    P_PID,
    P_PIDFD,
    PIDFD_NONBLOCK,
    PTRACE_TRACEME,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    SIGUSR1,
    WALL,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOWAIT,
    WSTOPPED,
)
from pytest_procsemantics.lies import Lie, in_child, leaves_out, lie, passes, reports

SIGINFO_BYTES = 128

ANY_CHILD = passes("waitid takes any child", "waitid", 0, P_ALL)
ENDS_AT_ONCE = in_child("the child ends at once", lambda child: child.exit())
NO_KILL = leaves_out("kill", hangs=True)


def adds_option(option: int, name: str) -> Lie:
    """waitid does as if an option were there."""
    return passes(f"waitid adds {name}", "waitid", 3, lambda options: options | option)


def drops_option(option: int, name: str) -> Lie:
    """waitid does as if an option were not there."""
    return passes(
        f"waitid drops {name}", "waitid", 3, lambda options: options & ~option, hangs=True
    )


def tells(**fields: int) -> Lie:
    """waitid tells something else of the child."""
    name = f"waitid tells {', '.join(fields)} wrongly"
    return reports(name, "waitid", lambda info: info and info._replace(**fields))


@clause("wait.2/p-pid")
@lie(ANY_CHILD)
def test_p_pid_is_the_child_with_that_id(parent: Process) -> None:
    first, second = parent.fork("first"), parent.fork("second")
    first.exit()
    second.exit()
    assert parent.sys.waitid(P_PID, second.own_pid, WEXITED).pid == second.own_pid
    assert parent.sys.waitid(P_PID, first.own_pid, WEXITED).pid == first.own_pid


@clause("wait.2/p-pgid")
@lie(ANY_CHILD)
def test_p_pgid_is_a_child_in_the_group(parent: Process) -> None:
    here, elsewhere = parent.fork("here"), parent.fork("elsewhere")
    elsewhere.sys.setpgid(0, 0)
    here.exit()
    elsewhere.exit()
    assert parent.sys.waitid(P_PGID, elsewhere.own_pid, WEXITED).pid == elsewhere.own_pid
    with fails(ECHILD):
        parent.sys.waitid(P_PGID, elsewhere.own_pid, WEXITED)


@clause("wait.2/p-pgid-zero-own-group")
@lie(ANY_CHILD)
def test_p_pgid_with_id_zero_is_the_callers_group(parent: Process) -> None:
    elsewhere, here = parent.fork("elsewhere"), parent.fork("here")
    elsewhere.sys.setpgid(0, 0)
    elsewhere.exit()
    here.exit()
    assert parent.sys.waitid(P_PGID, 0, WEXITED).pid == here.own_pid
    with fails(ECHILD):
        parent.sys.waitid(P_PGID, 0, WEXITED)


@clause("wait.2/p-pidfd")
@lie(ANY_CHILD)
def test_p_pidfd_is_the_child_of_the_pidfd(parent: Process) -> None:
    first, second = parent.fork("first"), parent.fork("second")
    pidfd = parent.sys.pidfd_open(second.own_pid, 0)
    first.exit()
    second.exit(6)
    ended = parent.sys.waitid(P_PIDFD, pidfd, WEXITED)
    assert (ended.pid, ended.code, ended.status) == (second.own_pid, CLD_EXITED, 6)


@clause("wait.2/p-pidfd-nonblocking")
@lie(passes("the pidfd blocks", "pidfd_open", 1, 0, hangs=True))
def test_a_nonblocking_pidfd_of_a_living_child_gives_eagain(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, PIDFD_NONBLOCK)
    with fails(EAGAIN):
        parent.sys.waitid(P_PIDFD, pidfd, WEXITED)
    child.exit()
    assert parent.sys.waitid(P_PIDFD, pidfd, WEXITED).pid == child.own_pid


@clause("wait.2/p-pidfd-nonblocking-wnohang")
@lie(drops_option(WNOHANG, "WNOHANG"))
def test_a_nonblocking_pidfd_with_wnohang_gives_zero(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, PIDFD_NONBLOCK)
    assert parent.sys.waitid(P_PIDFD, pidfd, WEXITED | WNOHANG) is None


@clause("wait.2/p-all")
@lie(passes("waitid takes the id for a pid", "waitid", 0, P_PID))
def test_p_all_is_any_child_whatever_the_id(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    assert parent.sys.waitid(P_ALL, -5, WEXITED).pid == child.own_pid


@clause("wait.2/wexited", "wait.2/accepted-option-has-its-effect")
@lie(passes("waitid takes no ended child", "waitid", 3, WSTOPPED))
def test_wexited_reports_an_ended_child(parent: Process) -> None:
    child = parent.fork()
    child.exit(3)
    ended = parent.sys.waitid(P_PID, child.own_pid, WEXITED)
    assert (ended.pid, ended.code, ended.status) == (child.own_pid, CLD_EXITED, 3)


@clause("wait.2/no-wexited-ignores-ended")
@lie(adds_option(WEXITED, "WEXITED"))
def test_without_wexited_an_ended_child_is_not_reported(
    parent: Process, observer: Observer
) -> None:
    child = parent.fork()
    child.exit()
    with fails(ECHILD):
        parent.sys.waitid(P_PID, child.own_pid, WSTOPPED | WCONTINUED)
    assert observer.state(child) == "Z"


@clause("wait.2/wstopped", "wait.2/accepted-option-has-its-effect")
@lie(NO_KILL, drops_option(WSTOPPED, "WSTOPPED"))
def test_wstopped_reports_a_stopped_child(parent: Process) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    stopped = parent.sys.waitid(P_PID, child.own_pid, WSTOPPED)
    assert (stopped.pid, stopped.code, stopped.status) == (child.own_pid, CLD_STOPPED, SIGSTOP)


@clause("wait.2/waitid-wcontinued", "wait.2/accepted-option-has-its-effect")
@lie(NO_KILL, drops_option(WCONTINUED, "WCONTINUED"))
def test_wcontinued_reports_a_child_that_goes_on(parent: Process) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    parent.sys.waitid(P_PID, child.own_pid, WSTOPPED)
    answer = child.post.sys.getpid()
    parent.sys.kill(child.own_pid, SIGCONT)
    continued = parent.sys.waitid(P_PID, child.own_pid, WCONTINUED)
    assert (continued.code, continued.status) == (CLD_CONTINUED, SIGCONT)
    assert answer.arrives() == child.own_pid


@clause("wait.2/waitid-wnohang", "wait.2/accepted-option-has-its-effect")
@lie(ENDS_AT_ONCE)
def test_with_wnohang_nothing_is_told_of_a_living_child(parent: Process) -> None:
    child = parent.fork()
    told = Out(SIGINFO_BYTES, b"\xaa" * SIGINFO_BYTES)
    result, info = parent.sys.raw("waitid", P_PID, child.own_pid, told, WEXITED | WNOHANG, None)
    assert (result, info[:12], info[16:28]) == (0, bytes(12), bytes(12))


@clause("wait.2/wnowait-leaves-waitable", "wait.2/accepted-option-has-its-effect")
@lie(passes("waitid drops WNOWAIT", "waitid", 3, lambda options: options & ~WNOWAIT))
def test_wnowait_leaves_the_child_waitable(parent: Process) -> None:
    child = parent.fork()
    child.exit(8)
    peeked = parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOWAIT)
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED) == peeked
    with fails(ECHILD):
        parent.sys.waitid(P_PID, child.own_pid, WEXITED)


@clause("wait.2/waitid-returns-zero")
@lie(reports("waitid returns the pid", "waitid", lambda answer: (1, *answer[1:])))
def test_waitid_returns_zero(parent: Process) -> None:
    child = parent.fork()
    told = Out(SIGINFO_BYTES)
    waits = ("waitid", P_PID, child.own_pid, told, WEXITED | WNOHANG, None)
    assert parent.sys.raw(*waits)[0] == 0
    child.exit()
    assert parent.sys.raw(*waits)[0] == 0
    with fails(ECHILD):
        parent.sys.raw(*waits)


@clause("wait.2/waitid-infop-null")
@lie(passes("waitid gets a bad address", "waitid", 2, 8))
def test_with_a_null_pointer_waitid_returns_the_pid(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    assert parent.sys.raw("waitid", P_PID, child.own_pid, None, WEXITED, None) == child.own_pid


@clause("wait.2/si-pid")
@lie(tells(pid=1))
def test_si_pid_is_the_childs_pid(parent: Process) -> None:
    lives, ends = parent.fork("lives"), parent.fork("ends")
    ends.exit()
    assert parent.sys.waitid(P_ALL, 0, WEXITED).pid == ends.own_pid
    assert lives.sys.getppid() == parent.own_pid


@clause("wait.2/si-uid")
@lie(leaves_out("setresuid"))
def test_si_uid_is_the_childs_real_user(parent: Process) -> None:
    child = parent.fork()
    child.sys.setresuid(1077, -1, -1)
    child.exit()
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED).uid == 1077


@clause("wait.2/si-signo")
@lie(tells(signo=SIGUSR1))
def test_si_signo_is_sigchld_whatever_signal_the_child_sends(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    child = parent.clone(SIGUSR1)
    child.exit()
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED | WALL).signo == SIGCHLD


@clause("wait.2/si-status-exit")
@lie(passes("exit with another code", "exit_group", 0, lambda code: code ^ 2))
@pytest.mark.parametrize("code", [0, 1, 127, 128, 255])
def test_si_status_is_the_exit_code(parent: Process, code: int) -> None:
    child = parent.fork()
    child.exit(code)
    ended = parent.sys.waitid(P_PID, child.own_pid, WEXITED)
    assert (ended.code, ended.status) == (CLD_EXITED, code)


@clause("wait.2/si-status-signal")
@lie(tells(status=SIGTERM))
def test_si_status_is_the_signal_that_stopped_resumed_or_killed(parent: Process) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    assert parent.sys.waitid(P_PID, child.own_pid, WSTOPPED).status == SIGSTOP
    parent.sys.kill(child.own_pid, SIGCONT)
    assert parent.sys.waitid(P_PID, child.own_pid, WCONTINUED).status == SIGCONT
    parent.sys.kill(child.own_pid, SIGKILL)
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED).status == SIGKILL


@clause("wait.2/si-code-killed")
@lie(tells(code=CLD_EXITED))
@pytest.mark.parametrize("signal", [SIGKILL, SIGTERM], ids=["KILL", "TERM"])
def test_si_code_says_killed(parent: Process, signal: int) -> None:
    child = parent.fork()
    parent.sys.kill(child.own_pid, signal)
    ended = parent.sys.waitid(P_PID, child.own_pid, WEXITED)
    assert (ended.code, ended.status) == (CLD_KILLED, signal)


@clause("wait.2/si-code-trapped")
@lie(leaves_out("ptrace"))
def test_si_code_says_trapped_for_a_traced_child(parent: Process) -> None:
    child = parent.fork()
    child.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)
    parent.sys.kill(child.own_pid, SIGUSR1)
    stopped = parent.sys.waitid(P_PID, child.own_pid, WSTOPPED | WEXITED)
    assert (stopped.code, stopped.status) == (CLD_TRAPPED, SIGUSR1)
