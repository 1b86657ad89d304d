"""ptrace(2): exec by a tracee, alone and as one of several threads, and by a tracer."""

from __future__ import annotations

from typing import Any

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Step, fails
from pytest_procsemantics.driven.constants import (
    CLONE_THREAD,
    ECHILD,
    PTRACE_EVENT_EXEC,
    PTRACE_EVENT_EXIT,
    PTRACE_EVENT_FORK,
    PTRACE_EVENT_STOP,
    PTRACE_INTERRUPT,
    PTRACE_O_TRACEEXEC,
    PTRACE_O_TRACEEXIT,
    PTRACE_O_TRACEFORK,
    PTRACE_SETOPTIONS,
    PTRACE_TRACEME,
)
from pytest_procsemantics.driven.tracer import NOTHING, Tracer, end, stop
from pytest_procsemantics.lies import EXEC_IN_A_CHILD, Liar, Lie, drops, leaves_out, lie, passes

NO_THREAD = drops(CLONE_THREAD)
NO_OPTIONS = passes("no option is set", "ptrace", 3, 0)


class _ForgetsOptions(Liar):
    def ask_call(self, name: str, number: int, args: Any, decode: Any = None) -> Step:
        step = super().ask_call(name, number, args, decode)
        if name == "wait4" and step.arrives().status >> 16 == PTRACE_EVENT_EXEC:
            forgets = PTRACE_SETOPTIONS, step.result, 0, 0
            self.tell()
            super().ask_call("ptrace", self.sys.number("ptrace"), forgets).arrives()
        return step


FORGETS_OPTIONS = Lie("exec forgets the options", _ForgetsOptions)


def tracer_of(observer: Observer, process: Process) -> str:
    return observer.status_field(process, "TracerPid")


# --- a process with one thread ---


@clause("ptrace.2/tracing-kept-over-exec")
@lie(EXEC_IN_A_CHILD)
def test_a_tracee_is_traced_after_its_exec(
    parent: Process, observer: Observer, tracer: Tracer, tracee: Process
) -> None:
    tracer.seize(tracee)
    tracee.execve()
    assert tracer_of(observer, tracee) == str(parent.pid)


@clause("ptrace.2/tracer-kept-over-tracers-exec")
@lie(EXEC_IN_A_CHILD)
def test_a_tracer_traces_after_its_exec(
    parent: Process, observer: Observer, tracer: Tracer, tracee: Process
) -> None:
    tracer.seize(tracee)
    parent.execve()
    assert tracer_of(observer, tracee) == str(parent.pid)
    parent.sys.ptrace(PTRACE_INTERRUPT, tracee.tid, 0, 0)
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_STOP)


@clause("ptrace.2/traceexec-event", "ptrace.2/traceexec-message-is-former-tid")
@lie(NO_OPTIONS)
def test_the_event_of_exec_comes_instead_of_sigtrap(tracer: Tracer, tracee: Process) -> None:
    tracer.attach(tracee, PTRACE_O_TRACEEXEC)
    image = tracee.post.execve()
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXEC)
    assert tracer.message(tracee.tid) == tracee.tid
    tracer.go_on(tracee.tid)
    tracee.begin_image(image)
    assert tracer.told_now() == NOTHING


@clause("ptrace.2/seize-exec-gives-no-sigtrap")
@lie(passes("the event is asked for", "ptrace", 3, PTRACE_O_TRACEEXEC, hangs=True))
def test_a_seized_tracee_gets_no_sigtrap_at_exec(tracer: Tracer, tracee: Process) -> None:
    tracer.seize(tracee)
    tracee.execve()
    assert tracer.told_now() == NOTHING


@clause("ptrace.2/options-kept-over-exec")
@lie(FORGETS_OPTIONS)
def test_options_stay_over_exec(tracer: Tracer, tracee: Process) -> None:
    tracer.attach(tracee, PTRACE_O_TRACEEXEC | PTRACE_O_TRACEFORK)
    image = tracee.post.execve()
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXEC)
    tracer.go_on(tracee.tid)
    again = tracee.begin_image(image).post.execve()
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXEC)
    tracer.go_on(tracee.tid)
    tracee.begin_image(again).post.fork()
    assert tracer.told(tracee.tid) == stop(tracee.tid, PTRACE_EVENT_FORK)


