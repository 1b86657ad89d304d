"""wait(2), NOTES: zombies, who adopts them, and how SIGCHLD's disposition keeps them from coming."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    EAGAIN,
    ECHILD,
    ENOENT,
    ESRCH,
    P_PID,
    PR_SET_CHILD_SUBREAPER,
    RLIMIT_NPROC,
    SA_NOCLDWAIT,
    SIG_BLOCK,
    SIG_DFL,
    SIG_IGN,
    SIGCHLD,
    WALL,
    WEXITED,
    WNOHANG,
    WNOWAIT,
)
from pytest_procsemantics.lies import ENDED_CHILDREN_VANISH, Lie, instead, leaves_out, lie


def stays_a_zombie(hangs: bool) -> Lie:
    """SIGCHLD's disposition stays the default."""
    return leaves_out("rt_sigaction", hangs)


@clause("wait.2/wait-releases-resources")
@lie(ENDED_CHILDREN_VANISH, leaves_out("wait4"))
def test_a_child_is_a_zombie_until_it_was_waited_for(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.exit()
    assert observer.state(child) == "Z"
    parent.sys.wait4(child.own_pid)
    with fails(ENOENT):
        observer.state(child)


@clause("wait.2/zombie-keeps-pid")
@lie(ENDED_CHILDREN_VANISH)
def test_a_zombie_keeps_its_pid_and_its_status(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.exit(5)
    assert observer.state(child) == "Z"
    assert parent.sys.kill(child.own_pid, 0) == 0
    assert parent.sys.wait4(child.own_pid)[:2] == (child.own_pid, 5 << 8)
    with fails(ESRCH):
        parent.sys.kill(child.own_pid, 0)


@clause("wait.2/zombie-counts-in-process-table")
@lie(ENDED_CHILDREN_VANISH)
def test_a_zombie_counts_for_the_limit_of_processes(parent: Process) -> None:
    user = 30000 + parent.own_pid % 30000  # nobody else's, other workers of this run included
    parent.sys.setresuid(user, user, user)
    parent.sys.prlimit64(0, RLIMIT_NPROC, (2, 2))
    zombie = parent.fork("zombie")
    zombie.exit()
    with fails(EAGAIN):
        parent.fork()
    parent.sys.wait4(zombie.own_pid)
    assert parent.fork().sys.getppid() == parent.own_pid


@clause("wait.2/sigchld-default-keeps-zombies")
@lie(ENDED_CHILDREN_VANISH)
def test_with_the_default_disposition_zombies_stay(parent: Process, observer: Observer) -> None:
    assert parent.sys.rt_sigaction(SIGCHLD).handler == SIG_DFL
    child = parent.fork()
    child.exit()
    assert observer.state(child) == "Z"
    assert parent.sys.wait4(child.own_pid).pid == child.own_pid


@clause("wait.2/sigchld-ignored-no-zombies")
@lie(stays_a_zombie(hangs=True))
def test_with_sigchld_ignored_no_zombie_is_left(parent: Process, observer: Observer) -> None:
    parent.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    child = parent.fork()
    child.exit()
    observer.wait_until_gone(child)


@clause("wait.2/sa-nocldwait-no-zombies")
@lie(stays_a_zombie(hangs=True))
def test_with_sa_nocldwait_no_zombie_is_left(parent: Process, observer: Observer) -> None:
    parent.count_signals(SIGCHLD, flags=SA_NOCLDWAIT)
    child = parent.fork()
    child.exit()
    observer.wait_until_gone(child)
    with fails(ECHILD):
        parent.sys.wait4(child.own_pid)


@clause("wait.2/sa-nocldwait-still-sends-sigchld")
@lie(instead("fork", 0))
def test_with_sa_nocldwait_the_signal_is_sent_all_the_same(parent: Process) -> None:
    parent.count_signals(SIGCHLD, flags=SA_NOCLDWAIT)
    child = parent.fork()
    child.exit()
    with fails(ECHILD):
        parent.sys.wait4(child.own_pid)
    assert parent.count(SIGCHLD) == 1


@clause("wait.2/ignoring-later-keeps-existing-zombies")
@lie(ENDED_CHILDREN_VANISH)
def test_ignoring_sigchld_later_leaves_a_zombie_there(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.exit(3)
    assert parent.sys.waitid(P_PID, child.own_pid, WEXITED | WNOWAIT).status == 3
    parent.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    assert observer.state(child) == "Z"
    assert parent.sys.wait4(child.own_pid, WNOHANG).status == 3 << 8


@clause("wait.2/echild-sigchld-ignored")
@lie(stays_a_zombie(hangs=False))
def test_with_sigchld_ignored_wait_blocks_until_all_have_ended(
    parent: Process, observer: Observer
) -> None:
    parent.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    first, last = parent.fork("first"), parent.fork("last")
    answer = parent.post.sys.wait4(-1)
    first.exit()
    observer.wait_until_gone(first)
    observer.wait_for_state(parent, "S")
    assert not answer.ready
    last.exit()
    with fails(ECHILD):
        answer.arrives()


@clause("wait.2/pending-sigchld-after-wait")
@lie(instead("fork", 0))
def test_a_pending_sigchld_stays_pending_after_the_wait(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGCHLD})
    child = parent.fork()
    child.exit()
    assert parent.sys.wait4(child.own_pid, WALL).pid == child.own_pid
    assert parent.sys.rt_sigpending() == {SIGCHLD}


@clause("wait.2/orphan-adopted-by-init-or-subreaper")
@lie(leaves_out("prctl"))
def test_an_orphan_comes_to_its_sub_reaper(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    middle = parent.fork("middle")
    orphan = middle.fork("orphan")
    assert orphan.sys.getppid() == middle.own_pid
    middle.exit()
    assert orphan.sys.getppid() == parent.own_pid


@clause("wait.2/adopted-zombie-reaped-by-reaper")
@lie(leaves_out("prctl"))
def test_the_zombies_of_a_dead_parent_come_to_the_sub_reaper(parent: Process) -> None:
    parent.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent.count_signals(SIGCHLD)
    middle = parent.clone(0, name="middle")
    zombie = middle.fork("zombie")
    zombie.exit(6)
    middle.exit()
    assert parent.sys.wait4(zombie.own_pid)[:2] == (zombie.own_pid, 6 << 8)
    assert parent.count(SIGCHLD) == 1
