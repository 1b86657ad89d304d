"""A new session: setsid(2), and whose session it is: getsid(2)."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make
from pytest_procsemantics.driven import Observer, Step, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_THREAD,
    ENXIO,
    EPERM,
    ESRCH,
    O_RDWR,
    SIGHUP,
)
from pytest_procsemantics.lies import (
    ENDED_CHILDREN_VANISH,
    Liar,
    Lie,
    acts_on_caller,
    drops,
    in_child,
    in_library_child,
    leaves_out,
    lie,
    passes,
    reports,
)

PGRP, SESSION, TERMINAL = 2, 3, 4  # among the fields that Observer.stat gives

STAYS = leaves_out("setsid")


# --- the new session ---


@clause("setsid.2/makes-new-session", "setsid.2/caller-is-session-leader")
@lie(STAYS)
def test_the_caller_leads_a_new_session(parent: Process, observer: Observer) -> None:
    before = parent.sys.getsid(0)
    child = parent.fork()
    child.sys.setsid()
    assert child.sys.getsid(0) == child.own_pid != before
    assert observer.stat(child)[SESSION] == str(child.pid)
    assert parent.sys.getsid(0) == before


@clause("setsid.2/caller-is-group-leader")
@lie(STAYS)
def test_the_caller_leads_a_new_group(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.sys.setsid()
    assert child.sys.getpgrp() == child.sys.getpgid(0) == child.own_pid
    assert observer.stat(child)[PGRP] == str(child.pid)


@clause("setsid.2/only-member-of-session", "setsid.2/only-member-of-group")
@lie(in_child("it comes along", lambda new: new.name == "earlier" and new.sys.setsid()))
def test_earlier_children_stay_where_they_were(parent: Process) -> None:
    caller = parent.fork("caller")
    earlier = caller.fork("earlier")
    caller.sys.setsid()
    assert earlier.sys.getsid(0) == parent.sys.getsid(0) != caller.own_pid
    assert earlier.sys.getpgrp() == parent.sys.getpgrp() != caller.own_pid


@clause("setsid.2/whole-process-changes")
@lie(drops(CLONE_THREAD))
def test_a_thread_takes_its_whole_process_to_a_new_session(parent: Process) -> None:
    child = parent.fork()
    thread = child.thread()
    thread.sys.setsid()
    assert child.sys.getsid(0) == child.own_pid


@clause("setsid.2/returns-new-session-id")
@lie(reports("setsid gives 0", "setsid", lambda session: 0))
def test_setsid_gives_the_id_of_the_new_session(parent: Process) -> None:
    child = parent.fork()
    assert child.sys.setsid() == child.own_pid


def begins_another(process: Process) -> None:
    """Begin a session, unless the check lets this one do so."""
    if process.name != "leader":
        process.sys.setsid()


@clause("setsid.2/session-inherited-by-other-primitives")
@lie(in_child("it begins another", begins_another))
@pytest.mark.parametrize("make", [Process.clone, Process.clone3, Process.vfork])
def test_a_child_by_another_primitive_is_in_the_session(parent: Process, make: Make) -> None:
    leader = parent.fork("leader")
    leader.sys.setsid()
    assert make(leader).sys.getsid(0) == leader.own_pid


@clause("setsid.2/session-inherited-by-other-primitives")
@lie(in_library_child("it begins another", begins_another))
def test_a_child_of_posix_spawn_is_in_the_session(program: Process) -> None:
    leader = program.lib.fork("leader")
    leader.sys.setsid()
    assert leader.lib.posix_spawn().sys.getsid(0) == leader.own_pid


# --- the terminal ---


class _KeepsTerminal(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        """Begin no session that would have no terminal."""
        if name == "setsid" and self.name == "child":
            self.tell()
            number = self.sys.number("sched_yield")
        return super().ask_call(name, number, args, decode)


@clause("setsid.2/no-controlling-terminal")
@lie(Lie("the child keeps the terminal", _KeepsTerminal))
def test_the_new_session_has_no_terminal(parent: Process, observer: Observer) -> None:
    leader = parent.fork("leader")
    terminal = leader.lead_session()
    child = leader.fork()
    child.sys.close(child.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR))
    child.sys.setsid()
    with fails(ENXIO):
        child.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR)
    assert observer.stat(child)[TERMINAL] == "0"
    assert child.sys.write(terminal, b"x") == 1


@clause("setsid.2/terminal-hangup-signals-leader")
@lie(leaves_out("close", hangs=True))
def test_the_leader_is_told_that_the_terminal_hung_up(parent: Process, target: Target) -> None:
    parent.count_signals(SIGHUP)
    leader = parent.fork("leader")
    master = parent.sys.dup(0)
    parent.sys.close(master)  # the terminal gets the lowest number
    path = parent.new_terminal()
    leader.sys.setsid()
    leader.sys.openat(AT_FDCWD, path, O_RDWR)
    parent.sys.close(master)
    target.wait_until(lambda: leader.count(SIGHUP) == 1, "the leader to be told")


@clause("setsid.2/leader-exit-leaves-background-group")
@lie(leaves_out("setpgid"))
def test_the_leaders_end_does_not_hang_up_the_background(parent: Process, target: Target) -> None:
    parent.count_signals(SIGHUP)
    path = parent.new_terminal()
    leader = parent.fork("leader")
    leader.sys.setsid()
    leader.sys.openat(AT_FDCWD, path, O_RDWR)
    front, back = leader.fork("front"), leader.fork("back")
    back.sys.setpgid(0, 0)
    leader.exit()
    target.wait_until(lambda: front.count(SIGHUP) == 1, "the foreground to be told")
    assert back.count(SIGHUP) == 0


# --- who may not ---


@clause("setsid.2/eperm-group-leader", "setsid.2/failure-returns-minus-one")
@lie(leaves_out("setpgid"))
def test_the_leader_of_a_group_may_not(parent: Process) -> None:
    session = parent.sys.getsid(0)
    child = parent.fork()
    child.sys.setpgid(0, 0)
    with fails(EPERM):
        child.sys.setsid()
    assert (child.sys.getsid(0), child.sys.getpgrp()) == (session, child.own_pid)


@clause("setsid.2/eperm-group-leader")
@lie(STAYS)
def test_a_second_session_may_not_be_begun(parent: Process) -> None:
    child = parent.fork()
    child.sys.setsid()
    with fails(EPERM):
        child.sys.setsid()


@clause("setsid.2/eperm-any-process-in-group-of-pid")
@lie(in_child("it leaves", lambda new: new.name == "member" and new.sys.setpgid(0, 0)))
def test_whose_number_is_a_groups_may_not(parent: Process) -> None:
    caller, other = parent.fork("caller"), parent.fork("other")
    caller.sys.setpgid(0, 0)
    other.sys.setpgid(0, 0)
    member = caller.fork("member")
    caller.sys.setpgid(0, other.own_pid)
    with fails(EPERM):
        caller.sys.setsid()
    member.exit()
    member.wait_for_exit()
    caller.sys.setsid()
    assert caller.sys.getsid(0) == caller.own_pid


@clause("setsid.2/forked-child-can-call-setsid")
@lie(in_child("it leads a group", lambda new: new.name != "leader" and new.sys.setpgid(0, 0)))
def test_the_child_of_a_leader_may(parent: Process) -> None:
    leader = parent.fork("leader")
    leader.sys.setsid()
    child, orphan = leader.fork(), leader.fork("orphan")
    child.sys.setsid()
    leader.exit()
    orphan.sys.setsid()
    assert (child.sys.getsid(0), orphan.sys.getsid(0)) == (child.own_pid, orphan.own_pid)


# --- getsid ---


@clause("getsid.2/zero-is-caller")
@lie(passes("it is another's", "getsid", 0, lambda pid: pid or 1), STAYS)
def test_getsid_of_0_is_the_callers_session(parent: Process) -> None:
    child = parent.fork()
    assert child.sys.getsid(0) == child.sys.getsid(child.own_pid) == parent.sys.getsid(0)
    child.sys.setsid()
    assert child.sys.getsid(0) == child.own_pid


@clause("getsid.2/session-of-other-process")
@lie(acts_on_caller("getsid"))
def test_getsid_tells_another_processs_session(parent: Process) -> None:
    child = parent.fork()
    child.sys.setsid()
    assert parent.sys.getsid(child.own_pid) == child.own_pid


@clause("getsid.2/zombie-has-session")
@lie(ENDED_CHILDREN_VANISH)
def test_a_zombie_has_a_session(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.sys.setsid()
    child.exit()
    observer.wait_for_state(child, "Z")
    assert parent.sys.getsid(child.own_pid) == child.own_pid


@clause("getsid.2/esrch")
@lie(passes("it is the caller", "getsid", 0, 0))
def test_who_does_not_exist_has_no_session(parent: Process) -> None:
    child = parent.fork()
    child.exit()
    child.wait_for_exit()
    with fails(ESRCH):
        parent.sys.getsid(child.own_pid)
    with fails(ESRCH):
        parent.sys.getsid(-1)