# --- a process with several threads ---


@clause(
    "ptrace.2/other-threads-exit-event-at-exec",
    "ptrace.2/thread-exec-takes-leaders-id",
    "ptrace.2/traceexec-message-is-former-tid",
)
@lie(NO_THREAD)
def test_a_thread_that_calls_exec_is_told_of_as_the_leader(tracer: Tracer, tracee: Process) -> None:
    thread = tracee.thread()
    tracer.seize(tracee, PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)
    tracer.seize(thread, PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT)
    leader, former = tracee.tid, thread.tid
    image = thread.post.execve()
    assert tracer.told() == stop(leader, PTRACE_EVENT_EXIT)
    tracer.go_on(leader)
    assert tracer.told() == stop(leader, PTRACE_EVENT_EXEC)
    assert tracer.message(leader) == former
    tracer.go_on(leader)
    thread.begin_image(image).post.sys.exit_group(7)
    assert tracer.told() == stop(leader, PTRACE_EVENT_EXIT)
    tracer.go_on(leader)
    assert tracer.told() == end(leader, 7)
    with fails(ECHILD):
        tracer.told()


@clause("ptrace.2/exec-by-traced-thread-makes-leader-traced")
@lie(NO_THREAD)
def test_exec_by_a_traced_thread_makes_its_process_the_tracee(
    tracer: Tracer, tracee: Process
) -> None:
    thread = tracee.thread()
    tracer.seize(thread, PTRACE_O_TRACEEXEC)
    former, image = thread.tid, thread.post.execve()
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXEC)
    assert tracer.message(tracee.tid) == former
    tracer.go_on(tracee.tid)
    thread.begin_image(image).post.sys.exit_group(7)
    assert tracer.told() == end(tracee.tid, 7)


@clause("ptrace.2/no-other-thread-at-exec-event")
@lie(NO_THREAD)
def test_at_the_event_of_exec_the_process_has_one_thread(
    observer: Observer, tracer: Tracer, tracee: Process
) -> None:
    tracee.thread("other")
    thread = tracee.thread()
    tracer.seize(thread, PTRACE_O_TRACEEXEC)
    thread.post.execve()
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXEC)
    assert observer.threads(tracee) == 1


@clause("ptrace.2/other-threads-report-exit-zero-at-exec")
@lie(NO_THREAD)
def test_threads_that_exec_ends_but_the_leader_exit_with_0(tracer: Tracer, tracee: Process) -> None:
    second, third = tracee.thread("second"), tracee.thread("third")
    tracer.seize(tracee, PTRACE_O_TRACEEXEC)
    tracer.seize(second, PTRACE_O_TRACEEXEC)
    tracer.seize(third, PTRACE_O_TRACEEXEC)
    image = third.post.execve()
    assert tracer.told() == end(second.tid, 0)
    assert tracer.told() == stop(tracee.tid, PTRACE_EVENT_EXEC)
    tracer.go_on(tracee.tid)
    third.begin_image(image)
    assert tracer.told_now() == NOTHING


@clause("ptrace.2/exec-waits-for-traced-threads")
@lie(leaves_out("ptrace", hangs=True))
def test_exec_waits_until_the_end_of_a_traced_thread_is_told(
    observer: Observer, tracer: Tracer, tracee: Process
) -> None:
    thread = tracee.thread()
    thread.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)
    thread.exit_thread(5)
    image = tracee.post.execve()
    observer.wait_for_state(tracee, "D")
    assert not image.ready
    assert tracee.images == 0
    assert tracer.told(thread.tid) == end(thread.tid, 5)
    tracee.begin_image(image)


@clause("ptrace.2/traced-thread-can-be-waited-for")
@lie(leaves_out("ptrace"))
def test_the_end_of_a_traced_thread_is_told_with_its_id_and_code(
    tracer: Tracer, tracee: Process
) -> None:
    thread = tracee.thread()
    thread.sys.ptrace(PTRACE_TRACEME, 0, 0, 0)
    thread.exit_thread(5)
    assert tracer.told(thread.tid) == end(thread.tid, 5)
