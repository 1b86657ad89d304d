"""pthread_exit(3), posix.fork: clean-up handlers, and destructors of thread-specific data, of threads that end themselves."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Exit, Out
from pytest_procsemantics.driven.library import Library
from pytest_procsemantics.lies import (
    HANDLERS_SWAPPED,
    before_function,
    function_given,
    lie,
)

FIRST, SECOND = CLEANS, DESTROYS = 1, 2  # numbers of handlers
ROUNDS = 4  # PTHREAD_DESTRUCTOR_ITERATIONS (<limits.h>)


def new_key(program: Process, destructor: int) -> int:
    """A key of thread-specific data."""
    _, key = program.lib.pthread_key_create(Out(4), destructor)
    return int.from_bytes(key, "little")


def thread_with_both(program: Process) -> Process:
    """A thread that has a clean-up handler, and data with a destructor."""
    key = new_key(program, program.lib.handler(DESTROYS))
    thread: Process = program.lib.pthread_create()
    thread.lib.pthread_cleanup_push(program.lib.handler(CLEANS))
    thread.lib.pthread_setspecific(key, 5)
    return thread


def ends_the_others(process: Process) -> None:
    """End the other threads of a process as they would end by themselves."""
    for one in list(process.target.processes.values()):
        if one.pid == process.pid and one.tid != process.tid:
            Library(one).pthread_exit(0)


@clause("pthread_exit.3/cleanup-handlers-run-in-reverse")
@lie(HANDLERS_SWAPPED)
def test_cleanup_handlers_run_in_reverse_order(program: Process) -> None:
    thread = program.lib.pthread_create()
    thread.lib.pthread_cleanup_push(program.lib.handler(FIRST), 7)
    thread.lib.pthread_cleanup_push(program.lib.handler(SECOND), 8)
    thread.lib.pthread_exit(0)
    notes = program.lib.notes()
    assert [(note.handler, note.args[0]) for note in notes] == [(SECOND, 8), (FIRST, 7)]
    assert {note.tid for note in notes} == {thread.tid}


@clause("pthread_exit.3/destructors-after-cleanup-handlers")
@lie(HANDLERS_SWAPPED)
def test_destructors_run_after_cleanup_handlers(program: Process) -> None:
    thread = thread_with_both(program)
    thread.lib.pthread_exit(0)
    notes = program.lib.notes()
    assert [note.handler for note in notes] == [CLEANS, DESTROYS]
    assert notes[-1].args[0] == 5


@clause("pthread_exit.3/destructor-rounds-limited")
@lie(function_given("it sets nothing", "pthread_setspecific", 1, 0))
def test_a_destructor_that_sets_its_data_again_runs_four_times(program: Process) -> None:
    key = new_key(program, program.lib.handler(DESTROYS))
    program.lib.handler(DESTROYS, "pthread_setspecific", key, 6)
    thread = program.lib.pthread_create()
    thread.lib.pthread_setspecific(key, 5)
    thread.lib.pthread_exit(0)
    assert [note.args[0] for note in program.lib.notes()] == [5] + [6] * (ROUNDS - 1)


# --- where none runs ---


@clause("posix.fork/other-threads-leave-no-trace")
@lie(before_function("the threads end first", "fork", ends_the_others))
def test_those_of_other_threads_do_not_run_in_a_child(program: Process) -> None:
    thread_with_both(program)
    program.lib.fork().lib.exit(3)
    assert program.lib.noted() == []


@clause("posix.fork/exec-no-destructors")
@lie(before_function("the threads end first", "execv", ends_the_others))
def test_those_of_threads_do_not_run_at_exec(program: Process, target: Target) -> None:
    child = program.lib.fork()
    thread_with_both(child)
    child.lib.execv(target.agent_path, ["agent"])
    assert program.lib.noted() == []


@clause("posix.fork/exit-threads-run-no-cleanup")
@lie(before_function("the threads end first", ("exit", "_exit"), ends_the_others))
@pytest.mark.parametrize("function", ["exit", "_exit"])
def test_those_of_threads_do_not_run_at_exit(program: Process, function: str) -> None:
    child = program.lib.fork()
    thread_with_both(child)
    child.lib.raw(function, 3)
    assert child.wait_for_exit() == Exit(3)
    assert program.lib.noted() == []
