"""setpgid(2) and credentials(7): groups in the foreground and in the background of a terminal, and orphaned ones."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLD_STOPPED,
    O_RDWR,
    P_PID,
    PR_SET_CHILD_SUBREAPER,
    SIG_IGN,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGSTOP,
    SIGTTIN,
    TIOCGPGRP,
    TIOCSPGRP,
    WSTOPPED,
)
from pytest_procsemantics.lies import (
    before_call,
    in_child,
    leaves_out,
    lie,
    passes,
)

INTERRUPT = b"\3"  # what the terminal takes for the key


FRONT_STAYS = passes(
    "the leader's group stays in front",
    "ioctl",
    1,
    lambda request: TIOCGPGRP if request == TIOCSPGRP else request,
)


# --- terminals ---


@dataclass(frozen=True)
class Session:
    """A session with a terminal, in whose foreground its leader's group is.

    Attributes:
        leader: who leads it.
        terminal: the leader's descriptor of the terminal.
        master: the other end, a descriptor of the leader's parent.
    """

    leader: Process
    terminal: int
    master: int

    def foreground(self) -> int:
        """The group in the foreground."""
        return int(self.leader.sys.ioctl(self.terminal, TIOCGPGRP))

    def group(self, name: str) -> Process:
        """The leader's child of this name, the first of a group."""
        first = self.leader.fork(name)
        first.sys.setpgid(0, 0)
        return first


def with_terminal(parent: Process) -> Session:
    """Make a session in a child."""
    master = parent.sys.dup(0)
    parent.sys.close(master)  # the terminal gets the lowest number
    path = parent.new_terminal()
    leader = parent.fork("leader")
    leader.sys.setsid()
    return Session(leader, leader.sys.openat(AT_FDCWD, path, O_RDWR), master)


@clause("setpgid.2/one-foreground-group")
@lie(FRONT_STAYS)
def test_a_foreground_group_replaces_the_one_before(parent: Process) -> None:
    session = with_terminal(parent)
    other = session.group("other")
    assert session.foreground() == session.leader.own_pid
    session.leader.sys.ioctl(session.terminal, TIOCSPGRP, other.own_pid)
    assert session.foreground() == other.own_pid


@clause("setpgid.2/terminal-signal-goes-to-foreground-group")
@lie(
    replace(FRONT_STAYS, hangs=True),
    in_child("it is alone", lambda new: new.name == "mate" and new.sys.setpgid(0, 0)),
)
def test_what_is_typed_interrupts_the_foreground_group(parent: Process, target: Target) -> None:
    parent.count_signals(SIGINT)
    session = with_terminal(parent)
    front, back = session.group("front"), session.group("back")
    mate = front.fork("mate")
    session.leader.sys.ioctl(session.terminal, TIOCSPGRP, front.own_pid)
    parent.sys.write(session.master, INTERRUPT)
    target.wait_until(lambda: front.count(SIGINT) == 1, "the foreground to be interrupted")
    assert mate.count(SIGINT) == 1
    assert back.count(SIGINT) == session.leader.count(SIGINT) == 0


@clause("setpgid.2/background-read-stops-group")
@lie(in_child("it is ignored", lambda new: new.sys.rt_sigaction(SIGTTIN, SIG_IGN), hangs=True))
def test_a_background_group_that_reads_is_stopped(parent: Process, observer: Observer) -> None:
    session = with_terminal(parent)
    back = session.group("back")
    mate = back.fork("mate")
    answer = back.post.sys.read(session.terminal, 1)
    stopped = session.leader.sys.waitid(P_PID, back.own_pid, WSTOPPED)
    assert (stopped.code, stopped.status) == (CLD_STOPPED, SIGTTIN)
    observer.wait_for_state(mate, "T")
    assert not answer.ready


# --- orphaned groups ---


def family(parent: Process) -> tuple[Process, Process, Process]:
    """The leader of a session, its child, and that one's child in a group of its own."""
    leader = parent.fork("leader")
    leader.sys.setsid()
    middle = leader.fork("middle")
    member = middle.fork("member")
    member.sys.setpgid(0, 0)
    member.count_signals(SIGHUP, SIGCONT)
    return leader, middle, member


def stops_its_children(process: Process) -> None:
    """Let somebody else stop those that a process has made."""
    observer = process.target.observer
    for one in process.target.processes.values():
        if one.parent is process:
            observer.process.sys.kill(one.pid, SIGSTOP)
            observer.wait_for_state(one, "T")


@clause("setpgid.2/orphaned-running-group-not-signalled")
@lie(before_call("exit_group", "the member is stopped", stops_its_children))
def test_an_orphaned_group_that_runs_gets_no_signal(parent: Process) -> None:
    _, middle, member = family(parent)
    middle.exit()
    middle.wait_for_exit()
    assert (member.count(SIGHUP), member.count(SIGCONT)) == (0, 0)


@clause("setpgid.2/orphaned-group-definition")
@lie(leaves_out("prctl"))
def test_a_group_with_a_parent_in_its_session_is_not_orphaned(
    parent: Process, observer: Observer
) -> None:
    leader, middle, member = family(parent)
    leader.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent.sys.kill(member.own_pid, SIGSTOP)
    observer.wait_for_state(member, "T")
    middle.exit()
    middle.wait_for_exit()
    assert observer.state(member) == "T"
    parent.sys.kill(member.own_pid, SIGCONT)
    assert (member.count(SIGHUP), member.count(SIGCONT)) == (0, 1)
