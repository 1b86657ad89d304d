"""fork(2): the new process, its ids, its one thread and its end."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, like_fork
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    EEXIST,
    ESRCH,
    PR_GET_NAME,
    PR_SET_NAME,
    SIG_BLOCK,
    SIGCHLD,
    SIGUSR1,
)
from pytest_procsemantics.driven.creation import Creation
from pytest_procsemantics.driven.forms.signals import SignalStack
from pytest_procsemantics.lies import every_child, in_child, leaves_out, lie, misreports
from pytest_procsemantics.lies.generic import Lie
from pytest_procsemantics.requirements import namespace_flags

IS_THREAD = every_child(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)


@like_fork("fork.2/creates-a-process")
@lie(every_child(CLONE_PARENT | SIGCHLD))
def test_a_child_that_can_be_waited_for(parent: Process, make: Make) -> None:
    child = make(parent)
    child.exit(7)
    assert child.wait_for_exit().code == 7


@like_fork("fork.2/pid-is-unique")
@lie(IS_THREAD)
def test_the_child_has_a_process_id_of_its_own(parent: Process, make: Make) -> None:
    first, second = make(parent), make(parent)
    assert len({parent.sys.getpid(), first.sys.getpid(), second.sys.getpid()}) == 3


@like_fork("fork.2/ppid-is-parent")
@lie(every_child(CLONE_PARENT | SIGCHLD))
def test_the_childs_parent_is_the_caller(parent: Process, make: Make) -> None:
    assert make(parent).sys.getppid() == parent.sys.getpid()


class MakesNothing(Process):
    def actual(self, creation: Creation) -> Creation:
        """Ask for a number that looks like a child's."""
        return Creation(creation.primitive, "getppid", (), creation.flags)


@clause("fork.2/returns-zero-in-child")
@lie(Lie("nobody gets 0", MakesNothing, hangs=True))
def test_only_the_child_gets_0(parent: Process) -> None:
    # Who gets 0 of the call says the first word of a new process; whoever gets another goes on.
    child = parent.fork()
    assert child.sys.getpid() == child.pid != parent.sys.getpid()


@clause("fork.2/returns-child-pid-in-parent")
@lie(misreports("fork"))
def test_the_parent_gets_the_childs_pid(parent: Process) -> None:
    child = parent.fork()
    assert child.creation is not None
    assert child.creation.arrives() == child.sys.getpid()


@like_fork("fork.2/process-group-is-inherited")
@lie(in_child("the child leads a group", lambda child: child.sys.setpgid(0, 0)))
def test_the_child_is_in_the_parents_group(parent: Process, make: Make) -> None:
    assert make(parent).sys.getpgid(0) == parent.sys.getpgid(0)


@like_fork("fork.2/session-is-inherited")
@lie(in_child("the child leads a session", lambda child: child.sys.setsid()))
def test_the_child_is_in_the_parents_session(parent: Process, make: Make) -> None:
    assert make(parent).sys.getsid(0) == parent.sys.getsid(0)


@clause("fork.2/pid-is-no-existing-group")
@lie(leaves_out("setpgid"))
def test_no_child_gets_the_id_of_a_group(parent: Process) -> None:
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWPID))
    init = parent.fork("init")
    leader = init.fork("leader")
    leader.sys.setpgid(0, 0)
    member = leader.fork("member")
    leader.exit()
    leader.wait_for_exit()
    with fails(ESRCH):
        init.sys.kill(leader.own_pid, 0)
    wanted = init.allocate(8)
    init.store(wanted, leader.own_pid)
    with fails(EEXIST):
        init.clone3(set_tid=wanted, set_tid_size=1)
    member.sys.setpgid(0, 0)
    assert init.clone3(set_tid=wanted, set_tid_size=1).own_pid == leader.own_pid


@clause("fork.2/pid-is-no-existing-session")
@lie(leaves_out("setsid"))
def test_no_child_gets_the_id_of_a_session(parent: Process) -> None:
    parent.sys.unshare(namespace_flags(parent, CLONE_NEWPID))
    init = parent.fork("init")
    leader = init.fork("leader")
    leader.sys.setsid()
    member = leader.fork("member")
    member.sys.setpgid(0, 0)
    leader.exit()
    leader.wait_for_exit()
    with fails(ESRCH):
        init.sys.kill(leader.own_pid, 0)
    wanted = init.allocate(8)
    init.store(wanted, leader.own_pid)
    with fails(EEXIST):
        init.clone3(set_tid=wanted, set_tid_size=1)
    member.exit()
    init.sys.wait4(member.own_pid)
    assert init.clone3(set_tid=wanted, set_tid_size=1).own_pid == leader.own_pid


@like_fork("fork.2/termination-signal-is-sigchld")
@lie(every_child(SIGUSR1))
def test_the_child_of_a_child_with_another_signal_ends_with_sigchld(
    parent: Process, make: Make
) -> None:
    maker = parent.clone(SIGUSR1, name="maker")
    maker.count_signals(SIGCHLD, SIGUSR1)
    child = make(maker)
    child.exit()
    child.wait_for_exit()
    assert (maker.count(SIGCHLD), maker.count(SIGUSR1)) == (1, 0)


# --- threads ---


@like_fork("fork.2/child-has-one-thread")
@lie(
    in_child("the child has a thread more", lambda child: child.name == "child" and child.thread())
)
def test_the_child_of_a_process_with_threads_has_one(
    parent: Process, observer: Observer, make: Make
) -> None:
    parent.thread("other")
    child = make(parent)
    assert (observer.threads(parent), observer.threads(child)) == (2, 1)


def becomes_the_leader(child: Process) -> None:
    """Take on what the leader of the maker's process has."""
    if child.name == "child":
        child.sys.rt_sigprocmask(2, set())
        child.sys.prctl(PR_SET_NAME, b"leader")
        child.sys.sigaltstack(SignalStack(0, 2, 0))


@like_fork("fork.2/child-is-copy-of-calling-thread")
@lie(in_child("the child is a copy of the leader", becomes_the_leader))
def test_the_childs_thread_is_a_copy_of_the_calling_one(parent: Process, make: Make) -> None:
    stack = SignalStack(parent.allocate(1 << 16), 0, 1 << 16)
    parent.sys.prctl(PR_SET_NAME, b"leader")
    caller = parent.thread("caller")
    caller.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    caller.sys.prctl(PR_SET_NAME, b"caller")
    caller.sys.sigaltstack(stack)
    child = make(caller)
    assert child.sys.rt_sigprocmask() == {SIGUSR1}
    assert child.sys.prctl(PR_GET_NAME) == b"caller"
    assert child.sys.sigaltstack() == stack
