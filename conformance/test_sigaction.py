"""sigaction(2): what SIGCHLD tells of a child, and the flags that bear on children."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, by_any_copy
from pytest_procsemantics.driven import Step, fails
from pytest_procsemantics.driven.constants import (
    CLD_CONTINUED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_STOPPED,
    CLD_TRAPPED,
    ECHILD,
    P_PID,
    PTRACE_TRACEME,
    SA_NOCLDSTOP,
    SA_NOCLDWAIT,
    SA_NODEFER,
    SA_RESTART,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGUSR1,
    SIGUSR2,
    WCONTINUED,
    WEXITED,
    WSTOPPED,
)
from pytest_procsemantics.driven.forms import Disposition
from pytest_procsemantics.lies import Liar, Lie, in_child, in_image, leaves_out, lie, passes

WITHOUT_ZOMBIES = Disposition(SIG_DFL, SA_NOCLDWAIT)


def with_flags(name: str, change: Callable[[int], int]) -> Lie:
    """A disposition is set with other flags."""

    def changed(given: bytes | None) -> bytes | None:
        if given is None:
            return None
        (flags,) = struct.unpack_from("<Q", given, 8)
        return given[:8] + struct.pack("<Q", change(flags)) + given[16:]

    return passes(name, "rt_sigaction", 1, changed)


# --- what is told ---


def ends(code: int) -> Callable[[Process, Process], None]:
    """A child that ends with an exit value."""
    return lambda parent, child: child.exit(code)


def gets(signal: int) -> Callable[[Process, Process], None]:
    """A child that gets a signal."""
    return lambda parent, child: parent.sys.kill(child.own_pid, signal)


def gets_traced(signal: int) -> Callable[[Process, Process], None]:
    """A child that is traced by its parent and gets a signal."""

    def happens(parent: Process, child: Process) -> None:
        child.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)
        parent.sys.kill(child.own_pid, signal)

    return happens


class _BecomesOtherwise(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        """Let a child end with another value or get another signal."""
        if name == "exit_group":
            self.tell()
            args = (args[0] ^ 2,)
        elif name == "kill":
            self.tell()
            args = (args[0], SIGTERM)
        return super().ask_call(name, number, args, decode)


@pytest.mark.parametrize(
    ("happens", "code", "status"),
    [
        pytest.param(
            ends(7), CLD_EXITED, 7, id="exits", marks=clause("sigaction.2/siginfo-exited")
        ),
        pytest.param(
            ends(300), CLD_EXITED, 44, id="exits-300", marks=clause("sigaction.2/siginfo-exited")
        ),
        pytest.param(
            gets(SIGKILL),
            CLD_KILLED,
            SIGKILL,
            id="killed",
            marks=clause("sigaction.2/siginfo-killed"),
        ),
        pytest.param(
            gets(SIGSTOP),
            CLD_STOPPED,
            SIGSTOP,
            id="stopped",
            marks=clause("sigaction.2/siginfo-stopped"),
        ),
        pytest.param(
            gets(SIGTSTP),
            CLD_STOPPED,
            SIGTSTP,
            id="stopped-by-tstp",
            marks=clause("sigaction.2/siginfo-stopped"),
        ),
        pytest.param(
            gets_traced(SIGUSR2),
            CLD_TRAPPED,
            SIGUSR2,
            id="trapped",
            marks=clause("sigaction.2/siginfo-trapped"),
        ),
    ],
)
@clause("sigaction.2/siginfo-pid-is-child", "sigaction.2/siginfo-status-and-code")
@lie(Lie("the child ends otherwise", _BecomesOtherwise))
def test_sigchld_tells_what_became_of_a_child(
    parent: Process, happens: Callable[[Process, Process], None], code: int, status: int
) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGCHLD})
    child = parent.fork()
    happens(parent, child)
    told = parent.sys.rt_sigtimedwait({SIGCHLD})
    assert (told.pid, told.code, told.status) == (child.own_pid, code, status)


@clause("sigaction.2/siginfo-continued", "sigaction.2/siginfo-status-and-code")
@lie(passes("it is killed instead", "kill", 1, lambda it: SIGKILL if it == SIGCONT else it))
def test_sigchld_tells_that_a_child_goes_on(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGCHLD})
    child = parent.fork()
    parent.sys.kill(child.own_pid, SIGSTOP)
    assert parent.sys.rt_sigtimedwait({SIGCHLD}).code == CLD_STOPPED
    parent.sys.kill(child.own_pid, SIGCONT)
    told = parent.sys.rt_sigtimedwait({SIGCHLD})
    assert (told.pid, told.code, told.status) == (child.own_pid, CLD_CONTINUED, SIGCONT)


@clause("sigaction.2/siginfo-uid-is-childs-real-uid")
@lie(leaves_out("setresuid"))
def test_sigchld_tells_the_childs_real_user(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGCHLD})
    child = parent.fork()
    child.sys.setresuid(1000, 1001, 1002)
    child.exit()
    assert parent.sys.rt_sigtimedwait({SIGCHLD}).uid == 1000


# --- flags ---


def stop_and_continue(parent: Process, child: Process) -> None:
    """Let a child stop and go on, and take note of both."""
    parent.sys.kill(child.own_pid, SIGSTOP)
    parent.sys.waitid(P_PID, child.own_pid, WSTOPPED)
    parent.sys.kill(child.own_pid, SIGCONT)
    parent.sys.waitid(P_PID, child.own_pid, WCONTINUED)
    assert child.sys.getppid() == parent.own_pid


@clause("sigaction.2/stop-and-continue-signal-parent")
@lie(with_flags("only the end is told", lambda flags: flags | SA_NOCLDSTOP))
def test_the_parent_is_told_of_a_stop_a_continuation_and_the_end(parent: Process) -> None:
    parent.count_signals(SIGCHLD, flags=SA_RESTART)
    child = parent.fork()
    stop_and_continue(parent, child)
    assert parent.count(SIGCHLD) == 2
    parent.sys.kill(child.own_pid, SIGKILL)
    child.wait_for_exit()
    assert parent.count(SIGCHLD) == 3


@clause("sigaction.2/nocldstop-no-signal-for-stops")
@lie(with_flags("it is told of all", lambda flags: flags & ~SA_NOCLDSTOP))
def test_with_sa_nocldstop_the_parent_is_told_of_the_end_alone(parent: Process) -> None:
    parent.count_signals(SIGCHLD, flags=SA_NOCLDSTOP | SA_RESTART)
    child = parent.fork()
    stop_and_continue(parent, child)
    parent.sys.kill(child.own_pid, SIGKILL)
    child.wait_for_exit()
    assert parent.count(SIGCHLD) == 1


@clause("sigaction.2/nocldwait-with-default-disposition")
@lie(leaves_out("rt_sigaction"))
def test_sa_nocldwait_leaves_no_zombie_without_a_handler(parent: Process) -> None:
    parent.sys.rt_sigaction(SIGCHLD, WITHOUT_ZOMBIES)
    child = parent.fork()
    child.exit()
    with fails(ECHILD):
        parent.sys.waitid(P_PID, child.own_pid, WEXITED)


@by_any_copy("sigaction.2/nocldwait-inherited-by-fork")
@lie(in_child("it is reset", lambda child: child.sys.rt_sigaction(SIGCHLD, SIG_DFL)))
def test_a_child_has_sa_nocldwait_too(parent: Process, make: Make) -> None:
    parent.sys.rt_sigaction(SIGCHLD, WITHOUT_ZOMBIES)
    child = make(parent)
    assert child.sys.rt_sigaction(SIGCHLD).flags & SA_NOCLDWAIT
    grandchild = child.fork("grandchild")
    grandchild.exit()
    with fails(ECHILD):
        child.sys.waitid(P_PID, grandchild.own_pid, WEXITED)


# --- exec ---


KEEPS = in_image(
    "exec leaves a flag",
    lambda image: image.sys.rt_sigaction(SIGCHLD, Disposition(SIG_DFL, SA_NOCLDWAIT)),
)


@clause("sigaction.2/kernel-restorer-not-inherited-over-exec", "signal.7/exec-clears-action-flags")
@lie(KEEPS)
def test_exec_leaves_no_flag_mask_or_restorer(parent: Process) -> None:
    parent.count_signals(SIGUSR1, flags=SA_NODEFER, mask={SIGHUP})
    parent.sys.rt_sigaction(SIGCHLD, Disposition(SIG_DFL, SA_NOCLDWAIT, 0, frozenset({SIGUSR1})))
    parent.execve()
    assert parent.sys.rt_sigaction(SIGUSR1) == Disposition(SIG_DFL)
    assert parent.sys.rt_sigaction(SIGCHLD) == Disposition(SIG_DFL)
    child = parent.fork()
    child.exit()
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED).pid == child.own_pid


@clause("sigaction.2/exec-resets-handled-keeps-ignored")
@lie(
    in_image("a handled signal is ignored", lambda new: new.sys.rt_sigaction(SIGUSR1, SIG_IGN)),
    in_image("an ignored signal is reset", lambda new: new.sys.rt_sigaction(SIGUSR2, SIG_DFL)),
)
def test_exec_resets_what_was_handled_and_leaves_what_was_ignored(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    parent.sys.rt_sigaction(SIGUSR2, SIG_IGN)
    parent.execve()
    assert parent.sys.rt_sigaction(SIGUSR1).handler == SIG_DFL
    assert parent.sys.rt_sigaction(SIGUSR2).handler == SIG_IGN
