"""pidfd_send_signal(2): who gets the signal, what is told with it, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import IS_CLONE
from pytest_procsemantics.driven import Exit, Observer, Out, fails
from pytest_procsemantics.driven.constants import (
    CLONE_NEWPID,
    CLONE_PIDFD,
    EBADF,
    EFAULT,
    EINVAL,
    EPERM,
    ESRCH,
    P_PIDFD,
    PIDFD_SELF_THREAD,
    PIDFD_SELF_THREAD_GROUP,
    PIDFD_SIGNAL_PROCESS_GROUP,
    PIDFD_SIGNAL_THREAD,
    PIDFD_SIGNAL_THREAD_GROUP,
    PIDFD_THREAD,
    SI_KERNEL,
    SI_QUEUE,
    SI_TKILL,
    SI_USER,
    SIG_BLOCK,
    SIGCHLD,
    SIGCONT,
    SIGKILL,
    SIGSTOP,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
    WEXITED,
)
from pytest_procsemantics.driven.forms import SigInfo
from pytest_procsemantics.lies import (
    Lie,
    before_call,
    drops,
    leaves_out,
    lie,
    passes,
    reports,
)
from pytest_procsemantics.requirements import new_init
from pytest_procsemantics.requirements.surroundings import SOMEBODY

CLOSED = 99
NOWHERE = 8  # in the page at 0, where nothing is mapped
SIGINFO_BYTES = 128
ONLY_USR1 = struct.pack("<Q", 1 << SIGUSR1 - 1)  # a set of signals
NO_TIME = bytes(16)
RESERVED = [SI_USER, SI_KERNEL, 5, SI_TKILL]  # codes that only the kernel, kill and tgkill give
TOLD = SigInfo(77, 88, SIGUSR1, SI_QUEUE, 1234, 1234)

NOT_SENT = leaves_out("pidfd_send_signal")
STAYS_A_ZOMBIE = leaves_out("wait4")


def given(name: str, index: int, value: object) -> Lie:
    """pidfd_send_signal gets another argument."""
    return passes(name, "pidfd_send_signal", index, value)


def scope(name: str, flags: int) -> Lie:
    """pidfd_send_signal takes other flags."""
    return given(f"the signal goes to {name}", 3, flags)


WITHOUT_INFO = given("the information is dropped", 2, None)
MADE_UP = given(
    "another information",
    2,
    struct.pack("<iii4xIIQ", SIGUSR1, 5, SI_QUEUE, 77, 88, 1234).ljust(SIGINFO_BYTES, b"\0"),
)


def blocking(process: Process, *signals: int) -> Process:
    """The same process: it has these signals pending from now on, so that it can tell of them."""
    process.sys.rt_sigprocmask(SIG_BLOCK, set(signals))
    return process


def taken(process: Process) -> SigInfo:
    """What was told with the SIGUSR1 that is pending."""
    return process.sys.rt_sigtimedwait({SIGUSR1}, 0)  # type: ignore[no-any-return]


# --- the process ---


@clause("pidfd_send_signal.2/sends-signal-to-target")
@lie(NOT_SENT)
def test_the_signal_goes_to_the_process_of_the_descriptor(parent: Process) -> None:
    first, second = parent.fork("first"), parent.fork("second")
    first.count_signals(SIGUSR1)
    second.count_signals(SIGUSR1)
    pidfd = parent.sys.pidfd_open(second.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1)
    assert (first.count(SIGUSR1), second.count(SIGUSR1)) == (0, 1)


@clause("pidfd_send_signal.2/signal-acts-like-kill")
@lie(leaves_out("pidfd_send_signal", hangs=True))
def test_signals_do_what_they_do_by_kill(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGSTOP)
    observer.wait_for_state(child, "T")
    parent.sys.pidfd_send_signal(pidfd, SIGCONT)
    assert child.sys.getpid() == child.own_pid
    parent.sys.pidfd_send_signal(pidfd, SIGKILL)
    assert child.wait_for_exit() == Exit(None, SIGKILL)


@clause("pidfd_send_signal.2/signal-zero-only-checks")
@lie(given("SIGUSR1 in place of 0", 1, SIGUSR1))
def test_signal_zero_sends_nothing(parent: Process, observer: Observer) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    assert parent.sys.pidfd_send_signal(pidfd, 0) == 0
    assert child.sys.rt_sigpending() == set()
    child.exit()
    assert parent.sys.pidfd_send_signal(pidfd, 0) == 0


@clause("pidfd_send_signal.2/returns-zero-or-minus-one")
@lie(reports("1 in place of 0", "pidfd_send_signal", lambda result: result + 1))
def test_success_is_zero_and_a_refusal_sends_nothing(parent: Process) -> None:
    child = blocking(parent.fork(), SIGUSR1, SIGUSR2)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    with fails(EINVAL):
        parent.sys.pidfd_send_signal(pidfd, SIGUSR2, None, 1 << 31)
    assert parent.sys.pidfd_send_signal(pidfd, SIGUSR1) == 0
    assert child.sys.rt_sigpending() == {SIGUSR1}


@clause("pidfd_send_signal.2/esrch-reaped")
@lie(STAYS_A_ZOMBIE)
@pytest.mark.parametrize("signal", [0, SIGKILL], ids=["0", "KILL"])
def test_a_process_that_was_waited_for_gets_no_signal(parent: Process, signal: int) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.exit()
    parent.sys.wait4(child.own_pid)
    with fails(ESRCH):
        parent.sys.pidfd_send_signal(pidfd, signal)


@clause("pidfd_send_signal.2/zombie-accepts-signal")
@lie(before_call("pidfd_send_signal", "the child is reaped", lambda process: process.sys.wait4()))
def test_a_zombie_takes_signals_and_keeps_its_status(parent: Process) -> None:
    child = parent.fork()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    child.exit(5)
    assert parent.sys.pidfd_send_signal(pidfd, 0) == 0
    assert parent.sys.pidfd_send_signal(pidfd, SIGKILL) == 0
    assert child.wait_for_exit() == Exit(5)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(
            lambda maker, cell: maker.clone(CLONE_PIDFD | SIGCHLD, parent_tid=cell), id="clone"
        ),
        pytest.param(
            lambda maker, cell: maker.clone3(CLONE_PIDFD, pidfd=cell),
            id="clone3",
            marks=clause(IS_CLONE),
        ),
    ],
)
@clause("pidfd_send_signal.2/clone-pidfd-as-source")
@lie(drops(CLONE_PIDFD))
def test_a_descriptor_of_clone_serves(
    parent: Process, make: Callable[[Process, int], Process]
) -> None:
    cell = parent.allocate(8)
    parent.store(cell, CLOSED)
    child = make(parent, cell)
    parent.sys.pidfd_send_signal(parent.load(cell), SIGTERM)
    assert child.wait_for_exit() == Exit(None, SIGTERM)


# --- which thread ---


@clause("pidfd_send_signal.2/process-directed")
@lie(scope("the thread", PIDFD_SIGNAL_THREAD))
def test_any_thread_may_take_the_signal(parent: Process) -> None:
    leader = parent.fork("leader")
    leader.count_signals(SIGUSR1)
    thread = leader.thread()
    blocking(leader, SIGUSR1)
    pidfd = parent.sys.pidfd_open(leader.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1)
    assert thread.sys.getpid() == leader.own_pid
    assert leader.count(SIGUSR1) == 1
    assert leader.sys.rt_sigpending() == set()


@clause("pidfd_send_signal.2/flags-thread", "pidfd_send_signal.2/accepted-flag-has-its-effect")
@lie(scope("the process", 0))
def test_pidfd_signal_thread_sends_to_the_thread_alone(parent: Process) -> None:
    leader = blocking(parent.fork("leader"), SIGUSR1)
    thread = leader.thread()
    pidfd = parent.sys.pidfd_open(leader.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None, PIDFD_SIGNAL_THREAD)
    assert thread.sys.rt_sigpending() == set()
    assert taken(leader).code == SI_TKILL


@clause(
    "pidfd_send_signal.2/flags-thread-group", "pidfd_send_signal.2/accepted-flag-has-its-effect"
)
@lie(scope("the thread", 0))
def test_pidfd_signal_thread_group_sends_to_the_process(parent: Process) -> None:
    leader = blocking(parent.fork("leader"), SIGUSR1)
    thread = leader.thread()
    pidfd = parent.sys.pidfd_open(thread.tid, PIDFD_THREAD)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None, PIDFD_SIGNAL_THREAD_GROUP)
    assert thread.sys.rt_sigpending() == {SIGUSR1}
    assert taken(leader).code == SI_USER


@clause("pidfd_send_signal.2/default-scope-of-thread-pidfd")
@lie(scope("the process", PIDFD_SIGNAL_THREAD_GROUP))
def test_by_a_descriptor_of_a_thread_that_thread_is_meant(parent: Process) -> None:
    leader = blocking(parent.fork("leader"), SIGUSR1)
    thread = leader.thread()
    pidfd = parent.sys.pidfd_open(thread.tid, PIDFD_THREAD)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1)
    assert leader.sys.rt_sigpending() == set()
    told = taken(thread)
    assert (told.code, told.pid) == (SI_TKILL, parent.own_pid)


@clause(
    "pidfd_send_signal.2/flags-process-group", "pidfd_send_signal.2/accepted-flag-has-its-effect"
)
@lie(scope("the process", 0))
def test_pidfd_signal_process_group_sends_to_the_group(parent: Process) -> None:
    blocking(parent, SIGUSR1)
    leader = parent.fork("leader")
    leader.sys.setpgid(0, 0)
    member = leader.fork("member")
    pidfd = parent.sys.pidfd_open(leader.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None, PIDFD_SIGNAL_PROCESS_GROUP)
    assert leader.sys.rt_sigpending() == member.sys.rt_sigpending() == {SIGUSR1}
    assert parent.sys.rt_sigpending() == set()


@clause("pidfd_send_signal.2/flags-process-group-of-no-leader")
@lie(scope("the process", 0))
def test_who_leads_no_group_has_none_to_send_to(parent: Process) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    with fails(ESRCH):
        parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None, PIDFD_SIGNAL_PROCESS_GROUP)
    assert child.sys.rt_sigpending() == set()


@clause("pidfd_send_signal.2/self-descriptors-name-caller")
@lie(given("the calling thread", 0, PIDFD_SELF_THREAD))
def test_pidfd_self_thread_group_is_the_calling_process(parent: Process) -> None:
    thread = blocking(parent, SIGUSR1).thread()
    child = parent.fork()
    thread.sys.pidfd_send_signal(PIDFD_SELF_THREAD_GROUP, SIGUSR1)
    assert parent.sys.rt_sigpending() == {SIGUSR1}
    assert child.sys.rt_sigpending() == set()
    with fails(EINVAL):
        parent.sys.waitid(P_PIDFD, PIDFD_SELF_THREAD_GROUP, WEXITED)


@clause("pidfd_send_signal.2/self-thread-names-calling-thread")
@lie(given("the calling process", 0, PIDFD_SELF_THREAD_GROUP))
def test_pidfd_self_thread_is_the_calling_thread(parent: Process) -> None:
    thread = blocking(parent, SIGUSR1).thread()
    thread.sys.pidfd_send_signal(PIDFD_SELF_THREAD, SIGUSR1)
    assert parent.sys.rt_sigpending() == set()
    assert thread.sys.rt_sigpending() == {SIGUSR1}


# --- what is told with it ---


@clause("pidfd_send_signal.2/info-null-si-signo")
@lie(given("another signal", 1, SIGUSR2))
def test_without_information_the_signal_is_the_one_that_was_sent(parent: Process) -> None:
    child = blocking(parent.fork(), SIGUSR1, SIGUSR2)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None)
    assert child.sys.rt_sigtimedwait({SIGUSR1, SIGUSR2}, 0).signo == SIGUSR1


@clause("pidfd_send_signal.2/info-null-si-errno")
@lie(MADE_UP)
def test_without_information_there_is_no_error(parent: Process) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None)
    told = Out(SIGINFO_BYTES)
    _, info = child.sys.raw("rt_sigtimedwait", ONLY_USR1, told, NO_TIME, len(ONLY_USR1))
    assert struct.unpack_from("<ii", info) == (SIGUSR1, 0)


@clause("pidfd_send_signal.2/info-null-si-code")
@lie(MADE_UP)
def test_without_information_the_code_is_that_of_kill(parent: Process) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None)
    assert taken(child).code == SI_USER


@clause("pidfd_send_signal.2/info-null-si-pid")
@lie(MADE_UP)
def test_without_information_the_sender_is_the_calling_process(parent: Process) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    thread = parent.thread()
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    thread.sys.pidfd_send_signal(pidfd, SIGUSR1, None)
    assert taken(child).pid == parent.own_pid


@clause("pidfd_send_signal.2/info-null-si-uid")
@lie(leaves_out("setresuid"))
def test_without_information_the_user_is_the_real_one(parent: Process) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.setresuid(SOMEBODY, -1, -1)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None)
    assert taken(child).uid == SOMEBODY


@clause("pidfd_send_signal.2/info-is-passed")
@lie(WITHOUT_INFO)
def test_a_given_information_is_passed(parent: Process) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1, TOLD)
    assert taken(child) == TOLD


@pytest.mark.parametrize("signal", [0, SIGUSR2], ids=["0", "USR2"])
@clause("pidfd_send_signal.2/info-signo-must-match")
@lie(WITHOUT_INFO)
def test_the_information_must_be_of_the_signal(parent: Process, signal: int) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    with fails(EINVAL):
        parent.sys.pidfd_send_signal(pidfd, SIGUSR1, TOLD._replace(signo=signal))
    assert child.sys.rt_sigpending() == set()


@clause("pidfd_send_signal.2/info-bad-address")
@lie(WITHOUT_INFO)
def test_information_that_cannot_be_read_is_refused(parent: Process) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    with fails(EFAULT):
        parent.sys.pidfd_send_signal(pidfd, SIGUSR1, NOWHERE)
    assert child.sys.rt_sigpending() == set()


@pytest.mark.parametrize("code", RESERVED)
@clause("pidfd_send_signal.2/eperm-si-code")
@lie(WITHOUT_INFO)
def test_to_another_process_some_codes_are_forbidden(parent: Process, code: int) -> None:
    child = blocking(parent.fork(), SIGUSR1)
    pidfd = parent.sys.pidfd_open(child.own_pid, 0)
    with fails(EPERM):
        parent.sys.pidfd_send_signal(pidfd, SIGUSR1, TOLD._replace(code=code))
    assert child.sys.rt_sigpending() == set()


@pytest.mark.parametrize("code", RESERVED)
@clause("pidfd_send_signal.2/own-process-any-si-code")
@lie(MADE_UP)
def test_to_itself_a_process_may_send_any_code(parent: Process, code: int) -> None:
    blocking(parent, SIGUSR1)
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1, TOLD._replace(code=code))
    assert taken(parent).code == code


# --- namespaces and permission ---


@clause("pidfd_send_signal.2/ancestor-namespace-allowed")
@lie(drops(CLONE_NEWPID))
def test_one_can_send_into_an_inner_namespace(parent: Process) -> None:
    init = new_init(parent)
    grandchild = blocking(init.fork("grandchild"), SIGUSR1)
    pidfd = parent.sys.pidfd_open(grandchild.pid, 0)
    parent.sys.pidfd_send_signal(pidfd, SIGUSR1)
    told = taken(grandchild)
    assert (told.code, told.pid) == (SI_USER, 0)


@pytest.mark.parametrize("signal", [0, SIGUSR1], ids=["0", "USR1"])
@clause("pidfd_send_signal.2/einval-namespace")
@lie(drops(CLONE_NEWPID))
def test_one_cannot_send_out_of_ones_namespace(parent: Process, signal: int) -> None:
    pidfd = blocking(parent, SIGUSR1).sys.pidfd_open(parent.own_pid, 0)
    init = new_init(parent)
    with fails(EINVAL):
        init.sys.pidfd_send_signal(pidfd, signal)
    assert parent.sys.rt_sigpending() == set()


@pytest.mark.parametrize("signal", [0, SIGUSR1], ids=["0", "USR1"])
@clause("pidfd_send_signal.2/eperm-no-permission")
@lie(leaves_out("setresuid"))
def test_another_users_process_gets_no_signal(parent: Process, signal: int) -> None:
    pidfd = blocking(parent, SIGUSR1).sys.pidfd_open(parent.own_pid, 0)
    child = parent.fork()
    child.sys.setresuid(SOMEBODY, SOMEBODY, SOMEBODY)
    with fails(EPERM):
        child.sys.pidfd_send_signal(pidfd, signal)
    assert parent.sys.rt_sigpending() == set()


# --- bad arguments ---


@pytest.mark.parametrize(
    "opened",
    [
        pytest.param(lambda process: process.sys.pipe()[0], id="pipe"),
        pytest.param(lambda process: -1, id="-1"),
        pytest.param(lambda process: CLOSED, id="closed"),
    ],
)
@clause("pidfd_send_signal.2/ebadf-not-a-pidfd")
@lie(NOT_SENT)
def test_what_is_no_pidfd_is_refused(parent: Process, opened: Callable[[Process], int]) -> None:
    with fails(EBADF):
        parent.sys.pidfd_send_signal(opened(parent), 0)


@pytest.mark.parametrize("signal", [-1, 65])
@clause("pidfd_send_signal.2/einval-signal")
@lie(given("signal 0", 1, 0))
def test_a_number_that_is_no_signal_is_refused(parent: Process, signal: int) -> None:
    pidfd = parent.sys.pidfd_open(parent.own_pid, 0)
    with fails(EINVAL):
        parent.sys.pidfd_send_signal(pidfd, signal)


@pytest.mark.parametrize("flag", [1 << bit for bit in range(3, 32)], ids=hex)
@clause("pidfd_send_signal.2/einval-flags", "pidfd_send_signal.2/accepted-flag-has-its-effect")
@lie(scope("the process", 0))
def test_a_flag_that_it_does_not_know_is_refused(parent: Process, flag: int) -> None:
    pidfd = blocking(parent, SIGUSR1).sys.pidfd_open(parent.own_pid, 0)
    with fails(EINVAL):
        parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None, flag)
    assert parent.sys.rt_sigpending() == set()


@pytest.mark.parametrize(
    "flags",
    [
        PIDFD_SIGNAL_THREAD | PIDFD_SIGNAL_THREAD_GROUP,
        PIDFD_SIGNAL_THREAD | PIDFD_SIGNAL_PROCESS_GROUP,
        PIDFD_SIGNAL_THREAD_GROUP | PIDFD_SIGNAL_PROCESS_GROUP,
    ],
)
@clause("pidfd_send_signal.2/einval-two-scopes")
@lie(scope("the thread", PIDFD_SIGNAL_THREAD))
def test_two_scopes_are_refused(parent: Process, flags: int) -> None:
    pidfd = blocking(parent, SIGUSR1).sys.pidfd_open(parent.own_pid, 0)
    with fails(EINVAL):
        parent.sys.pidfd_send_signal(pidfd, SIGUSR1, None, flags)
    assert parent.sys.rt_sigpending() == set()
