"""kill(2): who gets a signal, who may send it, and what a zombie does with one."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    EINVAL,
    EPERM,
    ESRCH,
    SIG_BLOCK,
    SIGCONT,
    SIGKILL,
    SIGRTMAX,
    SIGTERM,
    SIGUSR1,
)
from pytest_procsemantics.lies import (
    ENDED_CHILDREN_VANISH,
    in_child,
    leaves_out,
    lie,
    passes,
)
from pytest_procsemantics.requirements import new_init, own_namespaces

USER, ANOTHER = 1000, 1001
ALL_SIGNALS = range(1, SIGRTMAX + 1)

NO_KILL = leaves_out("kill")
SAME_USER = leaves_out("setresuid")


def becomes(process: Process, user: int) -> None:
    """Take a user's ids."""
    process.sys.setresuid(user, user, user)


def init_of_its_own(maker: Process) -> Process:
    """The init of a new pid namespace: there alone a signal may go to everybody, whatever lie is told."""
    own_namespaces(maker, CLONE_NEWPID)
    init = maker.fork("init")
    assert init.sys.getpid() == 1
    return init


def counts(*processes: Process) -> list[int]:
    """How often the handler of each has run for SIGUSR1."""
    return [process.count(SIGUSR1) for process in processes]


# --- who gets it ---


