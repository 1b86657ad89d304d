"""_Fork(3): fork without the handlers of pthread_atfork."""

from __future__ import annotations

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Exit, Observer, fails
from pytest_procsemantics.driven.constants import (
    EAGAIN,
    SIG_BLOCK,
    SIG_IGN,
    SIG_UNBLOCK,
    SIGCHLD,
    SIGUSR2,
)
from pytest_procsemantics.lies import (
    before_function,
    function_becomes,
    function_does_nothing,
    function_given,
    in_library_child,
    lie,
)
from pytest_procsemantics.requirements import at_the_limit

PREPARE, PARENT, CHILD = 1, 2, 3
WITH_HANDLERS = function_becomes("_Fork", "fork")


def register_all(program: Process) -> None:
    """Have a handler for each of the three moments."""
    program.lib.pthread_atfork(*map(program.lib.handler, (PREPARE, PARENT, CHILD)))


@clause("_Fork.3/makes-a-child-like-fork")
@lie(function_given("another status", "_exit", 0, 4))
def test_a_child_is_made(program: Process) -> None:
    child = program.lib._Fork()
    assert child.sys.getppid() == program.own_pid
    child.lib._exit(3)
    assert child.wait_for_exit() == Exit(3)


@clause(
    "_Fork.3/prepare-handlers-not-called",
    "_Fork.3/parent-handlers-not-called",
    "_Fork.3/child-handlers-not-called",
)
@lie(WITH_HANDLERS)
def test_no_handler_is_called(program: Process) -> None:
    register_all(program)
    program.lib._Fork()
    assert program.lib.noted() == []
    program.lib.fork()
    assert sorted(program.lib.noted()) == [PREPARE, PARENT, CHILD]


@clause(
    "_Fork.3/eagain", "_Fork.3/failure-returns-minus-one", "_Fork.3/handlers-not-called-on-failure"
)
@lie(WITH_HANDLERS)
def test_at_the_limit_it_fails_and_calls_no_handler(program: Process) -> None:
    register_all(program)
    with at_the_limit(program), fails(EAGAIN):
        program.lib._Fork()
    assert program.lib.noted() == []


@clause("_Fork.3/child-has-one-thread")
@lie(
    in_library_child(
        "it has a thread more",
        lambda one: one.name == "child" and one.lib.pthread_create(name="more"),
    )
)
def test_the_child_has_one_thread(program: Process, observer: Observer) -> None:
    program.lib.pthread_create()
    child = program.lib._Fork()
    assert observer.threads(child) == 1
    assert child.sys.gettid() == child.own_pid


@clause("_Fork.3/pending-signals-cleared")
@lie(in_library_child("it gets one", lambda child: child.sys.kill(child.own_pid, SIGUSR2)))
def test_no_signal_is_pending_in_the_child(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2})
    program.sys.kill(program.own_pid, SIGUSR2)
    child = program.lib._Fork()
    assert child.sys.rt_sigpending() == set()
    assert program.sys.rt_sigpending() == {SIGUSR2}


@clause("_Fork.3/signal-mask-is-copied")
@lie(
    in_library_child(
        "it takes the signal", lambda child: child.sys.rt_sigprocmask(SIG_UNBLOCK, {SIGUSR2})
    )
)
def test_the_mask_is_the_callers(program: Process) -> None:
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2})
    child = program.lib._Fork()
    assert child.sys.rt_sigprocmask(SIG_BLOCK, set()) == {SIGUSR2}


@clause("_Fork.3/termination-signal-is-sigchld")
@lie(
    before_function(
        "the parent ignores it", "_Fork", lambda parent: parent.lib.signal(SIGCHLD, SIG_IGN)
    )
)
def test_the_childs_end_is_told_by_sigchld(program: Process) -> None:
    program.lib.signal(SIGCHLD, program.lib.handler(1))
    child = program.lib._Fork()
    child.lib._exit(0)
    assert program.lib.noted() == [1]


@clause("_Fork.3/exit-handlers-inherited")
@lie(function_does_nothing("atexit"))
def test_the_child_runs_the_exit_handlers(program: Process) -> None:
    program.lib.atexit(program.lib.handler(1))
    child = program.lib._Fork()
    child.lib.exit(0)
    assert [note.tid for note in program.lib.notes()] == [child.own_pid]


@clause("_Fork.3/returns-like-fork", "_Fork.3/memory-is-a-copy")
@lie(function_becomes("_Fork", "vfork", hangs=True))
def test_it_gives_the_childs_number_and_copies_the_memory(program: Process) -> None:
    cell = program.allocate(8)
    program.store(cell, 1)
    child = program.lib._Fork()
    assert child.creation
    assert child.creation.arrives() == child.sys.getpid() != program.own_pid
    child.store(cell, 2)
    assert (program.load(cell), child.load(cell)) == (1, 2)


@clause("_Fork.3/glibc-keeps-pthread-self-valid")
@lie(function_does_nothing("pthread_kill"))
def test_pthread_self_is_the_childs_only_thread(program: Process) -> None:
    program.lib.signal(SIGUSR2, program.lib.handler(1))
    thread = program.lib.pthread_create()
    child = thread.lib._Fork()
    child.lib.pthread_kill(child.lib.pthread_self(), SIGUSR2)
    assert [note.tid for note in child.lib.notes()] == [child.own_pid]
    assert child.lib.gettid() == child.lib.getpid() == child.own_pid


@clause("_Fork.3/glibc-registers-robust-list")
@lie(in_library_child("it has none", lambda child: child.sys.set_robust_list(0, 24)))
def test_the_child_has_a_robust_list(program: Process) -> None:
    child = program.lib._Fork()
    assert child.sys.get_robust_list()[0] != 0
