"""clone(2): signals for a process with several threads."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, Step, fails
from pytest_procsemantics.driven.constants import (
    CLONE_THREAD,
    EINTR,
    SIG_BLOCK,
    SIG_SETMASK,
    SIG_UNBLOCK,
    SIGCONT,
    SIGRTMIN,
    SIGSTOP,
    SIGTERM,
    SIGUSR1,
    SIGUSR2,
)
from pytest_procsemantics.lies import by_maker_too, drops, in_child, leaves_out, lie, twice

NEVER_A_THREAD = drops(CLONE_THREAD)


# --- what befalls all ---


@clause("clone.2/thread-fatal-signal-ends-group")
@lie(NEVER_A_THREAD)
def test_a_fatal_signal_for_one_thread_ends_all(parent: Process, target: Target) -> None:
    child = parent.fork()
    thread = child.thread()
    parent.sys.tgkill(child.own_pid, thread.tid, SIGTERM)
    assert child.wait_for_exit().signal == SIGTERM
    target.wait_for_end(thread)


@clause("clone.2/thread-stop-signal-stops-group")
@lie(NEVER_A_THREAD)
def test_a_stop_signal_for_one_thread_stops_all(parent: Process, observer: Observer) -> None:
    child = parent.fork()
    thread = child.thread()
    parent.sys.tgkill(child.own_pid, thread.tid, SIGSTOP)
    observer.wait_for_state(child, "T")
    observer.wait_for_state(thread, "T")
    parent.sys.kill(child.own_pid, SIGCONT)
    assert child.sys.getpid() == thread.sys.getpid() == child.own_pid


# --- masks ---


@clause("clone.2/thread-own-mask")
@lie(by_maker_too("rt_sigprocmask"))
def test_each_thread_has_a_mask_of_its_own(parent: Process) -> None:
    thread = parent.thread()
    thread.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    assert parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2}) == frozenset()
    assert thread.sys.rt_sigprocmask() == {SIGUSR1}


@clause("clone.2/thread-inherits-mask")
@lie(in_child("nothing is blocked", lambda thread: thread.sys.rt_sigprocmask(SIG_SETMASK, set())))
def test_a_thread_begins_with_its_makers_mask(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1, SIGRTMIN})
    assert parent.thread().sys.rt_sigprocmask() == {SIGUSR1, SIGRTMIN}


# --- who gets it ---


@clause("clone.2/process-directed-signal-any-unblocking-thread")
@lie(NEVER_A_THREAD)
def test_a_signal_for_the_process_goes_to_a_thread_that_does_not_block_it(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    thread = parent.thread()
    thread.sys.rt_sigprocmask(SIG_UNBLOCK, {SIGUSR1})
    parent.sys.kill(parent.own_pid, SIGUSR1)
    thread.sys.getpid()
    assert parent.sys.rt_sigpending() == frozenset()
    assert parent.count(SIGUSR1) == 1


@clause("clone.2/process-directed-signal-once")
@lie(twice("rt_sigqueueinfo"), leaves_out("rt_sigqueueinfo"))
def test_a_signal_for_the_process_is_handled_once(parent: Process) -> None:
    parent.count_signals(SIGRTMIN)
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGRTMIN})
    first, second = parent.thread("first"), parent.thread("second")
    parent.sys.rt_sigqueueinfo(parent.own_pid, SIGRTMIN)
    parent.sys.rt_sigqueueinfo(parent.own_pid, SIGRTMIN)
    first.sys.rt_sigprocmask(SIG_UNBLOCK, {SIGRTMIN})
    second.sys.rt_sigprocmask(SIG_UNBLOCK, {SIGRTMIN})
    parent.sys.rt_sigprocmask(SIG_UNBLOCK, {SIGRTMIN})
    assert parent.count(SIGRTMIN) == 2


@clause("clone.2/thread-directed-signal")
@lie(NEVER_A_THREAD)
def test_a_signal_for_a_thread_is_handled_by_that_thread(parent: Process) -> None:
    parent.count_signals(SIGUSR1)
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    addressed, other = parent.thread("addressed"), parent.thread("other")
    interrupted = addressed.post.sys.rt_sigsuspend(set())
    waiting = other.post.sys.rt_sigsuspend(set())
    parent.sys.tgkill(parent.own_pid, addressed.tid, SIGUSR1)
    with fails(EINTR):
        interrupted.arrives()
    assert parent.count(SIGUSR1) == 1
    assert not waiting.ready


@clause("clone.2/pending-is-union")
@lie(NEVER_A_THREAD)
def test_pending_are_the_processes_signals_and_the_threads_own(parent: Process) -> None:
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1, SIGUSR2})
    thread = parent.thread()
    parent.sys.kill(parent.own_pid, SIGUSR1)
    parent.sys.tgkill(thread.own_pid, thread.tid, SIGUSR2)
    assert thread.sys.rt_sigpending() == {SIGUSR1, SIGUSR2}
    assert parent.sys.rt_sigpending() == {SIGUSR1}


def takes(thread: Process, signal: int, observer: Observer) -> Step:
    """Let a thread wait for a blocked signal; it waits when this returns: its signal shows as not blocked then."""
    step: Step = thread.post.sys.rt_sigtimedwait({signal})
    thread.target.wait_until(
        lambda: not int(observer.status_field(thread, "SigBlk"), 16) & 1 << signal - 1,
        f"{thread} to wait for a signal",
    )
    return step


@clause("clone.2/sigwaitinfo-one-thread-receives")
@lie(twice("rt_sigqueueinfo"))
def test_one_of_the_threads_that_wait_receives_the_signal(
    parent: Process, target: Target, observer: Observer
) -> None:
    parent.count_signals(SIGUSR1)
    parent.sys.rt_sigprocmask(SIG_BLOCK, {SIGRTMIN})
    threads = parent.thread("first"), parent.thread("second")
    first, second = (takes(thread, SIGRTMIN, observer) for thread in threads)
    parent.sys.rt_sigqueueinfo(parent.own_pid, SIGRTMIN)
    target.wait_until(lambda: first.ready or second.ready, "a thread to receive the signal")
    # Linux may have ended the other's wait too, with EINTR; where it has not, a handled signal does.
    parent.sys.tgkill(parent.own_pid, threads[0].tid, SIGUSR1)
    parent.sys.tgkill(parent.own_pid, threads[1].tid, SIGUSR1)
    target.wait_until(lambda: first.ready and second.ready, "both threads to go on")
    assert {first.result, second.result} == {SIGRTMIN, -EINTR}
    assert parent.sys.rt_sigpending() == frozenset()
