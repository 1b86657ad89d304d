"""ptrace(2): the ends of tracees and of tracers, who hears of them, and whom one may trace."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Exit, Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_THREAD,
    ECHILD,
    EINVAL,
    EIO,
    EPERM,
    P_PID,
    PTRACE_ATTACH,
    PTRACE_CONT,
    PTRACE_EVENT_EXIT,
    PTRACE_EVENT_STOP,
    PTRACE_INTERRUPT,
    PTRACE_O_EXITKILL,
    PTRACE_O_TRACEEXIT,
    PTRACE_SETOPTIONS,
    PTRACE_TRACEME,
    SIGKILL,
    SIGSTOP,
    WEXITED,
    WNOHANG,
    WNOWAIT,
    WSTOPPED,
)
from pytest_procsemantics.driven.tracer import NOTHING, Tracer, end, stop
from pytest_procsemantics.lies import drops, leaves_out, lie, passes

NOT_TRACED = leaves_out("ptrace")
NO_OPTIONS = passes("no option is set", "ptrace", 3, 0)


IS_KEPT = passes(
    "the tracer keeps it there",
    "ptrace",
    0,
    lambda request: PTRACE_SETOPTIONS if request == PTRACE_CONT else request,
    hangs=True,
)


# --- the end of a tracee ---


@clause("ptrace.2/traceexit-event")
@lie(NO_OPTIONS)
def test_before_its_end_a_tracee_stops_with_its_code_as_message(
    tracer: Tracer, tracee: Process
) -> None:
    tracer.seize(tracee, PTRACE_O_TRACEEXIT)
    tracee.post.sys.exit_group(11)
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXIT)
    assert tracer.message(tracee.tid) == 11 << 8
    tracer.go_on(tracee.tid)
    assert tracer.told() == end(tracee.tid, 11)


@clause("ptrace.2/traceexit-cannot-be-prevented")
@lie(IS_KEPT)
def test_from_that_stop_a_tracee_goes_to_its_end_whatever_it_is_sent(
    parent: Process, tracer: Tracer, tracee: Process
) -> None:
    tracer.seize(tracee, PTRACE_O_TRACEEXIT)
    tracee.post.sys.exit_group(3)
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXIT)
    parent.sys.kill(tracee.own_pid, SIGSTOP)
    tracer.go_on(tracee.tid, SIGSTOP)
    assert tracer.told() == end(tracee.tid, 3)


@clause("ptrace.2/same-process-gets-one-report")
@lie(passes("the first report is repeated", "waitid", 3, WEXITED | WNOWAIT))
def test_a_tracer_that_is_the_parent_is_told_once(
    parent: Process, tracer: Tracer, tracee: Process
) -> None:
    tracer.seize(tracee)
    tracee.exit(4)
    assert parent.sys.waitid(P_PID, tracee.own_pid, WEXITED).status == 4
    with fails(ECHILD):
        parent.sys.waitid(P_PID, tracee.own_pid, WEXITED)


@clause("ptrace.2/end-is-reported-to-tracer-first")
@lie(NOT_TRACED)
def test_the_parent_is_told_of_the_end_when_the_tracer_knows(
    parent: Process, observer: Observer, tracer: Tracer
) -> None:
    real = parent.fork("real parent")
    tracee = real.fork("tracee")
    tracer.seize(tracee)
    tracee.exit(4)
    observer.wait_for_state(tracee, "Z")
    assert real.sys.waitid(P_PID, tracee.own_pid, WEXITED | WNOHANG) is None
    assert tracer.told() == end(tracee.tid, 4)
    assert real.sys.waitid(P_PID, tracee.own_pid, WEXITED | WNOHANG).status == 4


@clause("ptrace.2/stops-not-reported-to-real-parent-by-tracee-stops")
@lie(NOT_TRACED)
def test_the_parent_is_not_told_of_stops(
    parent: Process, observer: Observer, tracer: Tracer
) -> None:
    real = parent.fork("real parent")
    tracee = real.fork("tracee")
    tracer.seize(tracee)
    parent.sys.kill(tracee.own_pid, SIGSTOP)
    assert observer.state(tracee).lower() == "t"
    assert real.sys.waitid(P_PID, tracee.own_pid, WSTOPPED | WNOHANG) is None
    assert tracer.told() == stop(tracee.tid, signal=SIGSTOP)


@clause("ptrace.2/sigkill-ends-all-threads")
@lie(passes("it only stops", "kill", 1, SIGSTOP))
def test_sigkill_ends_threads_in_their_stops(
    parent: Process, tracer: Tracer, tracee: Process
) -> None:
    thread = tracee.thread()
    tracer.seize(tracee)
    tracer.seize(thread)
    parent.sys.ptrace(PTRACE_INTERRUPT, thread.tid, 0, 0)
    assert tracer.told() == stop(thread.tid, PTRACE_EVENT_STOP)
    parent.sys.kill(tracee.own_pid, SIGKILL)
    assert tracer.told() == end(thread.tid, signal=SIGKILL)
    assert tracer.told() == end(tracee.tid, signal=SIGKILL)


@clause("ptrace.2/exit-group-reports-every-tracee")
@lie(passes("another code", "exit_group", 0, 8))
def test_exit_group_is_told_of_each_traced_thread(tracer: Tracer, tracee: Process) -> None:
    thread = tracee.thread()
    tracer.seize(tracee)
    tracer.seize(thread)
    thread.post.sys.exit_group(9)
    assert tracer.told() == end(thread.tid, 9)
    assert tracer.told() == end(tracee.tid, 9)


@clause("ptrace.2/traced-leader-end-reported-last")
@lie(drops(CLONE_THREAD))
def test_the_end_of_a_traced_leader_is_told_when_all_threads_have_ended(
    observer: Observer, tracer: Tracer, tracee: Process
) -> None:
    thread = tracee.thread()
    tracer.seize(tracee, PTRACE_O_TRACEEXIT)
    tracer.seize(thread)
    tracee.post.sys.exit(7)
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXIT)
    tracer.go_on(tracee.tid)
    observer.wait_for_state(tracee, "Z")
    assert tracer.told_now(tracee.tid) == NOTHING
    thread.post.sys.exit(7)
    assert tracer.told() == end(thread.tid, 7)
    assert tracer.told() == end(tracee.tid, 7)


# --- the end of a tracer ---


@clause("ptrace.2/tracees-freed-when-tracer-ends")
@lie(passes("they are killed with it", "ptrace", 3, PTRACE_O_EXITKILL))
def test_when_a_tracer_ends_its_tracees_run_on(parent: Process, observer: Observer) -> None:
    process = parent.fork("tracer")
    tracee = process.fork("tracee")
    Tracer(process).seize(tracee)
    process.exit()
    assert observer.status_field(tracee, "TracerPid") == "0"
    assert tracee.sys.getpid() == tracee.own_pid


@clause("ptrace.2/exitkill-kills-tracees")
@lie(passes("no option is set", "ptrace", 3, 0, hangs=True))
def test_with_exitkill_they_are_killed(parent: Process) -> None:
    process = parent.fork("tracer")
    tracee = process.fork("tracee")
    Tracer(process).seize(tracee, PTRACE_O_EXITKILL)
    process.exit()
    assert tracee.wait_for_exit() == Exit(None, SIGKILL)


# --- whom one may trace ---


@clause("ptrace.2/traceme-twice-refused")
@lie(NOT_TRACED)
def test_who_is_traced_cannot_ask_for_it_again(tracee: Process) -> None:
    assert tracee.sys.ptrace(PTRACE_TRACEME, 0, 0, 0) == 0
    with fails(EPERM):
        tracee.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)


@clause("ptrace.2/attach-own-thread-refused")
@lie(drops(CLONE_THREAD))
def test_a_process_cannot_trace_a_thread_of_its_own(parent: Process) -> None:
    thread = parent.thread()
    with fails(EPERM):
        parent.sys.ptrace(PTRACE_ATTACH, thread.tid, 0, 0)


@clause("ptrace.2/attach-is-per-thread")
@lie(NOT_TRACED)
def test_each_thread_can_have_a_tracer_of_its_own(parent: Process, observer: Observer) -> None:
    other = parent.fork("other tracer")
    tracee = other.fork("tracee")
    thread = tracee.thread()
    Tracer(parent).seize(tracee)
    Tracer(other).seize(thread)
    assert observer.status_field(tracee, "TracerPid") == str(parent.pid)
    assert observer.status_field(thread, "TracerPid") == str(other.pid)


@pytest.mark.parametrize("bit", range(8, 16))
@clause("ptrace.2/unknown-option-refused")
@lie(NO_OPTIONS)
def test_an_unknown_option_is_refused(
    parent: Process, tracer: Tracer, tracee: Process, bit: int
) -> None:
    with fails(EIO):
        tracer.seize(tracee, 1 << bit)
    tracer.seize(tracee)
    parent.sys.ptrace(PTRACE_INTERRUPT, tracee.tid, 0, 0)
    tracer.told()
    with fails(EINVAL):
        parent.sys.ptrace(PTRACE_SETOPTIONS, tracee.tid, 0, 1 << bit)
