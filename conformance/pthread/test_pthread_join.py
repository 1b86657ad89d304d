"""pthread_join(3), pthread_detach(3), pthread_exit(3): the ends of threads."""

from __future__ import annotations

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Exit, Observer, Out, fails
from pytest_procsemantics.driven.constants import (
    EBUSY,
    EDEADLK,
    EINVAL,
    ETIMEDOUT,
    P_PID,
    SIG_BLOCK,
    SIG_UNBLOCK,
    SIGUSR1,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.driven.library import PTHREAD_CREATE_DETACHED
from pytest_procsemantics.lies import (
    before_function,
    function_becomes,
    function_does_nothing,
    function_given,
    function_reports,
    in_library_child,
    lie,
    returns_otherwise,
)


def handle(thread: Process) -> int:
    """The thread's id as its maker got it."""
    return int(thread.creation.arrives()) if thread.creation else 0


def word(value: int) -> bytes:
    return value.to_bytes(8, "little")


def time(seconds: int, nanoseconds: int = 0) -> bytes:
    """A point of time, for pthread_timedjoin_np."""
    return word(seconds) + word(nanoseconds)


@clause("pthread_join.3/waits-for-end")
@lie(function_does_nothing("pthread_join"))
def test_join_waits_for_the_end(program: Process, target: Target) -> None:
    thread = program.lib.pthread_create()
    join = program.post.lib.pthread_join(handle(thread), Out(8))
    target.observer.wait_for_state(program, "S")
    thread.sys.getpid()
    assert not join.ready
    thread.lib.pthread_exit(7)
    assert join.arrives() == (0, word(7))


@clause("pthread_join.3/returns-at-once-when-ended")
@lie(function_becomes("pthread_join", "pthread_detach"))
def test_join_of_an_ended_thread_gives_its_value(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.lib.pthread_exit(7)
    assert program.lib.pthread_join(handle(thread), Out(8)) == (0, word(7))


@clause("pthread_join.3/gives-exit-value")
@lie(function_given("other values", "pthread_exit", 0, lambda value: value + 1))
def test_join_gives_the_value_of_each_end(program: Process) -> None:
    returning, exiting = program.lib.pthread_create(), program.lib.pthread_create()
    returning.lib.leave(0x66)
    exiting.lib.pthread_exit(0x55)
    assert program.lib.pthread_join(handle(returning), Out(8)) == (0, word(0x66))
    assert program.lib.pthread_join(handle(exiting), Out(8)) == (0, word(0x55))


@clause("pthread_join.3/retval-may-be-null", "pthread_join.3/returns-zero")
@lie(function_reports("join gives EINVAL", "pthread_join", lambda _: EINVAL))
def test_the_value_need_not_be_taken(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.lib.pthread_exit(7)
    assert program.lib.pthread_join(handle(thread), 0) == 0


@clause("pthread_join.3/any-thread-can-join-any")
@lie(in_library_child("it is detached", lambda one: one.lib.pthread_detach(one.lib.pthread_self())))
def test_a_thread_can_join_its_sibling(program: Process) -> None:
    first, second = program.lib.pthread_create(), program.lib.pthread_create()
    first.lib.pthread_exit(9)
    assert second.lib.pthread_join(handle(first), Out(8)) == (0, word(9))


@clause("pthread_join.3/edeadlk-self")
@lie(function_does_nothing("pthread_join"))
def test_a_thread_cannot_join_itself(program: Process) -> None:
    with fails(EDEADLK):
        program.lib.pthread_join(program.lib.pthread_self(), 0)


@clause("pthread_join.3/tryjoin-ebusy")
@lie(function_does_nothing("pthread_tryjoin_np"))
def test_tryjoin_does_not_wait(program: Process) -> None:
    thread = program.lib.pthread_create()
    with fails(EBUSY):
        program.lib.pthread_tryjoin_np(handle(thread), 0)
    thread.lib.pthread_exit(7)
    assert program.lib.pthread_tryjoin_np(handle(thread), Out(8)) == (0, word(7))


@clause("pthread_join.3/timedjoin-etimedout")
@lie(function_becomes("pthread_timedjoin_np", "pthread_tryjoin_np"))
def test_timedjoin_waits_until_its_time_only(program: Process) -> None:
    thread = program.lib.pthread_create()
    with fails(ETIMEDOUT):
        program.lib.pthread_timedjoin_np(handle(thread), 0, time(1))
    thread.lib.pthread_exit(7)
    assert program.lib.pthread_timedjoin_np(handle(thread), Out(8), time(1)) == (0, word(7))


@clause("pthread_join.3/edeadlk-each-other")
@lie(function_does_nothing("pthread_join"))
def test_threads_cannot_join_each_other(program: Process, observer: Observer) -> None:
    main, thread = program.lib.pthread_self(), program.lib.pthread_create()
    first = program.post.lib.pthread_join(handle(thread), 0)
    observer.wait_for_state(program, "S")
    second = thread.post.lib.pthread_join(main, 0)
    observer.wait_for_state(thread, "S")
    assert second.ready
    assert not first.ready
    with fails(EDEADLK):
        second.arrives()


@clause("pthread_join.3/einval-second-joiner")
@lie(function_does_nothing("pthread_join"))
def test_a_thread_cannot_be_joined_by_two(program: Process, observer: Observer) -> None:
    thread, other = program.lib.pthread_create(), program.lib.pthread_create(name="other")
    first = other.post.lib.pthread_join(handle(thread), 0)
    observer.wait_for_state(other, "S")
    second = program.post.lib.pthread_join(handle(thread), 0)
    observer.wait_for_state(program, "S")
    assert second.ready
    assert not first.ready
    with fails(EINVAL):
        second.arrives()


@clause("pthread_join.3/not-interrupted-by-signals")
@lie(function_becomes("pthread_join", "pause"))
def test_a_signal_does_not_end_the_wait_for_the_end(program: Process, target: Target) -> None:
    program.lib.signal(SIGUSR1, program.lib.handler(1))
    program.lib.siginterrupt(SIGUSR1, 1)
    thread = program.lib.pthread_create()
    join = program.post.lib.pthread_join(handle(thread), Out(8))
    target.observer.wait_for_state(program, "S")
    thread.sys.tgkill(thread.own_pid, program.tid, SIGUSR1)
    target.wait_until(lambda: thread.lib.noted() == [1], "the handler to run")
    target.observer.wait_for_state(program, "S")
    assert not join.ready
    thread.lib.pthread_exit(7)
    assert join.arrives() == (0, word(7))


@clause("pthread_join.3/thread-has-ended-after-join")
@lie(function_does_nothing("pthread_join"))
def test_a_thread_that_was_joined_has_ended(program: Process, target: Target) -> None:
    cell, thread = program.allocate(8), program.lib.pthread_create()
    join = program.post.lib.pthread_join(handle(thread), 0)
    target.observer.wait_for_state(program, "S")
    assert not join.ready
    thread.store(cell, 42)
    thread.lib.leave(0)
    join.arrives()
    assert program.load(cell) == 42
    target.observer.wait_until_gone(thread)


# --- what an ended thread leaves ---


def size_of(program: Process) -> int:
    """The size of all mappings, in kB."""
    return int(program.target.observer.status_field(program, "VmSize").split()[0])


def ends(thread: Process) -> Process:
    """End a thread, and wait until the kernel has none any more."""
    thread.lib.pthread_exit(0)
    thread.target.observer.wait_until_gone(thread)
    return thread


@clause("pthread_join.3/unjoined-keeps-resources")
@lie(in_library_child("it is detached", lambda one: one.lib.pthread_detach(one.lib.pthread_self())))
def test_a_thread_that_nobody_joins_keeps_its_stack(program: Process) -> None:
    first = ends(program.lib.pthread_create())
    size = size_of(program)
    second = ends(program.lib.pthread_create())
    assert size_of(program) > size
    assert first.stack_pointer != second.stack_pointer


@clause("pthread_detach.3/resources-released-at-end")
@lie(function_does_nothing("pthread_detach"))
def test_a_detached_thread_leaves_nothing(program: Process) -> None:
    first = program.lib.pthread_create()
    program.lib.pthread_detach(handle(first))
    ends(first)
    size = size_of(program)
    second = program.lib.pthread_create()
    program.lib.pthread_detach(handle(second))
    ends(second)
    assert size_of(program) == size


@clause("pthread_create.3/detached-releases-by-itself")
@lie(function_does_nothing("pthread_attr_setdetachstate"))
def test_a_thread_that_was_made_detached_leaves_nothing(program: Process) -> None:
    attributes = program.lib.thread_attributes()
    program.lib.pthread_attr_setdetachstate(attributes, PTHREAD_CREATE_DETACHED)
    ends(program.lib.pthread_create(attributes))
    size = size_of(program)
    ends(program.lib.pthread_create(attributes))
    assert size_of(program) == size


@clause("pthread_detach.3/ended-thread-released-by-detach")
@lie(function_does_nothing("pthread_detach"))
def test_an_ended_thread_that_is_detached_leaves_nothing(program: Process) -> None:
    first = ends(program.lib.pthread_create())
    assert program.lib.pthread_detach(handle(first)) == 0
    size = size_of(program)
    ends(program.lib.pthread_create())
    assert size_of(program) == size


@clause("pthread_join.3/unjoined-freed-with-process", "pthread_detach.3/detached-ends-with-process")
@lie(before_function("main ends alone", "exit", lambda p: p.post.lib.pthread_exit(0), hangs=True))
def test_threads_do_not_outlive_the_process(program: Process) -> None:
    child = program.lib.fork()
    child.lib.pthread_create()
    child.lib.pthread_detach(handle(child.lib.pthread_create()))
    child.lib.exit(3)
    assert child.wait_for_exit() == Exit(3)


@clause("pthread_join.3/cancelled-joiner-leaves-target-joinable")
@lie(function_does_nothing("pthread_join", hangs=True))
def test_when_the_joiner_is_cancelled_the_thread_stays_joinable(
    program: Process, target: Target
) -> None:
    thread, joiner = program.lib.pthread_create(), program.lib.pthread_create(name="joiner")
    joiner.post.lib.pthread_join(handle(thread), 0)
    target.observer.wait_for_state(joiner, "S")
    program.lib.pthread_cancel(handle(joiner))
    target.wait_for_end(joiner)
    thread.lib.leave(5)
    assert program.lib.pthread_join(handle(thread), Out(8)) == (0, word(5))


@clause("pthread_detach.3/returns-zero", "pthread_detach.3/marks-detached")
@lie(function_does_nothing("pthread_detach", hangs=True))
def test_a_detached_thread_runs_on_and_cannot_be_joined(program: Process) -> None:
    thread = program.lib.pthread_create()
    assert program.lib.pthread_detach(handle(thread)) == 0
    with fails(EINVAL):
        program.lib.pthread_join(handle(thread), 0)
    assert thread.sys.getpid() == program.pid


@clause("pthread_detach.3/thread-may-detach-itself")
@lie(function_does_nothing("pthread_detach", hangs=True))
def test_a_thread_can_detach_itself(program: Process) -> None:
    thread = program.lib.pthread_create()
    assert thread.lib.pthread_detach(thread.lib.pthread_self()) == 0
    with fails(EINVAL):
        program.lib.pthread_join(handle(thread), 0)


@clause("pthread_detach.3/einval-not-joinable")
@lie(function_does_nothing("pthread_detach"))
def test_a_detached_thread_cannot_be_detached_again(program: Process) -> None:
    thread = program.lib.pthread_create()
    program.lib.pthread_detach(handle(thread))
    with fails(EINVAL):
        program.lib.pthread_detach(handle(thread))


@clause("pthread_exit.3/ends-calling-thread")
@lie(function_becomes("pthread_exit", "exit"))
def test_pthread_exit_ends_one_thread_only(program: Process, target: Target) -> None:
    thread = program.lib.pthread_create()
    thread.lib.pthread_exit(0)
    assert program.sys.getpid() == program.pid
    assert target.observer.threads(program) == 1


@clause("pthread_exit.3/destructors-only-for-set-keys")
@lie(function_does_nothing("pthread_setspecific"))
def test_destructors_run_for_keys_that_are_set(program: Process) -> None:
    _, set_key = program.lib.pthread_key_create(Out(4), program.lib.handler(1))
    program.lib.pthread_key_create(Out(4), program.lib.handler(2))
    thread = program.lib.pthread_create()
    thread.lib.pthread_setspecific(set_key[0], 77)
    thread.lib.pthread_exit(0)
    notes = program.lib.notes()
    assert [(note.handler, note.tid, note.args[0]) for note in notes] == [(1, thread.tid, 77)]


@clause("pthread_exit.3/descriptors-not-closed")
@lie(before_function("descriptors are closed", "pthread_exit", lambda one: one.sys.close(40)))
def test_descriptors_of_an_ended_thread_stay_open(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.sys.dup3(0, 40, 0)
    thread.lib.pthread_exit(0)
    assert program.sys.close(40) == 0


@clause("pthread_exit.3/mutexes-not-released")
@lie(function_does_nothing("pthread_mutex_lock"))
def test_a_mutex_of_an_ended_thread_stays_locked(program: Process) -> None:
    mutex = program.allocate(64)
    thread = program.lib.pthread_create()
    thread.lib.pthread_mutex_lock(mutex)
    thread.lib.pthread_exit(0)
    with fails(EBUSY):
        program.lib.pthread_mutex_trylock(mutex)


@clause("pthread_exit.3/blocked-signal-not-delivered-at-end")
@lie(
    before_function(
        "it is unblocked",
        "pthread_exit",
        lambda thread: thread.sys.rt_sigprocmask(SIG_UNBLOCK, {SIGUSR1}),
    )
)
def test_a_blocked_signal_is_not_delivered_while_the_thread_ends(program: Process) -> None:
    program.lib.signal(SIGUSR1, program.lib.handler(1))
    thread = program.lib.pthread_create()
    thread.sys.rt_sigprocmask(SIG_BLOCK, {SIGUSR1})
    thread.sys.tgkill(thread.own_pid, thread.tid, SIGUSR1)
    thread.lib.pthread_exit(0)
    assert program.lib.noted() == []


@clause("pthread_exit.3/atexit-not-run-at-thread-end")
@lie(function_becomes("pthread_exit", "exit"))
def test_exit_handlers_do_not_run_when_a_thread_ends(program: Process) -> None:
    program.lib.atexit(program.lib.handler(0))
    child = program.lib.fork()
    child.lib.pthread_create().lib.pthread_exit(0)
    assert child.lib.noted() == []


@clause(
    "pthread_exit.3/main-thread-may-end-first",
    "pthread_exit.3/leader-not-waitable-while-threads-live",
)
@lie(function_becomes("pthread_exit", "exit"))
def test_threads_go_on_after_main_has_ended(program: Process, target: Target) -> None:
    child = program.lib.fork()
    thread = child.lib.pthread_create()
    child.post.lib.pthread_exit(0x77)
    target.observer.wait_for_state(child, "Z")
    assert thread.sys.getpid() == child.pid
    assert program.sys.waitid(P_PID, child.pid, WEXITED | WNOHANG) is None


@clause("pthread_exit.3/does-not-return")
@lie(function_does_nothing("pthread_exit", hangs=True))
def test_pthread_exit_does_not_return(program: Process) -> None:
    cell, thread = program.allocate(1), program.lib.pthread_create()
    thread.post.lib.pthread_exit(7)
    thread.post.touch(cell, 42)
    assert program.lib.pthread_join(handle(thread), Out(8)) == (0, word(7))
    assert program.load_bytes(cell, 1) == bytes(1)


@clause("pthread_exit.3/last-detached-thread-too")
@lie(returns_otherwise("its value is the status", lambda lib, value: lib.exit(value)))
def test_the_last_thread_may_be_detached(program: Process, target: Target) -> None:
    program.lib.atexit(program.lib.handler(0))
    child = program.lib.fork()
    thread = child.lib.pthread_create()
    thread.lib.pthread_detach(thread.lib.pthread_self())
    child.post.lib.pthread_exit(6)
    target.observer.wait_for_state(child, "Z")
    thread.lib.leave(5)
    assert child.wait_for_exit() == Exit(0)
    assert program.lib.noted() == [0]


@clause("pthread_exit.3/exec-after-main-thread-ended")
@lie(function_becomes("pthread_exit", "exit"))
def test_exec_after_main_has_ended_keeps_the_process(program: Process, target: Target) -> None:
    child = program.lib.fork()
    thread = child.lib.pthread_create()
    child.post.lib.pthread_exit(6)
    target.observer.wait_for_state(child, "Z")
    thread.lib.execv(target.agent_path, ["agent"])
    assert thread.sys.gettid() == thread.sys.getpid() == child.pid
    thread.post.sys.exit_group(4)
    assert program.sys.waitid(P_PID, child.pid, WEXITED).status == 4


@clause("pthread_exit.3/forked-child-of-thread-returns")
@lie(returns_otherwise("its value is the status", lambda lib, value: lib.exit(value)))
def test_a_return_in_a_threads_child_is_exit_with_zero(program: Process) -> None:
    child = program.lib.pthread_create().lib.fork()
    child.lib.leave(3)
    assert child.wait_for_exit() == Exit(0)


@clause("pthread_exit.3/forked-child-of-thread-returns")
@lie(function_becomes("pthread_exit", "exit"))
def test_pthread_exit_in_a_threads_child_is_exit_with_zero(program: Process) -> None:
    child = program.lib.pthread_create().lib.fork()
    child.lib.pthread_exit(3)
    assert child.wait_for_exit() == Exit(0)


@clause("pthread_exit.3/main-thread-can-be-joined")
@lie(function_given("another value", "pthread_exit", 0, 0))
def test_the_main_thread_can_be_joined(program: Process) -> None:
    child = program.lib.fork()
    main = child.lib.pthread_self()
    thread = child.lib.pthread_create()
    child.post.lib.pthread_exit(0x77)
    assert thread.lib.pthread_join(main, Out(8)) == (0, word(0x77))


@clause("pthread_exit.3/last-thread-ends-process-with-zero")
@lie(function_becomes("pthread_exit", "_exit"))
def test_the_end_of_the_last_thread_is_exit_with_zero(program: Process) -> None:
    program.lib.atexit(program.lib.handler(0))
    child = program.lib.fork()
    child.lib.pthread_exit(6)
    assert child.wait_for_exit() == Exit(0)
    assert program.lib.noted() == [0]


@clause("pthread_exit.3/exit-after-main-thread-ended")
@lie(function_given("another status", "exit", 0, 0))
def test_exit_of_another_thread_gives_the_status(program: Process) -> None:
    child = program.lib.fork()
    thread = child.lib.pthread_create()
    child.post.lib.pthread_exit(0x77)
    thread.lib.exit(5)
    assert child.wait_for_exit() == Exit(5)
