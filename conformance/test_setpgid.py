"""Process groups: setpgid(2), getpgid(2), getpgrp(2), setpgrp(2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make
from pytest_procsemantics.driven import Observer, Step, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLD_STOPPED,
    CLONE_PARENT,
    CLONE_THREAD,
    EACCES,
    EINVAL,
    ENOENT,
    EPERM,
    ESRCH,
    O_RDWR,
    P_PGID,
    P_PID,
    PR_SET_CHILD_SUBREAPER,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGSTOP,
    SIGTTIN,
    TIOCGPGRP,
    TIOCSPGRP,
    WEXITED,
    WSTOPPED,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    Liar,
    Lie,
    before_call,
    drops,
    function_does_nothing,
    in_child,
    in_library_child,
    leaves_out,
    lie,
    passes,
    reports,
)

NO_GROUP = leaves_out("setpgid")
OWN_GROUP = passes("a group of its own", "setpgid", 1, 0)
CALLERS_OWN = passes("it is the caller's", "setpgid", 0, 0)
INTERRUPT = b"\3"  # what the terminal takes for the key
FRONT_STAYS = passes(
    "the leader's group stays in front",
    "ioctl",
    1,
    lambda request: TIOCGPGRP if request == TIOCSPGRP else request,
)
UNUSED = 2147483647  # above every limit of process numbers
GROUP, SESSION = 2, 3  # fields of /proc/PID/stat, from the third on


class _GroupOnly(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        if name == "setsid":
            self.tell()
            number, args = self.sys.number("setpgid"), (0, 0)
        return super().ask_call(name, number, args, decode)


SAME_SESSION = Lie("setsid makes a group only", _GroupOnly)


# --- what setpgid does ---


@clause("setpgid.2/sets-group-of-process")
@lie(NO_GROUP, OWN_GROUP)
def test_setpgid_puts_a_process_in_a_group(parent: Process) -> None:
    first, second = parent.fork("first"), parent.fork("second")
    parent.sys.setpgid(first.own_pid, first.own_pid)
    parent.sys.setpgid(second.own_pid, first.own_pid)
    assert first.sys.getpgrp() == second.sys.getpgrp() == first.own_pid
    assert parent.sys.getpgrp() == parent.own_pid


@clause("setpgid.2/pid-zero-is-caller")
@lie(NO_GROUP, OWN_GROUP)
def test_pid_0_is_the_caller(parent: Process) -> None:
    leader, caller = parent.fork("leader"), parent.fork("caller")
    leader.sys.setpgid(0, 0)
    caller.sys.setpgid(0, leader.own_pid)
    assert caller.sys.getpgrp() == leader.own_pid
    assert parent.sys.getpgrp() == parent.own_pid


@clause("setpgid.2/pgid-zero-is-own-pid")
@lie(NO_GROUP)
def test_group_0_is_that_of_the_processes_own_number(parent: Process) -> None:
    first, second = parent.fork("first"), parent.fork("second")
    parent.sys.setpgid(first.own_pid, 0)
    second.sys.setpgid(0, 0)
    assert first.sys.getpgrp() == first.own_pid
    assert second.sys.getpgrp() == second.own_pid


@clause("setpgid.2/joining-own-group-again")
@lie(OWN_GROUP)
def test_a_process_can_join_the_group_that_it_is_in(parent: Process) -> None:
    member = parent.fork()
    member.sys.setpgid(0, parent.own_pid)
    parent.sys.setpgid(0, 0)
    assert member.sys.getpgrp() == parent.sys.getpgrp() == parent.own_pid


@clause("setpgid.2/child-by-parent-before-exec")
@lie(NO_GROUP)
def test_a_parent_moves_its_child_to_a_group_and_back(parent: Process) -> None:
    child = parent.fork()
    parent.sys.setpgid(child.own_pid, child.own_pid)
    assert child.sys.getpgrp() == child.own_pid
    parent.sys.setpgid(child.own_pid, parent.own_pid)
    assert child.sys.getpgrp() == parent.own_pid


@clause("setpgid.2/whole-process-changes")
@lie(drops(CLONE_THREAD))
def test_a_thread_moves_its_whole_process(parent: Process) -> None:
    child = parent.fork()
    first, second = child.thread("first"), child.thread("second")
    first.sys.setpgid(0, 0)
    assert child.sys.getpgrp() == second.sys.getpgrp() == child.own_pid


@clause("setpgid.2/child-of-other-thread-counts")
@lie(drops(CLONE_THREAD))
def test_a_thread_moves_the_child_of_another(parent: Process) -> None:
    thread = parent.thread()
    child = thread.fork()
    parent.sys.setpgid(child.own_pid, child.own_pid)
    assert child.sys.getpgrp() == child.own_pid


@clause("setpgid.2/getpgid-of-zombie")
@lie(NO_GROUP)
def test_a_child_that_has_ended_can_be_asked_and_moved(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    assert parent.sys.getpgid(child.own_pid) == parent.own_pid
    parent.sys.setpgid(child.own_pid, child.own_pid)
    assert parent.sys.getpgid(child.own_pid) == child.own_pid
    assert parent.sys.waitid(P_PGID, child.own_pid, WEXITED).pid == child.own_pid


@clause("setpgid.2/setpgrp-is-setpgid-zero-zero")
@lie(function_does_nothing("setpgrp"))
def test_setpgrp_makes_the_caller_a_leader(program: Process, target: Target) -> None:
    program.sys.setpgid(0, target.new_process("other").own_pid)
    assert program.sys.getpgrp() != program.own_pid
    assert program.lib.setpgrp() == 0
    assert program.sys.getpgrp() == program.own_pid


@clause("setpgid.2/set-calls-return-zero")
@lie(reports("setpgid gives the group", "setpgid", lambda _: 1))
def test_setpgid_gives_0(parent: Process) -> None:
    assert parent.sys.setpgid(parent.fork().own_pid, 0) == 0


# --- what the others say ---


@clause("setpgid.2/getpgrp-returns-callers-group")
@lie(reports("getpgrp gives 0", "getpgrp", lambda _: 0))
def test_getpgrp_gives_the_callers_group(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    assert child.sys.getpgrp() == parent.own_pid
    assert int(observer.stat(child)[GROUP]) == parent.pid


@clause("setpgid.2/getpgid-of-process", "setpgid.2/get-calls-return-group")
@lie(reports("getpgid gives its own", "getpgid", lambda _: 0))
def test_getpgid_gives_the_group_of_a_process_of_any_session(
    parent: Process, observer: Observer
) -> None:
    child, elsewhere = parent.fork("child"), parent.fork("elsewhere")
    elsewhere.sys.setsid()
    assert child.sys.getpgid(parent.own_pid) == parent.own_pid
    assert parent.sys.getpgid(child.own_pid) == parent.own_pid
    assert parent.sys.getpgid(elsewhere.own_pid) == elsewhere.own_pid
    assert int(observer.stat(elsewhere)[GROUP]) == elsewhere.pid


@clause("setpgid.2/getpgid-zero-is-caller")
@lie(reports("getpgid gives 0", "getpgid", lambda _: 0))
def test_getpgid_of_0_is_the_callers_group(parent: Process) -> None:
    child = parent.fork()
    assert child.sys.getpgid(0) == child.sys.getpgrp() == parent.own_pid


# --- exec ---


@clause("setpgid.2/eacces-child-has-execed")
@lie(EXEC_DOES_NOTHING)
def test_a_child_that_has_called_exec_is_not_moved(parent: Process) -> None:
    child = parent.fork()
    child.execve()
    with fails(EACCES):
        parent.sys.setpgid(child.own_pid, 0)
    with fails(EACCES):
        parent.sys.setpgid(child.own_pid, parent.own_pid)
    assert child.sys.getpgrp() == parent.own_pid


@clause("setpgid.2/eacces-also-after-vfork-or-spawn")
@lie(CALLERS_OWN)
def test_a_child_of_vfork_that_has_called_exec_is_not_moved(parent: Process) -> None:
    child = parent.vfork()
    child.execve()
    with fails(EACCES):
        parent.sys.setpgid(child.own_pid, child.own_pid)
    assert child.sys.getpgrp() == parent.own_pid


@clause("setpgid.2/eacces-also-after-vfork-or-spawn")
@lie(CALLERS_OWN)
def test_a_child_of_posix_spawn_is_not_moved(program: Process) -> None:
    child = program.lib.posix_spawn()
    with fails(EACCES):
        program.sys.setpgid(child.own_pid, child.own_pid)
    assert child.sys.getpgrp() == program.own_pid


def execs(process: Process) -> None:
    process.execve()


@clause("setpgid.2/failed-exec-does-not-count")
@lie(NO_GROUP)
def test_a_child_whose_exec_failed_is_moved(parent: Process, target: Target) -> None:
    child = parent.fork()
    with fails(ENOENT):
        child.execve(f"{target.folder()}/missing")
    parent.sys.setpgid(child.own_pid, child.own_pid)
    assert child.sys.getpgrp() == child.own_pid


@clause("setpgid.2/forked-child-of-execed-process-is-free")
@lie(in_child("it execs", execs))
def test_the_child_of_a_new_image_is_moved(parent: Process) -> None:
    parent.execve()
    child = parent.fork()
    parent.sys.setpgid(child.own_pid, child.own_pid)
    assert child.sys.getpgrp() == child.own_pid


@clause("setpgid.2/own-group-after-exec")
@lie(NO_GROUP)
def test_a_new_image_moves_itself(parent: Process) -> None:
    child = parent.fork()
    child.execve()
    child.sys.setpgid(0, 0)
    assert child.sys.getpgrp() == child.own_pid


# --- refused ---


@clause("setpgid.2/moves-within-session-only")
@lie(SAME_SESSION)
def test_a_group_of_another_session_cannot_be_joined(parent: Process) -> None:
    elsewhere, child = parent.fork("elsewhere"), parent.fork()
    elsewhere.sys.setsid()
    with fails(EPERM):
        child.sys.setpgid(0, elsewhere.own_pid)
    with fails(EPERM):
        parent.sys.setpgid(child.own_pid, elsewhere.own_pid)
    assert child.sys.getpgrp() == parent.own_pid


@clause("setpgid.2/pgid-must-exist-to-be-joined")
@lie(OWN_GROUP)
def test_a_group_that_does_not_exist_cannot_be_joined(parent: Process) -> None:
    child = parent.fork()
    with fails(EPERM):
        child.sys.setpgid(0, UNUSED)
    assert child.sys.getpgrp() == parent.own_pid


@clause("setpgid.2/einval-negative-pgid")
@lie(OWN_GROUP)
@pytest.mark.parametrize("group", [-1, -(2**31)], ids=["-1", "least"])
def test_a_negative_group_is_refused(parent: Process, group: int) -> None:
    child = parent.fork()
    with fails(EINVAL):
        child.sys.setpgid(0, group)
    assert child.sys.getpgrp() == parent.own_pid


@clause("setpgid.2/einval-thread-id")
@lie(drops(CLONE_THREAD))
def test_the_number_of_a_thread_is_refused(parent: Process) -> None:
    thread = parent.thread()
    with fails(EINVAL):
        parent.sys.setpgid(thread.tid, 0)
    assert parent.sys.getpgid(thread.tid) == parent.own_pid


@clause("setpgid.2/eperm-child-in-other-session")
@lie(SAME_SESSION)
def test_a_child_in_another_session_is_not_moved(parent: Process) -> None:
    leader = parent.fork("leader")
    leader.sys.setsid()
    child = leader.clone(CLONE_PARENT | SIGCHLD)
    with fails(EPERM):
        parent.sys.setpgid(child.own_pid, parent.own_pid)
    with fails(EPERM):
        parent.sys.setpgid(child.own_pid, child.own_pid)
    assert child.sys.getpgrp() == leader.own_pid


@clause("setpgid.2/eperm-session-leader")
@lie(SAME_SESSION)
def test_a_session_leader_is_not_moved(parent: Process) -> None:
    leader = parent.fork("leader")
    leader.sys.setsid()
    member = leader.fork("member")
    member.sys.setpgid(0, 0)
    with fails(EPERM):
        leader.sys.setpgid(0, member.own_pid)
    with fails(EPERM):
        leader.sys.setpgid(0, 0)
    assert leader.sys.getpgrp() == leader.own_pid


@clause("setpgid.2/esrch-getpgid")
@lie(passes("it is the caller's", "getpgid", 0, 0))
def test_getpgid_of_no_process_is_refused(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    child.wait_for_exit()
    with fails(ESRCH):
        parent.sys.getpgid(child.own_pid)
    with fails(ESRCH):
        parent.sys.getpgid(UNUSED)
    with fails(ESRCH):
        parent.sys.getpgid(-1)


@clause("setpgid.2/esrch-neither-self-nor-child")
@lie(CALLERS_OWN)
def test_who_is_neither_the_caller_nor_its_child_is_not_moved(parent: Process) -> None:
    child, sibling = parent.fork(), parent.fork("sibling")
    grandchild = child.fork("grandchild")
    with fails(ESRCH):
        child.sys.setpgid(parent.own_pid, 0)
    with fails(ESRCH):
        child.sys.setpgid(sibling.own_pid, 0)
    with fails(ESRCH):
        parent.sys.setpgid(grandchild.own_pid, 0)
    with fails(ESRCH):
        parent.sys.setpgid(UNUSED, 0)


# --- who is in it ---


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(Process.clone, id="clone"),
        pytest.param(Process.clone3, id="clone3"),
        pytest.param(Process.vfork, id="vfork"),
    ],
)
@clause("setpgid.2/group-inherited-by-other-primitives")
@lie(in_child("it is alone", lambda child: child.sys.setpgid(0, 0)))
def test_a_child_is_in_its_makers_group(parent: Process, make: Make) -> None:
    assert make(parent).sys.getpgrp() == parent.own_pid


@clause("setpgid.2/group-inherited-by-other-primitives")
@lie(in_library_child("it is alone", lambda child: child.sys.setpgid(0, 0)))
def test_a_child_of_posix_spawn_is_in_its_makers_group(program: Process) -> None:
    assert program.lib.posix_spawn().sys.getpgrp() == program.own_pid


@clause("setpgid.2/group-lies-in-one-session")
@lie(SAME_SESSION)
def test_who_leaves_the_session_leaves_the_group(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    assert observer.stat(child)[GROUP] == observer.stat(parent)[GROUP]
    assert observer.stat(child)[SESSION] == observer.stat(parent)[SESSION]
    child.sys.setsid()
    assert observer.stat(child)[GROUP] != observer.stat(parent)[GROUP]
    assert observer.stat(child)[SESSION] != observer.stat(parent)[SESSION]


@clause("setpgid.2/group-outlives-its-leader")
@lie(in_child("it is alone", lambda child: child.name == "member" and child.sys.setpgid(0, 0)))
def test_a_group_outlives_its_leader(parent: Process) -> None:
    leader, other = parent.fork("leader"), parent.fork("other")
    leader.sys.setpgid(0, 0)
    member = leader.fork("member")
    leader.exit()
    leader.wait_for_exit()
    assert member.sys.getpgrp() == leader.own_pid
    other.sys.setpgid(0, leader.own_pid)
    assert other.sys.getpgrp() == leader.own_pid


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