@clause("kill.2/positive-pid-is-that-process")
@lie(passes("it goes to the group", "kill", 0, 0))
def test_a_signal_goes_to_one_process(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    first, second = parent.fork("first"), parent.fork("second")
    parent.sys.kill(first.own_pid, SIGUSR1)
    assert counts(first, second, parent) == [1, 0, 0]


ALONE = in_child(
    "it is in another group", lambda new: new.name == "member" and new.sys.setpgid(0, 0)
)


@clause("kill.2/zero-is-callers-group")
@lie(NO_KILL, ALONE)
def test_pid_0_is_the_callers_group(parent: Process) -> None:
    parent.sys.setpgid(0, 0)
    parent.count_signals(SIGUSR1)
    member, other, outside = parent.fork("member"), parent.fork("other"), parent.fork("outside")
    outside.sys.setpgid(0, 0)
    assert parent.sys.kill(0, SIGUSR1) == 0
    assert counts(parent, member, other, outside) == [1, 1, 1, 0]


@clause("kill.2/below-minus-one-is-group")
@lie(NO_KILL, ALONE)
def test_a_negative_pid_is_a_group(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    leader = parent.fork("leader")
    leader.sys.setpgid(0, 0)
    member, sender = leader.fork("member"), leader.fork("sender")
    assert sender.sys.kill(-leader.own_pid, SIGUSR1) == 0
    assert counts(leader, member, sender, parent) == [1, 1, 1, 0]


@clause("kill.2/minus-one-is-everybody-else")
@lie(NO_KILL, passes("it goes to the group", "kill", 0, 0))
def test_pid_minus_1_is_everybody_else(parent: Process) -> None:
    init = init_of_its_own(parent)
    init.count_signals(SIGUSR1)
    sender, sibling = init.fork("sender"), init.fork("sibling")
    grandchild = sibling.fork("grandchild")
    grandchild.sys.setsid()
    assert sender.sys.kill(-1, SIGUSR1) == 0
    assert counts(init, sender, sibling, grandchild) == [0, 0, 1, 1]


@clause("kill.2/minus-one-is-everybody-else")
@lie(NO_KILL)
def test_init_kills_everybody_but_itself(parent: Process) -> None:
    init = init_of_its_own(parent)
    first, second = init.fork("first"), init.fork("second")
    assert init.sys.kill(-1, SIGKILL) == 0
    assert first.wait_for_exit().signal == second.wait_for_exit().signal == SIGKILL
    assert init.sys.getpid() == 1


@clause("kill.2/signal-zero-only-checks")
@lie(passes("it is a signal", "kill", 1, lambda signal: signal or SIGUSR1))
def test_signal_0_is_not_sent(parent: Process) -> None:
    child = parent.fork()
    child.sys.rt_sigprocmask(SIG_BLOCK, ALL_SIGNALS)
    assert parent.sys.kill(child.own_pid, 0) == 0
    assert child.sys.rt_sigpending() == frozenset()
    child.exit()
    child.wait_for_exit()
    with fails(ESRCH):
        parent.sys.kill(child.own_pid, 0)


@clause("kill.2/init-gets-only-handled-signals")
@lie(in_child("it has a handler", lambda new: new.count_signals(SIGTERM)))
def test_init_gets_no_signal_without_a_handler(parent: Process) -> None:
    init = new_init(parent)
    child = init.fork()
    child.sys.kill(init.own_pid, SIGTERM)
    assert init.count(SIGTERM) == 0
    init.count_signals(SIGTERM)
    child.sys.kill(init.own_pid, SIGTERM)
    assert init.count(SIGTERM) == 1


# --- who may send it ---


@clause("kill.2/sigcont-within-session")
@lie(SAME_USER)
def test_sigcont_may_be_sent_within_the_session(parent: Process) -> None:
    parent.count_signals(SIGCONT, SIGUSR1)
    sender, here, elsewhere = parent.fork("sender"), parent.fork("here"), parent.fork("elsewhere")
    elsewhere.sys.setsid()
    becomes(here, ANOTHER)
    becomes(elsewhere, ANOTHER)
    becomes(sender, USER)
    sender.sys.kill(here.own_pid, SIGCONT)
    assert here.count(SIGCONT) == 1
    with fails(EPERM):
        sender.sys.kill(here.own_pid, SIGUSR1)
    with fails(EPERM):
        sender.sys.kill(elsewhere.own_pid, SIGCONT)


@clause("kill.2/same-ids-suffice")
@lie(NO_KILL)
@pytest.mark.parametrize(
    "ids",
    [pytest.param((USER, 1, 2), id="real"), pytest.param((1, 2, USER), id="saved")],
)
@pytest.mark.parametrize(
    "senders",
    [pytest.param((3, USER, 3), id="effective"), pytest.param((USER, 3, 3), id="real")],
)
def test_a_signal_may_be_sent_to_a_process_with_the_senders_id(
    parent: Process, ids: tuple[int, int, int], senders: tuple[int, int, int]
) -> None:
    parent.count_signals(SIGUSR1)
    sender, receiver = parent.fork("sender"), parent.fork("receiver")
    receiver.sys.setresuid(*ids)
    sender.sys.setresuid(*senders)
    sender.sys.kill(receiver.own_pid, SIGUSR1)
    assert receiver.count(SIGUSR1) == 1


@clause("kill.2/same-ids-suffice")
@lie(passes("its saved id too", "setresuid", 2, USER))
def test_the_effective_id_of_the_receiver_does_not_count(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    sender, receiver = parent.fork("sender"), parent.fork("receiver")
    receiver.sys.setresuid(1, USER, 2)
    becomes(sender, USER)
    with fails(EPERM):
        sender.sys.kill(receiver.own_pid, SIGUSR1)
    assert receiver.count(SIGUSR1) == 0


@clause("kill.2/returns-zero-when-one-was-sent")
@lie(SAME_USER)
def test_it_is_enough_to_reach_one_of_a_group(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    sender, leader = parent.fork("sender"), parent.fork("leader")
    leader.sys.setpgid(0, 0)
    mine = leader.fork("mine")
    becomes(leader, ANOTHER)
    becomes(mine, USER)
    becomes(sender, USER)
    assert sender.sys.kill(-leader.own_pid, SIGUSR1) == 0
    assert counts(leader, mine) == [0, 1]
    mine.exit()
    mine.wait_for_exit()
    with fails(EPERM):
        sender.sys.kill(-leader.own_pid, SIGUSR1)


# --- errors ---


@clause("kill.2/einval")
@lie(passes("a signal there is", "kill", 1, 0))
@pytest.mark.parametrize("signal", [65, -1])
def test_a_number_that_is_no_signal_is_refused(parent: Process, signal: int) -> None:
    child = parent.fork()
    with fails(EINVAL):
        parent.sys.kill(child.own_pid, signal)
    assert child.sys.getpid() == child.own_pid


@clause("kill.2/eperm")
@lie(SAME_USER)
def test_another_users_process_may_not_be_signalled(parent: Process) -> None:
    child = parent.fork()
    becomes(child, USER)
    with fails(EPERM):
        child.sys.kill(parent.own_pid, 0)


@clause("kill.2/esrch")
@lie(NO_KILL)
def test_who_does_not_exist_cannot_be_signalled(parent: Process) -> None:
    child = parent.fork()
    child.sys.setpgid(0, 0)
    child.exit()
    child.wait_for_exit()
    with fails(ESRCH):
        parent.sys.kill(child.own_pid, SIGUSR1)
    with fails(ESRCH):
        parent.sys.kill(-child.own_pid, SIGUSR1)


@clause("kill.2/minus-one-nobody")
@lie(in_child("it is not alone", lambda new: new.name == "init" and new.fork("another")))
def test_init_alone_finds_nobody_to_signal(parent: Process) -> None:
    init = init_of_its_own(parent)
    with fails(ESRCH):
        init.sys.kill(-1, SIGTERM)


# --- zombies ---


@clause("kill.2/zombie-exists")
@lie(ENDED_CHILDREN_VANISH)
def test_a_zombie_can_be_signalled(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.exit()
    observer.wait_for_state(child, "Z")
    assert parent.sys.kill(child.own_pid, 0) == 0
    assert parent.sys.kill(child.own_pid, SIGTERM) == 0
    assert parent.sys.kill(child.own_pid, SIGKILL) == 0
    child.wait_for_exit()
    with fails(ESRCH):
        parent.sys.kill(child.own_pid, 0)


@clause("kill.2/zombie-status-is-final")
@lie(passes("the signal is its status", "exit_group", 0, SIGKILL))
def test_a_signal_leaves_the_status_of_a_zombie(parent: Process) -> None:
    child = parent.fork()
    child.exit(7)
    parent.sys.kill(child.own_pid, SIGKILL)
    assert parent.sys.wait4(child.own_pid).status == 7 << 8


@clause("kill.2/zombie-status-is-final")
@lie(passes("the signal is its status", "exit", 0, SIGKILL))
def test_a_signal_leaves_the_status_of_a_zombie_whose_thread_ended(parent: Process) -> None:
    child = parent.fork()
    child.exit_thread(5)
    parent.sys.kill(child.own_pid, SIGKILL)
    assert parent.sys.wait4(child.own_pid).status == 5 << 8
