"""Process groups: setpgid(2), getpgid(2), getpgrp(2), setpgrp(2)."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make
from pytest_procsemantics.driven import Observer, Step, fails
from pytest_procsemantics.driven.constants import (
    CLONE_PARENT,
    CLONE_THREAD,
    EACCES,
    EINVAL,
    ENOENT,
    EPERM,
    ESRCH,
    P_PGID,
    SIGCHLD,
    WEXITED,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    Liar,
    Lie,
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
