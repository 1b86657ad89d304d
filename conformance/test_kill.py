"""Signals for processes and threads: kill(2), tkill(2), tgkill(2)."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer, Step, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    EAGAIN,
    EINVAL,
    EPERM,
    ESRCH,
    RLIMIT_SIGPENDING,
    SIG_BLOCK,
    SIG_IGN,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGRTMAX,
    SIGRTMIN,
    SIGTERM,
    SIGUSR1,
)
from pytest_procsemantics.lies import (
    Liar,
    Lie,
    adds,
    drops,
    function_does_nothing,
    in_child,
    in_maker,
    instead,
    leaves_out,
    lie,
    passes,
    reports,
)
from pytest_procsemantics.requirements import namespace_flags, own_namespaces

USER, ANOTHER = 1000, 1001
ALL_SIGNALS = range(1, SIGRTMAX + 1)

NO_KILL = leaves_out("kill")
SAME_USER = leaves_out("setresuid")
VANISHES = in_maker(
    "an ended child vanishes", lambda maker: maker.sys.rt_sigaction(SIGCHLD, SIG_IGN)
)


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
    init = parent.clone(namespace_flags(parent, CLONE_NEWPID) | SIGCHLD, name="init")
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
@lie(VANISHES)
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


# --- threads ---


class _ForAll(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        if name in ("tgkill", "tkill"):
            self.tell()
            number, args = self.sys.number("kill"), (args[0], args[-1])
        return super().ask_call(name, number, args, decode)


class _ForOne(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        if name == "kill":
            self.tell()
            number = self.sys.number("tkill")
        return super().ask_call(name, number, args, decode)


FOR_ALL = Lie("it is for the whole process", _ForAll)


def waiting(*threads: Process) -> list[frozenset[int]]:
    """The signals that are pending for each thread."""
    return [thread.sys.rt_sigpending() for thread in threads]


@clause("tkill.2/tgkill-needs-right-group")
@lie(drops(CLONE_THREAD))
def test_tgkill_takes_the_group_of_the_thread(parent: Process) -> None:
    child, thread = parent.fork(), parent.thread()
    assert parent.sys.tgkill(parent.own_pid, thread.tid, 0) == 0
    with fails(ESRCH):
        parent.sys.tgkill(thread.tid, thread.tid, 0)
    with fails(ESRCH):
        parent.sys.tgkill(child.own_pid, thread.tid, 0)


@clause("tkill.2/tgkill-leader")
@lie(FOR_ALL)
def test_the_leaders_number_is_that_of_the_group(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    thread = parent.thread()
    thread.sys.tgkill(parent.own_pid, parent.own_pid, SIGUSR1)
    assert waiting(parent, thread) == [{SIGUSR1}, set()]


@clause("tkill.2/tkill-needs-tid-only")
@lie(FOR_ALL)
def test_tkill_takes_the_threads_number_alone(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    thread = parent.thread()
    parent.sys.tkill(thread.tid, SIGUSR1)
    assert waiting(parent, thread) == [set(), {SIGUSR1}]


@clause("tkill.2/thread-of-other-process")
@lie(FOR_ALL)
def test_a_thread_of_another_process_can_be_signalled(parent: Process) -> None:
    child = parent.fork()
    child.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    thread = child.thread()
    parent.sys.tgkill(child.own_pid, thread.tid, SIGUSR1)
    assert waiting(child, thread) == [set(), {SIGUSR1}]


@clause("tkill.2/tid-as-kill-argument")
@lie(Lie("it is for the thread", _ForOne))
def test_kill_with_a_threads_number_signals_the_process(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    thread = parent.thread()
    assert parent.sys.kill(thread.tid, 0) == 0
    parent.sys.kill(thread.tid, SIGUSR1)
    assert waiting(parent, thread) == [{SIGUSR1}, {SIGUSR1}]


@clause("tkill.2/tid-may-be-recycled")
@lie(leaves_out("tgkill"))
def test_tgkill_does_not_take_a_new_process_for_an_ended_thread(
    parent: Process, observer: Observer
) -> None:
    init = parent.clone(namespace_flags(parent, CLONE_NEWPID) | SIGCHLD, name="init")
    thread = init.thread()
    thread.post.sys.exit(0)
    init.target.wait_until(lambda: observer.threads(init) == 1, "the thread to be gone")
    number = init.allocate(4)
    init.store(number, struct.pack("<i", thread.tid))
    init.clone3(set_tid=number, set_tid_size=1)
    assert init.sys.tkill(thread.tid, 0) == 0
    with fails(ESRCH):
        init.sys.tgkill(init.own_pid, thread.tid, 0)


@like_clone("tkill.2/vfork-and-clone-vm-children-are-groups")
@lie(adds(CLONE_THREAD | CLONE_SIGHAND))
def test_who_shares_the_memory_alone_is_a_group(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_VM)
    assert parent.sys.tgkill(child.tid, child.tid, 0) == 0
    with fails(ESRCH):
        parent.sys.tgkill(parent.own_pid, child.tid, 0)


@clause("tkill.2/vfork-and-clone-vm-children-are-groups")
@lie(instead("vfork", CLONE_VM | CLONE_SIGHAND | CLONE_THREAD))
def test_the_child_of_vfork_is_a_group(parent: Process) -> None:
    child = parent.vfork()
    assert child.sys.tgkill(child.tid, child.tid, 0) == 0
    with fails(ESRCH):
        child.sys.tgkill(parent.own_pid, child.tid, 0)


@clause("tkill.2/returns-zero-or-minus-one")
@lie(
    reports("tgkill gives 1", "tgkill", lambda _: 1), reports("tkill gives 1", "tkill", lambda _: 1)
)
def test_success_is_0(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    assert parent.sys.tgkill(parent.own_pid, parent.tid, SIGUSR1) == 0
    assert parent.sys.tkill(parent.tid, SIGUSR1) == 0


@clause("tkill.2/eagain-sigpending")
@lie(leaves_out("prlimit64"))
def test_a_real_time_signal_above_the_limit_is_refused(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGRTMIN, SIGUSR1})
    parent.sys.prlimit64(0, RLIMIT_SIGPENDING, (0, 0))
    with fails(EAGAIN):
        parent.sys.tgkill(parent.own_pid, parent.tid, SIGRTMIN)
    parent.sys.tgkill(parent.own_pid, parent.tid, SIGUSR1)
    assert parent.sys.rt_sigpending() == {SIGUSR1}


@clause("tkill.2/einval")
@lie(leaves_out("tkill"))
@pytest.mark.parametrize("tid", [0, -1])
def test_tkill_refuses_what_is_no_threads_number(parent: Process, tid: int) -> None:
    with fails(EINVAL):
        parent.sys.tkill(tid, 0)


@clause("tkill.2/einval")
@lie(leaves_out("tgkill"))
@pytest.mark.parametrize("number", [0, -1])
def test_tgkill_refuses_what_is_no_number_of_a_thread_or_group(
    parent: Process, number: int
) -> None:
    with fails(EINVAL):
        parent.sys.tgkill(parent.own_pid, number, 0)
    with fails(EINVAL):
        parent.sys.tgkill(number, parent.tid, 0)


@clause("tkill.2/einval")
@lie(passes("it is one", "tgkill", 2, 0), passes("it is one for tkill", "tkill", 1, 0))
def test_tgkill_and_tkill_refuse_a_number_that_is_no_signal(parent: Process) -> None:
    with fails(EINVAL):
        parent.sys.tgkill(parent.own_pid, parent.tid, 65)
    with fails(EINVAL):
        parent.sys.tkill(parent.tid, 65)


@clause("tkill.2/eperm")
@lie(SAME_USER)
def test_another_users_thread_may_not_be_signalled(parent: Process) -> None:
    child = parent.fork()
    becomes(child, USER)
    with fails(EPERM):
        child.sys.tgkill(parent.own_pid, parent.tid, 0)
    with fails(EPERM):
        child.sys.tkill(parent.tid, 0)


@clause("tkill.2/esrch-ended-thread")
@lie(leaves_out("tgkill"), leaves_out("tkill"))
def test_an_ended_thread_cannot_be_signalled(parent: Process, observer: Observer) -> None:
    thread = parent.thread()
    thread.exit_thread()
    observer.wait_until_gone(thread)
    with fails(ESRCH):
        parent.sys.tgkill(parent.own_pid, thread.tid, 0)
    with fails(ESRCH):
        parent.sys.tkill(thread.tid, 0)


@clause("tkill.2/zombie-counts")
@lie(VANISHES)
def test_a_zombie_is_a_thread(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    child.exit()
    observer.wait_for_state(child, "Z")
    assert parent.sys.tgkill(child.own_pid, child.tid, 0) == 0
    assert parent.sys.tkill(child.tid, 0) == 0
    child.wait_for_exit()
    with fails(ESRCH):
        parent.sys.tkill(child.tid, 0)


@clause("tkill.2/glibc-has-tgkill")
@lie(function_does_nothing("tgkill"))
def test_glibc_has_tgkill(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    assert program.lib.tgkill(program.own_pid, program.tid, SIGUSR1) == 0
    assert program.sys.rt_sigpending() == {SIGUSR1}
