"""pid_namespaces(7): the init of a namespace, the signals that reach it, and its end.

Signals to process 1 are sent only where it was seen that it is the init of a namespace of the check's own.
"""

from __future__ import annotations

from typing import Any

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    ESRCH,
    SI_USER,
    SIG_BLOCK,
    SIG_UNBLOCK,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
)
from pytest_procsemantics.driven.step import Step
from pytest_procsemantics.lies import drops, leaves_out, lie, passes
from pytest_procsemantics.lies.generic import Liar, Lie
from pytest_procsemantics.requirements import (
    new_init,
    open_namespace,
    own_namespaces,
)

NO_SIGNAL = leaves_out("kill")
NO_NAMESPACE = drops(CLONE_NEWPID, hangs=True)
AT_ONCE = leaves_out("rt_sigprocmask")


def sure_init(maker: Process, name: str = "init") -> Process:
    """The first process of a new pid namespace, and no other process 1."""
    init = new_init(maker, name)
    assert init.sys.getpid() == 1
    return init


def init_of(process: Process) -> Process:
    """The init of a member's namespace, or of its own."""
    while process.own_pid != 1:
        assert process.creation
        process = process.creation.process
    return process


def expect_gone(process: Process, *members: int) -> None:
    """Nobody is there any more, not even a zombie, behind these descriptors of processes."""
    for member in members:
        with fails(ESRCH):
            process.sys.pidfd_send_signal(member, 0, None, 0)


class SentFromInside(Liar):
    """What is sent to an init from outside, it sends itself."""

    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        """Let that process make the call."""
        processes = self.target.processes.values()
        inits = [process for process in processes if name == "kill" and process.pid == args[0]]
        if self.own_pid == 1 or not inits:
            return super().ask_call(name, number, args, decode)
        self.tell()
        return Process.ask_call(inits[0], name, number, (1, args[1]), decode)


FROM_INSIDE = Lie("init sends it itself", SentFromInside)


class ForcedFromOutside(Liar):
    """What is sent to an init from inside, the observer's process sends, and SIGTERM so that it must end."""

    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        """Let that process make the call."""
        if name != "kill":
            return super().ask_call(name, number, args, decode)
        self.tell()
        sender, signal = self.target.observer.process, SIGKILL if args[1] == SIGTERM else args[1]
        return Process.ask_call(sender, name, number, (init_of(self).pid, signal), decode)


FORCED = Lie("it is forced from outside", ForcedFromOutside)

# --- from inside ---


@clause("pid_namespaces.7/init-gets-only-handled-signals-from-inside")
@lie(FORCED, NO_SIGNAL)
def test_from_inside_only_signals_with_a_handler_reach_init(parent: Process) -> None:
    init = sure_init(parent)
    member = init.fork("member")
    init.count_signals(SIGUSR1)
    member.sys.kill(1, SIGTERM)
    assert init.sys.rt_sigpending() == frozenset()
    member.sys.kill(1, SIGUSR1)
    assert init.count(SIGUSR1) == 1


@clause("pid_namespaces.7/init-protected-from-privileged-members")
@lie(FORCED)
def test_no_privilege_inside_forces_a_signal_on_init(parent: Process, observer: Observer) -> None:
    own_namespaces(parent, 0, root=True)
    init = sure_init(parent)
    member = init.fork("member")
    assert member.sys.kill(1, SIGKILL) == member.sys.kill(1, SIGSTOP) == 0
    assert init.sys.getppid() == 0
    assert observer.state(init) == "S"


@clause("pid_namespaces.7/init-protected-from-own-signals")
@lie(FORCED)
def test_init_is_not_ended_by_its_own_signals(parent: Process) -> None:
    init = sure_init(parent)
    assert init.sys.kill(1, SIGTERM) == init.sys.kill(1, SIGKILL) == 0
    assert init.sys.getppid() == 0


@clause("pid_namespaces.7/init-signal-to-itself-si-pid")
@lie(FORCED)
def test_the_sender_of_inits_own_signal_is_1(parent: Process) -> None:
    init = sure_init(parent)
    init.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    init.sys.kill(1, SIGUSR1)
    info = init.sys.rt_sigtimedwait({SIGUSR1}, 0)
    assert (info.pid, info.code) == (1, SI_USER)


# --- from outside ---


