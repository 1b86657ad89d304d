"""atexit(3) and on_exit(3): which handlers run at which end, and in which order."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Exit, fails
from pytest_procsemantics.driven.constants import ENOENT, SIGKILL, SIGTERM
from pytest_procsemantics.driven.library import Library
from pytest_procsemantics.driven.library_start import start_library
from pytest_procsemantics.lies import (
    HANDLERS_SWAPPED,
    before_function,
    function_becomes,
    function_does_nothing,
    function_given,
    lie,
    returns_otherwise,
)

NOTHING_REGISTERED = function_does_nothing("atexit")
UNDERSCORE_EXIT = function_becomes("exit", "_exit")
HANDLERS_ANYWAY = function_becomes("_exit", "exit")


def child_with(program: Process, *handlers: int) -> Process:
    """A child that has registered handlers, in this order."""
    child: Process = program.lib.fork()
    for number in handlers:
        child.lib.atexit(child.lib.handler(number))
    return child


def register_in_maker(process: Process) -> None:
    """A lie: what a process registers counts for its maker as well."""
    assert process.creation
    maker = Library(process.creation.process)
    maker.atexit(maker.handler(1))


def ran(program: Process) -> list[int]:
    return program.lib.noted()


@clause("atexit.3/run-at-exit")
@lie(NOTHING_REGISTERED, UNDERSCORE_EXIT)
def test_a_handler_runs_at_exit(program: Process) -> None:
    child_with(program, 1).lib.exit(0)
    assert ran(program) == [1]


@clause("atexit.3/run-at-return-from-main")
@lie(returns_otherwise("main calls _exit", lambda lib, value: lib.raw("_exit", value)))
def test_a_handler_runs_at_return_from_main(program: Process) -> None:
    child = child_with(program, 1)
    child.lib.leave(300)
    assert child.wait_for_exit() == Exit(300 - 256)
    assert ran(program) == [1]


@clause("exit/exit-runs-handlers-in-reverse", "exit/exit-handler-registered-twice-runs-twice")
@lie(UNDERSCORE_EXIT, HANDLERS_SWAPPED)
def test_handlers_run_in_reverse_order_as_often_as_registered(program: Process) -> None:
    child_with(program, 1, 2, 1).lib.exit(0)
    assert ran(program) == [1, 2, 1]


@clause("atexit.3/at-least-32")
@lie(NOTHING_REGISTERED, UNDERSCORE_EXIT)
def test_32_handlers_can_be_registered(program: Process) -> None:
    child_with(program, *[1] * 32).lib.exit(0)
    assert ran(program) == [1] * 32


@clause("exit/exit-handlers-inherited-by-fork")
@lie(UNDERSCORE_EXIT)
def test_handlers_are_inherited_by_fork(program: Process) -> None:
    child = child_with(program, 1)
    grandchild = child.lib.fork()
    grandchild.lib.exit(0)
    child.lib.exit(0)
    assert [note.tid for note in program.lib.notes()] == [grandchild.pid, child.pid]


@clause("atexit.3/child-registrations-are-its-own")
@lie(before_function("its maker registers too", "atexit", register_in_maker))
def test_a_childs_registrations_are_its_own(program: Process) -> None:
    child = program.lib.fork()
    grandchild = child_with(child, 1)
    grandchild.lib.exit(0)
    child.lib.exit(0)
    assert [(note.handler, note.tid) for note in program.lib.notes()] == [(1, grandchild.pid)]


@clause("exit/exit-handlers-removed-by-exec")
@lie(before_function("registers again", "exit", lambda p: p.lib.atexit(p.lib.handler(3))))
def test_exec_removes_handlers(program: Process) -> None:
    program.lib.atexit(program.lib.handler(1))
    image = start_library(program)
    image.lib.fork().lib.exit(0)
    assert ran(image) == []


@clause("atexit.3/kept-after-failed-exec")
@lie(NOTHING_REGISTERED)
def test_a_failed_exec_keeps_handlers(program: Process) -> None:
    child = child_with(program, 1)
    with fails(ENOENT):
        child.execve("/nonexistent")
    child.lib.exit(0)
    assert ran(program) == [1]


@clause("atexit.3/returns-zero")
@lie(NOTHING_REGISTERED)
def test_registration_gives_zero(program: Process) -> None:
    child = program.lib.fork()
    assert child.lib.atexit(child.lib.handler(1)) == 0
    child.lib.exit(0)
    assert ran(program) == [1]


@clause("exit/exit-handlers-not-run-on-signal")
@lie(function_becomes("kill", "exit"))
@pytest.mark.parametrize("signal", [SIGKILL, SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_death_by_a_signal_runs_no_handlers(program: Process, signal: int) -> None:
    child = child_with(program, 1)
    child.post.lib.kill(child.pid, signal)
    assert child.wait_for_exit() == Exit(None, signal)
    assert ran(program) == []


@clause("exit/no-exit-handlers")
@lie(HANDLERS_ANYWAY)
def test_underscore_exit_runs_no_handlers(program: Process) -> None:
    child = child_with(program, 1)
    child.lib._exit(2)
    assert child.wait_for_exit() == Exit(2)
    assert ran(program) == []


@clause("atexit.3/not-run-by-quick-exit")
@lie(function_becomes("quick_exit", "exit"))
def test_quick_exit_runs_its_own_handlers_only(program: Process) -> None:
    child = child_with(program, 1)
    child.lib.at_quick_exit(child.lib.handler(2))
    child.lib.quick_exit(3)
    assert child.wait_for_exit() == Exit(3)
    assert ran(program) == [2]


@clause("atexit.3/not-run-by-vfork-child-underscore-exit")
@lie(HANDLERS_ANYWAY)
def test_a_vfork_child_leaves_its_parents_handlers(program: Process) -> None:
    child = child_with(program, 1)
    vforked = child.lib.vfork()
    vforked.lib._exit(0)
    vforked.creation.arrives()
    assert ran(program) == []
    child.lib.exit(0)
    assert ran(program) == [1]


@clause("exit/handler-calling-underscore-exit-stops-rest")
@lie(before_function("it doesn't", "exit", lambda p: p.lib.handler(2, "sched_yield")))
def test_a_handler_that_calls_underscore_exit_stops_the_rest(program: Process) -> None:
    child = child_with(program, 1, 2)
    child.lib.handler(2, "_exit", 44)
    child.lib.exit(1)
    assert child.wait_for_exit() == Exit(44)
    assert ran(program) == [2]


@clause("atexit.3/handler-calling-exit")
@lie(before_function("it calls _exit", "exit", lambda p: p.lib.handler(5, "_exit", 9)))
def test_a_handler_that_calls_exit_lets_the_rest_run(program: Process) -> None:
    child = child_with(program, 1, 5, 2)
    child.lib.handler(5, "exit", 9)
    child.lib.exit(1)
    assert child.wait_for_exit() == Exit(9)
    assert ran(program) == [2, 5, 1]


@clause("exit/handler-registering-handler")
@lie(before_function("it registers none", "exit", lambda p: p.lib.handler(3, "sched_yield")))
def test_a_handler_that_is_registered_during_exit_runs_next(program: Process) -> None:
    child = child_with(program, 2, 3)
    child.lib.handler(3, "atexit", child.lib.handler(1))
    child.lib.exit(0)
    assert ran(program) == [3, 1, 2]


@clause("atexit.3/same-list-as-on-exit")
@lie(function_does_nothing("on_exit"), HANDLERS_SWAPPED)
def test_on_exit_has_the_same_list(program: Process) -> None:
    child = program.lib.fork()
    child.lib.on_exit(child.lib.handler(1), 0)
    child.lib.atexit(child.lib.handler(2))
    child.lib.on_exit(child.lib.handler(3), 0)
    child.lib.exit(0)
    assert ran(program) == [3, 2, 1]


@clause("exit/on-exit-gets-status")
@lie(function_given("status 4", "exit", 0, 4), function_given("argument 1", "on_exit", 1, 1))
def test_on_exit_gets_status_and_argument(program: Process) -> None:
    child = program.lib.fork()
    child.lib.on_exit(child.lib.handler(1), 77)
    child.lib.exit(5)
    assert [note.args for note in program.lib.notes()] == [(5, 77)]


@clause("on_exit.3/status-is-not-masked")
@lie(function_given("the status is masked", "exit", 0, 0xFF))
def test_on_exit_gets_the_whole_status(program: Process) -> None:
    child = program.lib.fork()
    child.lib.on_exit(child.lib.handler(1), 77)
    child.lib.exit(0x1FF)
    assert child.wait_for_exit() == Exit(0xFF)
    assert [note.args for note in program.lib.notes()] == [(0x1FF, 77)]


@clause("on_exit.3/run-at-return-from-main")
@lie(returns_otherwise("main calls _exit", lambda lib, value: lib.raw("_exit", value)))
def test_on_exit_gets_what_main_returns(program: Process) -> None:
    child = program.lib.fork()
    child.lib.on_exit(child.lib.handler(1), 77)
    child.lib.leave(7)
    assert child.wait_for_exit() == Exit(7)
    assert [note.args for note in program.lib.notes()] == [(7, 77)]


@clause("on_exit.3/status-of-last-exit")
@lie(before_function("it calls _exit", "exit", lambda p: p.lib.handler(2, "_exit", 9)))
def test_on_exit_gets_the_status_of_the_last_exit(program: Process) -> None:
    child = program.lib.fork()
    child.lib.on_exit(child.lib.handler(1), 77)
    child.lib.atexit(child.lib.handler(2, "exit", 9))
    child.lib.exit(1)
    assert child.wait_for_exit() == Exit(9)
    assert [note.args[0] for note in program.lib.notes() if note.handler == 1] == [9]


@clause("on_exit.3/several-registrations-run-each", "on_exit.3/inherited-by-fork")
@lie(UNDERSCORE_EXIT)
def test_on_exit_handlers_run_as_often_as_registered_in_each_process(program: Process) -> None:
    child = program.lib.fork()
    child.lib.on_exit(child.lib.handler(1), 77)
    child.lib.on_exit(child.lib.handler(1), 77)
    child.lib.fork().lib.exit(3)
    child.lib.exit(4)
    assert [note.args for note in program.lib.notes()] == [(3, 77)] * 2 + [(4, 77)] * 2


@clause("on_exit.3/not-run-by-underscore-exit")
@lie(HANDLERS_ANYWAY)
def test_underscore_exit_runs_no_on_exit_handlers(program: Process) -> None:
    child = program.lib.fork()
    child.lib.on_exit(child.lib.handler(1), 77)
    child.lib._exit(1)
    assert ran(program) == []


@clause("on_exit.3/returns-zero")
@lie(function_does_nothing("on_exit"))
def test_on_exit_gives_zero(program: Process) -> None:
    child = program.lib.fork()
    assert child.lib.on_exit(child.lib.handler(1), 77) == 0
    child.lib.exit(0)
    assert ran(program) == [1]


@clause("vfork.2/child-exit-3-runs-parents-handlers")
@lie(NOTHING_REGISTERED, UNDERSCORE_EXIT)
def test_exit_by_a_child_of_vfork_runs_the_parents_handlers(program: Process) -> None:
    program.lib.atexit(program.lib.handler(1))
    child = program.lib.vfork()
    child.lib.exit(0)
    assert [(note.handler, note.tid) for note in program.lib.notes()] == [(1, child.pid)]
