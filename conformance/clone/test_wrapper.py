"""clone(2) as the C library wraps it: a function that runs in the child, on a stack of its own."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import fails
from pytest_procsemantics.driven.constants import EINVAL, SIGCHLD, SIGTERM
from pytest_procsemantics.lies import before_function, function_does_nothing, function_given, lie

STACK = 1 << 16  # bytes
IDENTITY = "abs"  # a function that gives what it was given, if that is no negative number


def top_of_stack(program: Process) -> int:
    return program.allocate(STACK) + STACK


@clause("clone.2/wrapper-starts-in-function")
@lie(function_given("another argument", "clone", 3, 8))
def test_the_child_begins_in_the_function_with_its_argument(program: Process) -> None:
    function = program.lib.handler(1, "_exit", 0)
    pid = program.lib.clone(function, top_of_stack(program), SIGCHLD, 7)
    program.sys.wait4(pid)
    (note,) = program.lib.notes()
    assert (note.handler, note.tid, note.args[0]) == (1, pid, 7)


@clause("clone.2/wrapper-function-return-ends-child")
@lie(function_given("another argument", "clone", 3, 0))
def test_what_the_function_returns_is_the_exit_status(program: Process) -> None:
    function = program.lib.symbol(IDENTITY)
    pid = program.lib.clone(function, top_of_stack(program), SIGCHLD, 7)
    assert program.sys.wait4(pid).status == 7 << 8


@pytest.mark.parametrize(
    ("end", "argument", "status"),
    [
        pytest.param("_exit", 3, 3 << 8, id="exit"),
        pytest.param("raise", SIGTERM, SIGTERM, id="signal"),
    ],
)
@clause("clone.2/wrapper-child-may-exit-or-die")
@lie(function_given("no termination signal", "clone", 2, 0))
def test_the_child_may_end_otherwise(
    program: Process, end: str, argument: int, status: int
) -> None:
    function = program.lib.handler(1, end, argument)
    pid = program.lib.clone(function, top_of_stack(program), SIGCHLD, 0)
    assert program.sys.wait4(pid).status == status


@clause("clone.2/einval-wrapper-null")
@lie(function_does_nothing("clone"))
def test_the_wrapper_refuses_a_missing_function_or_stack(program: Process) -> None:
    with fails(EINVAL):
        program.lib.clone(0, top_of_stack(program), SIGCHLD, 0)
    with fails(EINVAL):
        program.lib.clone(program.lib.symbol(IDENTITY), 0, SIGCHLD, 0)


@clause("clone.2/atfork-handlers-not-run")
@lie(before_function("forks first", "clone", lambda caller: caller.lib.fork()))
def test_handlers_of_pthread_atfork_are_not_run(program: Process) -> None:
    handler = program.lib.handler(1)
    program.lib.pthread_atfork(handler, handler, handler)
    pid = program.lib.clone(program.lib.symbol(IDENTITY), top_of_stack(program), SIGCHLD, 0)
    program.sys.wait4(pid)
    assert program.lib.noted() == []
