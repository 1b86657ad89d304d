"""pthread_atfork(3): which handlers run, where, and in which order."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    EAGAIN,
    EBUSY,
    ITIMER_REAL,
    SIG_BLOCK,
    SIGALRM,
    SIGUSR1,
    SIGUSR2,
)
from pytest_procsemantics.driven.library import SIGSET, sigset
from pytest_procsemantics.driven.library_start import start_library
from pytest_procsemantics.lies import (
    HANDLERS_SWAPPED,
    before_function,
    function_becomes,
    function_does_nothing,
    function_given,
    leaves_out,
    lie,
)
from pytest_procsemantics.requirements import at_the_limit

PREPARE, PARENT, CHILD = 1, 2, 3
OFTEN = 0.0001  # seconds
NOTHING_REGISTERED = function_does_nothing("pthread_atfork")
WITHOUT_HANDLERS = function_becomes("fork", "_Fork")


def register(program: Process, *numbers: int) -> None:
    program.lib.pthread_atfork(*(number and program.lib.handler(number) for number in numbers))


def ran(program: Process, number: int) -> list[int]:
    """The processes in which a handler ran."""
    return [note.tid for note in program.lib.notes() if note.handler == number]


@clause("pthread_atfork.3/prepare-runs-before-fork")
@lie(
    NOTHING_REGISTERED, WITHOUT_HANDLERS, function_given("no such handler", "pthread_atfork", 0, 0)
)
def test_prepare_runs_in_the_parent_before_the_others(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    program.lib.fork()
    assert ran(program, PREPARE) == [program.pid]
    assert program.lib.noted()[0] == PREPARE


@clause("pthread_atfork.3/parent-runs-in-parent-after")
@lie(
    NOTHING_REGISTERED, WITHOUT_HANDLERS, function_given("no such handler", "pthread_atfork", 1, 0)
)
def test_the_parents_handler_runs_in_the_parent(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    program.lib.fork()
    assert ran(program, PARENT) == [program.pid]


@clause("pthread_atfork.3/child-runs-in-child-after")
@lie(
    NOTHING_REGISTERED, WITHOUT_HANDLERS, function_given("no such handler", "pthread_atfork", 2, 0)
)
def test_the_childs_handler_runs_in_the_child(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    child = program.lib.fork()
    assert ran(program, CHILD) == [child.pid]


@clause("pthread_atfork.3/run-in-the-forking-thread", "pthread_atfork.3/any-thread-triggers")
@lie(NOTHING_REGISTERED, WITHOUT_HANDLERS)
def test_handlers_run_in_the_thread_that_forks(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    thread = program.lib.pthread_create()
    child = thread.lib.fork()
    assert ran(program, PREPARE) == ran(program, PARENT) == [thread.tid]
    assert ran(program, CHILD) == [child.pid]


@clause("pthread_atfork.3/prepare-in-reverse-order")
@lie(HANDLERS_SWAPPED)
def test_prepare_handlers_run_in_reverse_order(program: Process) -> None:
    register(program, 1, 0, 0)
    register(program, 2, 0, 0)
    program.lib.fork()
    assert program.lib.noted() == [2, 1]


@clause("pthread_atfork.3/parent-in-order")
@lie(HANDLERS_SWAPPED)
def test_parent_handlers_run_in_order(program: Process) -> None:
    register(program, 0, 1, 0)
    register(program, 0, 2, 0)
    program.lib.fork()
    assert program.lib.noted() == [1, 2]


@clause("pthread_atfork.3/child-in-order")
@lie(HANDLERS_SWAPPED)
def test_child_handlers_run_in_order(program: Process) -> None:
    register(program, 0, 0, 1)
    register(program, 0, 0, 2)
    program.lib.fork()
    assert program.lib.noted() == [1, 2]


@clause("pthread_atfork.3/registered-several-times")
@lie(NOTHING_REGISTERED)
def test_a_handler_that_is_registered_twice_runs_twice(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    register(program, PREPARE, PARENT, CHILD)
    child = program.lib.fork()
    assert ran(program, PREPARE) == ran(program, PARENT) == [program.pid] * 2
    assert ran(program, CHILD) == [child.pid] * 2


@clause("pthread_atfork.3/null-handlers-allowed")
@lie(NOTHING_REGISTERED)
def test_each_handler_may_be_left_out(program: Process) -> None:
    register(program, 0, 0, 0)
    register(program, PREPARE, 0, 0)
    register(program, 0, PARENT, 0)
    register(program, 0, 0, CHILD)
    program.lib.fork()
    assert sorted(program.lib.noted()) == [PREPARE, PARENT, CHILD]


@clause("pthread_atfork.3/handlers-are-inherited")
@lie(WITHOUT_HANDLERS)
def test_handlers_are_inherited(program: Process) -> None:
    child = program.lib._Fork()
    register(child, 0, 0, CHILD)
    grandchild = child.lib._Fork()
    youngest = grandchild.lib.fork()
    assert ran(program, CHILD) == [youngest.pid]


@clause("pthread_atfork.3/registered-during-fork-runs-at-next")
@lie(before_function("they are there already", "fork", lambda p: register(p, 2, 3, 4)))
def test_what_a_handler_registers_runs_at_the_next_fork(program: Process) -> None:
    further = [program.lib.handler(number) for number in (2, 3, 4)]
    program.lib.pthread_atfork(program.lib.handler(1, "pthread_atfork", *further), 0, 0)
    program.lib.fork()
    assert program.lib.noted() == [1]
    program.lib.fork()
    assert sorted(program.lib.noted()[1:]) == [1, 2, 3, 4]


@clause("pthread_atfork.3/signal-mask-during-handlers")
@lie(before_function("one more", "fork", lambda p: p.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR2})))
def test_handlers_run_with_the_callers_mask(program: Process) -> None:
    seen = program.allocate(3 * SIGSET, shared=True)
    places = [seen + SIGSET * index for index in range(3)]
    handlers = [
        program.lib.handler(number, "pthread_sigmask", SIG_BLOCK, 0, place)
        for number, place in enumerate(places)
    ]
    program.lib.pthread_atfork(*handlers)
    program.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    program.lib.fork()
    assert program.load_bytes(seen, 3 * SIGSET) == sigset(SIGUSR1) * 3


@clause("pthread_atfork.3/removed-by-exec")
@lie(before_function("registers again", "fork", lambda p: register(p, PREPARE, PARENT, CHILD)))
def test_exec_removes_handlers(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    start_library(program).lib.fork()
    assert program.lib.noted() == []


@clause("posix.fork/underscore-fork-no-handlers")
@lie(function_becomes("_Fork", "fork"))
def test_underscore_fork_runs_no_handlers(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    program.lib._Fork()
    assert program.lib.noted() == []


@clause("pthread_atfork.3/not-run-by-raw-fork")
@lie(function_becomes("syscall", "fork"))
def test_the_system_call_runs_no_handlers(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    child = program.lib.raw_clone()
    assert program.lib.noted() == child.lib.noted() == []


@clause("vfork.2/atfork-handlers-not-called")
@lie(function_becomes("vfork", "fork"))
def test_vfork_runs_no_handlers(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    child = program.lib.vfork()
    child.lib._exit(0)
    child.creation.arrives()
    assert program.lib.noted() == []


@clause("pthread_atfork.3/returns-zero")
@lie(function_given("no such handler", "pthread_atfork", 0, 0))
def test_registration_gives_zero(program: Process) -> None:
    handler = program.lib.handler(PREPARE)
    assert program.lib.pthread_atfork(handler, 0, 0) == 0
    program.lib.fork()
    assert program.lib.noted() == [PREPARE]


def register_often(program: Process, count: int) -> None:
    """Register one handler so many times."""
    handler = program.lib.handler(PREPARE)
    for _ in range(count):
        program.lib.pthread_atfork(handler, 0, 0)


@clause("pthread_atfork.3/never-eintr")
@lie(function_becomes("pthread_atfork", "pause"))
def test_signals_never_interrupt_a_registration(program: Process, target: Target) -> None:
    program.lib.signal(SIGALRM, program.lib.handler(0))
    program.lib.siginterrupt(SIGALRM, 1)
    program.sys.setitimer(ITIMER_REAL, OFTEN, OFTEN)
    register_often(program, 100)
    target.wait_until(lambda: 0 in program.lib.noted(), "a signal to be handled")


@clause("pthread_atfork.3/parent-handlers-run-after-failed-fork")
@lie(NOTHING_REGISTERED)
def test_a_failed_fork_runs_the_parents_handlers(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    with at_the_limit(program), fails(EAGAIN):
        program.lib.fork()
    assert program.lib.noted() == [PREPARE, PARENT]


@clause("pthread_atfork.3/handlers-do-not-hide-errno")
@lie(leaves_out("prlimit64"))
def test_handlers_that_fail_do_not_hide_the_error_of_fork(program: Process) -> None:
    failing = [program.lib.handler(number, "close", -1) for number in (PREPARE, PARENT, CHILD)]
    program.lib.pthread_atfork(*failing)
    with at_the_limit(program), fails(EAGAIN):
        program.lib.fork()
    assert program.lib.noted() == [PREPARE, PARENT]


@clause("fork.2/glibc-fork-runs-atfork-handlers")
@lie(NOTHING_REGISTERED, WITHOUT_HANDLERS, HANDLERS_SWAPPED)
def test_fork_runs_the_handlers_each_on_its_side(program: Process) -> None:
    register(program, PREPARE, PARENT, CHILD)
    child = program.lib.fork()
    assert program.lib.noted()[:1] == [PREPARE]
    assert ran(program, PREPARE) == ran(program, PARENT) == [program.pid]
    assert ran(program, CHILD) == [child.pid]


# --- mutexes, which the handlers are there for ---


@clause("pthread_atfork.3/without-handler-mutex-stays-locked")
@lie(function_does_nothing("pthread_mutex_lock"))
def test_without_handlers_a_mutex_of_another_thread_stays_locked(program: Process) -> None:
    mutex, thread = program.allocate(64), program.lib.pthread_create()
    thread.lib.pthread_mutex_lock(mutex)
    child = program.lib.fork()
    thread.lib.pthread_mutex_unlock(mutex)
    with fails(EBUSY):
        child.lib.pthread_mutex_trylock(mutex)


@clause("pthread_atfork.3/mutex-taken-in-prepare-is-usable-in-child")
@lie(NOTHING_REGISTERED, function_given("the child's does nothing", "pthread_atfork", 2, 0))
def test_a_mutex_that_handlers_take_and_release_is_free_in_the_child(
    program: Process, observer: Observer
) -> None:
    mutex, thread = program.allocate(64), program.lib.pthread_create()
    taking = program.lib.handler(PREPARE, "pthread_mutex_lock", mutex)
    releasing = program.lib.handler(CHILD, "pthread_mutex_unlock", mutex)
    program.lib.pthread_atfork(taking, releasing, releasing)
    thread.lib.pthread_mutex_lock(mutex)
    forking = program.post.lib.fork()
    observer.wait_for_state(program, "S")
    thread.lib.pthread_mutex_unlock(mutex)
    child = forking.begin()
    assert child.lib.pthread_mutex_trylock(mutex) == 0
    assert thread.lib.noted()[0] == PREPARE