@clause("pid_namespaces.7/ancestor-signals-need-handler")
@lie(passes("SIGKILL", "kill", 1, SIGKILL), NO_SIGNAL)
def test_from_outside_only_signals_with_a_handler_reach_init(parent: Process) -> None:
    init = sure_init(parent)
    init.count_signals(SIGUSR1)
    parent.sys.kill(init.pid, SIGTERM)
    assert init.sys.rt_sigpending() == frozenset()
    parent.sys.kill(init.pid, SIGUSR1)
    assert init.count(SIGUSR1) == 1


@clause("pid_namespaces.7/ancestor-signal-si-pid-zero")
@lie(FROM_INSIDE)
def test_a_sender_from_outside_is_0(parent: Process) -> None:
    init = sure_init(parent)
    member = init.fork("member")
    init.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1, SIGUSR2})
    parent.sys.kill(init.pid, SIGUSR1)
    member.sys.kill(1, SIGUSR2)
    assert init.sys.rt_sigtimedwait({SIGUSR1}, 0).pid == 0
    assert init.sys.rt_sigtimedwait({SIGUSR2}, 0).pid == member.own_pid


@clause("pid_namespaces.7/blocked-signal-from-outside-waits")
@lie(NO_SIGNAL, AT_ONCE)
def test_a_blocked_signal_from_outside_waits_for_its_handler(parent: Process) -> None:
    init = sure_init(parent)
    init.count_signals(SIGUSR1)
    init.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    parent.sys.kill(init.pid, SIGUSR1)
    assert (init.sys.rt_sigpending(), init.count(SIGUSR1)) == ({SIGUSR1}, 0)
    init.sys.rt_sigprocmask(SIG_UNBLOCK, {SIGUSR1})
    assert (init.sys.rt_sigpending(), init.count(SIGUSR1)) == (frozenset(), 1)


@clause("pid_namespaces.7/blocked-signal-without-handler-dropped")
@lie(NO_SIGNAL, AT_ONCE)
def test_a_blocked_signal_without_a_handler_is_dropped_in_the_end(parent: Process) -> None:
    init = sure_init(parent)
    init.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2})
    parent.sys.kill(init.pid, SIGUSR2)
    assert init.sys.rt_sigpending() == {SIGUSR2}
    init.sys.rt_sigprocmask(SIG_UNBLOCK, {SIGUSR2})
    assert init.sys.rt_sigpending() == frozenset()


@clause("pid_namespaces.7/ancestor-sigkill-is-forced")
@lie(passes("SIGTERM", "kill", 1, SIGTERM, hangs=True))
def test_sigkill_from_outside_ends_init_and_all_members(parent: Process) -> None:
    init = sure_init(parent)
    member = parent.sys.pidfd_open(init.fork("member").pid, 0)
    parent.sys.kill(init.pid, SIGKILL)
    assert init.wait_for_exit().signal == SIGKILL
    expect_gone(parent, member)


@clause("pid_namespaces.7/ancestor-sigstop-is-forced")
@lie(passes("SIGTERM", "kill", 1, SIGTERM, hangs=True))
def test_sigstop_from_outside_stops_init(parent: Process, observer: Observer) -> None:
    init = sure_init(parent)
    parent.sys.kill(init.pid, SIGSTOP)
    observer.wait_for_state(init, "T")
    parent.sys.kill(init.pid, SIGCONT)
    assert init.sys.getppid() == 0


# --- its end ---


@clause("pid_namespaces.7/init-end-kills-namespace")
@lie(NO_NAMESPACE)
def test_with_init_all_members_end(parent: Process) -> None:
    own_namespaces(parent, 0)
    init = parent.clone(CLONE_NEWPID | SIGCHLD, name="init")
    handles = init.fork("handles")
    handles.count_signals(SIGTERM)
    handles.sys.setsid()
    grandchild = handles.fork("grandchild")
    members = [parent.sys.pidfd_open(one.pid, 0) for one in (handles, grandchild)]
    parent.sys.setns(open_namespace(parent, init, "pid"), CLONE_NEWPID)
    joiner = parent.fork("joiner")
    init.post.sys.exit_group(5)
    assert joiner.wait_for_exit().signal == SIGKILL
    assert init.wait_for_exit().code == 5
    expect_gone(parent, *members)


@clause("pid_namespaces.7/init-end-kills-nested-namespaces")
@lie(NO_NAMESPACE)
def test_with_init_those_in_namespaces_below_end(parent: Process) -> None:
    init = new_init(parent)
    inner = init.clone(CLONE_NEWPID | SIGCHLD, name="inner")
    members = [parent.sys.pidfd_open(one.pid, 0) for one in (inner, inner.fork("member"))]
    init.exit()
    expect_gone(parent, *members)
