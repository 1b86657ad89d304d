"""Signals for threads: tkill(2), tgkill(2), and kill(2) with a thread's number."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Observer, Step, fails
from pytest_procsemantics.driven.constants import (
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VM,
    EAGAIN,
    EINVAL,
    EPERM,
    ESRCH,
    RLIMIT_SIGPENDING,
    SIG_BLOCK,
    SIGRTMIN,
    SIGUSR1,
)
from pytest_procsemantics.lies import (
    ENDED_CHILDREN_VANISH,
    Liar,
    Lie,
    adds,
    drops,
    function_does_nothing,
    instead,
    leaves_out,
    lie,
    passes,
    reports,
)
from pytest_procsemantics.requirements import new_init

USER = 1000


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
    init = new_init(parent)
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
@lie(leaves_out("setresuid"))
def test_another_users_thread_may_not_be_signalled(parent: Process) -> None:
    child = parent.fork()
    child.sys.setresuid(USER, USER, USER)
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
@lie(ENDED_CHILDREN_VANISH)
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
