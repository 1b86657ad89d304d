"""pthread_create(3): the new thread begins, ends and is joined, and what is refused."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Exit, Observer, Out, fails
from pytest_procsemantics.driven.constants import (
    EAGAIN,
    EINVAL,
    ENOTSUP,
    ITIMER_REAL,
    RLIMIT_AS,
    SIGALRM,
)
from pytest_procsemantics.driven.library import (
    PTHREAD_CANCELED,
    PTHREAD_CREATE_DETACHED,
)
from pytest_procsemantics.lies import (
    HANDLERS_SWAPPED,
    THREAD_IS_A_CHILD,
    before_function,
    function_becomes,
    function_does_nothing,
    function_given,
    function_reports,
    in_library_child,
    leaves_out,
    lie,
    returns_otherwise,
)
from pytest_procsemantics.requirements import (
    at_the_limit,
)

OFTEN = 0.0001  # seconds
PROCESS_SCOPE = 1
UNKNOWN = 99


def joined(program: Process, thread: Process) -> int:
    """What a thread left for who joins it."""
    assert thread.creation
    _, value = program.lib.pthread_join(thread.creation.arrives(), Out(8))
    return int.from_bytes(value, "little")


@clause("pthread_create.3/starts-a-thread", "pthread_create.3/shares-process-id")
@lie(THREAD_IS_A_CHILD)
def test_a_thread_has_the_process_id_and_an_id_of_its_own(program: Process) -> None:
    thread = program.lib.pthread_create()
    assert thread.sys.getpid() == program.sys.getpid()
    assert thread.sys.getppid() == program.sys.getppid()
    assert thread.sys.gettid() != program.sys.gettid()


@clause("pthread_create.3/id-is-stored")
@lie(THREAD_IS_A_CHILD)
def test_the_id_is_stored(program: Process) -> None:
    thread = program.lib.pthread_create()
    assert program.lib.pthread_equal(thread.creation.arrives(), thread.lib.pthread_self())


@clause("pthread_create.3/id-unique-in-process")
@lie(THREAD_IS_A_CHILD)
def test_ids_are_unique(program: Process) -> None:
    first, second = program.lib.pthread_create(), program.lib.pthread_create()
    assert len({one.lib.pthread_self() for one in (program, first, second)}) == 3


@clause("pthread_create.3/returns-zero")
@lie(function_reports("pthread_create gives EINVAL", "pthread_create", lambda _: EINVAL))
def test_zero_is_returned(program: Process) -> None:
    assert program.lib.raw("pthread_create", Out(8), 0, program.lib.handler(1), 0)[0] == 0


@clause("pthread_create.3/start-routine-gets-argument")
@lie(HANDLERS_SWAPPED, function_given("another argument", "pthread_create", 3, 7))
def test_the_start_routine_gets_its_argument(program: Process) -> None:
    start = program.lib.handler(1)
    _, thread = program.lib.raw("pthread_create", Out(8), 0, start, 5)
    program.lib.pthread_join(int.from_bytes(thread, "little"), 0)
    assert [(note.handler, note.args[0]) for note in program.lib.notes()] == [(1, 5)]


@clause("pthread_create.3/return-equals-pthread-exit")
@lie(returns_otherwise("the value gets lost", lambda lib, _: lib.pthread_exit(0)))
def test_a_return_from_the_start_routine_ends_the_thread(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.lib.leave(0x66)
    assert joined(program, thread) == 0x66


@clause("pthread_create.3/ends-by-pthread-exit", "pthread_exit.3/value-for-join")
@lie(function_given("the value gets lost", "pthread_exit", 0, 0))
def test_pthread_exit_ends_the_thread(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.lib.pthread_exit(0x55)
    assert joined(program, thread) == 0x55


@clause("pthread_create.3/ends-by-cancel", "pthread_join.3/canceled-value")
@lie(function_does_nothing("pthread_cancel", hangs=True))
def test_a_cancelled_thread_ends(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.post.lib.pause()
    program.lib.pthread_cancel(thread.creation.arrives())
    assert joined(program, thread) == PTHREAD_CANCELED


@clause("pthread_create.3/exit-in-any-thread-ends-all")
@lie(function_becomes("exit", "pthread_exit", hangs=True))
def test_exit_in_a_thread_ends_all(program: Process) -> None:
    program.lib.atexit(program.lib.handler(0))
    child = program.lib.fork()
    child.lib.pthread_create().lib.exit(5)
    assert child.wait_for_exit() == Exit(5)
    assert program.lib.noted() == [0]


@clause("pthread_create.3/return-from-main-ends-all")
@lie(returns_otherwise("main ends its thread only", lambda lib, _: lib.pthread_exit(0), hangs=True))
def test_a_return_from_main_ends_all(program: Process) -> None:
    child = program.lib.fork()
    child.lib.pthread_create()
    child.lib.leave(3)
    assert child.wait_for_exit() == Exit(3)


@clause("pthread_create.3/joinable-by-default")
@lie(
    in_library_child(
        "it is detached", lambda thread: thread.lib.pthread_detach(thread.lib.pthread_self())
    )
)
def test_a_thread_is_joinable_by_default(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.lib.leave(1)
    assert joined(program, thread) == 1


@clause("pthread_create.3/create-detached", "pthread_join.3/einval-detached")
@lie(function_does_nothing("pthread_attr_setdetachstate", hangs=True))
def test_a_detached_thread_cannot_be_joined(program: Process) -> None:
    attributes = program.lib.thread_attributes()
    program.lib.pthread_attr_setdetachstate(attributes, PTHREAD_CREATE_DETACHED)
    thread = program.lib.pthread_create(attributes)
    with fails(EINVAL):
        joined(program, thread)


@clause("pthread_create.3/resources-kept-until-joined")
@lie(
    before_function(
        "it detaches itself",
        "pthread_exit",
        lambda thread: thread.lib.pthread_detach(thread.lib.pthread_self()),
    )
)
def test_the_stack_of_an_ended_thread_stays_until_it_is_joined(
    program: Process, observer: Observer
) -> None:
    thread = program.lib.pthread_create()
    thread.lib.pthread_exit(7)
    observer.wait_until_gone(thread)
    assert program.load_bytes(thread.stack_pointer, 1)
    assert joined(program, thread) == 7


@clause("pthread_create.3/eagain-rlimit-nproc")
@lie(leaves_out("prlimit64"))
def test_a_thread_beyond_the_limit_of_processes_is_refused(
    program: Process, observer: Observer
) -> None:
    with at_the_limit(program), fails(EAGAIN):
        program.lib.pthread_create()
    assert observer.threads(program) == 1
    assert program.lib.pthread_create().sys.getpid() == program.own_pid


def make_threads(program: Process, count: int) -> None:
    """Make threads that end at once, and join each before the next."""
    start = program.lib.handler(1)
    for _ in range(count):
        _, thread = program.lib.raw("pthread_create", Out(8), 0, start, 0)
        program.lib.pthread_join(int.from_bytes(thread, "little"), 0)


@clause("pthread_create.3/never-eintr")
@lie(function_becomes("pthread_create", "pause"))
def test_signals_never_interrupt_the_making_of_a_thread(program: Process, target: Target) -> None:
    program.lib.signal(SIGALRM, program.lib.handler(0))
    program.lib.siginterrupt(SIGALRM, 1)
    program.sys.setitimer(ITIMER_REAL, OFTEN, OFTEN)
    make_threads(program, 100)
    target.wait_until(lambda: 0 in program.lib.noted(), "a signal to be handled")


@clause("pthread_create.3/eagain-no-memory")
@lie(function_does_nothing("pthread_attr_setstacksize"))
def test_a_stack_beyond_the_limit_is_refused(program: Process) -> None:
    program.sys.setrlimit(RLIMIT_AS, (60 << 20, 60 << 20))
    attributes = program.lib.thread_attributes()
    program.lib.pthread_attr_setstacksize(attributes, 512 << 20)
    with fails(EAGAIN):
        program.lib.pthread_create(attributes)


@clause("pthread_create.3/setdetachstate-einval")
@lie(function_given("a known state", "pthread_attr_setdetachstate", 1, 0))
def test_an_unknown_detach_state_is_refused(program: Process) -> None:
    with fails(EINVAL):
        program.lib.pthread_attr_setdetachstate(program.lib.thread_attributes(), UNKNOWN)


@clause("pthread_create.3/setinheritsched-einval")
@lie(function_given("a known one", "pthread_attr_setinheritsched", 1, 0))
def test_an_unknown_scheduler_inheritance_is_refused(program: Process) -> None:
    with fails(EINVAL):
        program.lib.pthread_attr_setinheritsched(program.lib.thread_attributes(), UNKNOWN)


@clause("pthread_create.3/setscope-process-enotsup")
@lie(function_given("the system's scope", "pthread_attr_setscope", 1, 0))
def test_the_process_scope_is_not_supported(program: Process) -> None:
    with fails(ENOTSUP):
        program.lib.pthread_attr_setscope(program.lib.thread_attributes(), PROCESS_SCOPE)


@clause("pthread_create.3/setscope-einval")
@lie(function_given("a known scope", "pthread_attr_setscope", 1, 0))
def test_an_unknown_scope_is_refused(program: Process) -> None:
    with fails(EINVAL):
        program.lib.pthread_attr_setscope(program.lib.thread_attributes(), UNKNOWN)


@clause("pthread_create.3/setstacksize-einval")
@lie(function_given("a megabyte", "pthread_attr_setstacksize", 1, 1 << 20))
def test_a_tiny_stack_is_refused(program: Process) -> None:
    with fails(EINVAL):
        program.lib.pthread_attr_setstacksize(program.lib.thread_attributes(), 1024)
