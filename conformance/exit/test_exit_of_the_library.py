"""exit(3) and _exit(2) as the C library has them: status, streams and threads."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Exit
from pytest_procsemantics.lies import function_becomes, function_given, lie


@pytest.mark.parametrize(
    ("value", "status"),
    [
        pytest.param(0, 0, id="success", marks=clause("exit/exit-success-and-failure")),
        pytest.param(1, 1, id="failure", marks=clause("exit/exit-success-and-failure")),
        pytest.param(0x1FF, 0xFF, id="low byte", marks=clause("exit/exit-status-low-byte")),
    ],
)
@lie(function_given("another status", "exit", 0, lambda value: value ^ 1))
def test_the_status_is_what_exit_was_given(program: Process, value: int, status: int) -> None:
    child = program.lib.fork()
    child.lib.exit(value)
    assert child.wait_for_exit() == Exit(status)


def child_with_a_stream(program: Process, path: str) -> Process:
    """A child that has written to a stream what is not in its file yet."""
    child: Process = program.lib.fork()
    child.lib.fputs("told", child.lib.fopen(path, "w"))
    return child


@clause("exit/exit-flushes-and-closes-stdio")
@lie(function_becomes("exit", "_exit"))
def test_exit_writes_what_streams_hold(program: Process, target: Target) -> None:
    path = f"{target.folder()}/file"
    child_with_a_stream(program, path).lib.exit(0)
    assert target.observer.read(path) == b"told"


@clause("exit/no-flush")
@lie(function_becomes("_exit", "exit"))
def test_underscore_exit_writes_nothing(program: Process, target: Target) -> None:
    path = f"{target.folder()}/file"
    child_with_a_stream(program, path).lib.raw("_exit", 0)
    assert target.observer.read(path) == b""


@clause("exit/glibc-exit-calls-exit-group")
@lie(function_becomes("_exit", "pthread_exit", hangs=True))
def test_the_librarys_exit_by_one_thread_ends_all(program: Process) -> None:
    child = program.lib.fork()
    child.lib.pthread_create().lib.raw("_exit", 5)
    assert child.wait_for_exit() == Exit(5)
