"""The library program: what calls of its functions give, and where its processes come from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_procsemantics import native
from pytest_procsemantics.driven import (
    CallFailed,
    Ended,
    Exit,
    Out,
    Process,
    Target,
    Unsupported,
    fails,
    library_start,
)
from pytest_procsemantics.driven.constants import EBUSY, ENOENT, ENOSYS, SIGUSR1
from pytest_procsemantics.driven.library_start import start_library
from pytest_procsemantics.native import BuildFailed


@pytest.fixture(scope="module")
def running() -> Iterator[Target]:
    with Target.open() as target:
        yield target


@pytest.fixture
def target(running: Target) -> Iterator[Target]:
    with running.test():
        yield running


@pytest.fixture
def program(target: Target) -> Process:
    return start_library(target.new_process())


def test_a_function_gives_its_int(program: Process) -> None:
    assert program.lib.getpid() == program.pid
    assert program.lib.toupper(ord("a")) == ord("A")
    assert program.lib.abs(-5) == 5
    assert program.lib.atoi("-5") == -5


def test_a_function_gives_its_address(program: Process) -> None:
    assert program.lib.getenv("NAME") == 0
    program.lib.setenv("NAME", "value", 1)
    assert program.load_bytes(program.lib.getenv("NAME"), 6) == b"value\0"


def test_what_a_function_fills_comes_back(program: Process) -> None:
    result, descriptors = program.lib.pipe(Out(8))
    assert result == 0
    assert descriptors != bytes(8)


def test_each_way_to_say_an_error_is_a_failure(program: Process) -> None:
    with fails(ENOENT):
        program.lib.open("/nonexistent", 0)
    thread = program.lib.pthread_create()
    with fails(EBUSY):
        program.lib.pthread_tryjoin_np(thread.creation.arrives(), 0)


def test_a_function_that_is_not_there_is_unsupported(program: Process) -> None:
    with pytest.raises(Unsupported, match="frobnicate"):
        program.lib.frobnicate()


def test_too_many_arguments_are_the_checks_fault(program: Process) -> None:
    with pytest.raises(TypeError, match="at most 6"):
        program.lib.printf(*range(7))
    with pytest.raises(ValueError, match="bytes"):
        program.lib.strlen(bytes(40_000))


def test_without_the_program_there_are_no_functions(target: Target) -> None:
    with pytest.raises(ValueError, match="start_library"):
        target.new_process().lib.getpid()


def test_the_image_can_be_left_and_entered_again(program: Process) -> None:
    program.execve()
    assert program.sys.uname().release
    assert program.fork().sys.getppid() == program.pid
    assert start_library(program).lib.getpid() == program.pid


def test_children_belong_to_functions(program: Process) -> None:
    with fails(ENOSYS):
        program.fork()
    assert program.lib.fork().sys.getppid() == program.pid


def test_a_child_may_be_made_past_the_library(program: Process) -> None:
    child = program.lib.raw_clone()
    assert child.lib.getppid() == program.own_pid
    child.lib.exit(3)
    assert child.wait_for_exit() == Exit(3)


def test_a_spawn_that_fails_leaves_its_slot_and_no_welcome(program: Process) -> None:
    for _ in range(40):
        with fails(ENOENT):
            program.lib.posix_spawn("/nonexistent")
    child = program.lib.fork()
    child.execve()
    assert child.sys.getppid() == program.pid
    assert program.lib.posix_spawn().sys.getppid() == program.pid


def test_a_thread_that_can_not_be_made_is_a_failure(program: Process) -> None:
    attributes = program.lib.thread_attributes()
    program.lib.pthread_attr_setstacksize(attributes, 1 << 46)
    with pytest.raises(CallFailed):
        program.lib.pthread_create(attributes)


def test_a_daemon_goes_on_when_its_maker_has_ended(program: Process) -> None:
    child = program.lib.fork()
    daemon = child.lib.daemon()
    assert child.wait_for_exit() == Exit(0)
    assert daemon.sys.getcwd() == b"/"


def test_a_process_with_a_blocked_function_is_asked_without_waiting(program: Process) -> None:
    child = program.lib.child_of("popen", f"exec '{program.target.agent_path.decode()}'", "r")
    stream = child.creation.arrives()
    close = program.post.lib.pclose(stream)
    assert not close.ready
    child.exit(4)
    assert close.arrives() == 4 << 8


def test_handlers_note_who_ran_them(program: Process) -> None:
    program.lib.signal(SIGUSR1, program.lib.handler(3))
    child = program.lib.fork()
    child.sys.kill(child.pid, SIGUSR1)
    assert [(note.handler, note.tid, note.args[0]) for note in program.lib.notes()] == [
        (3, child.pid, SIGUSR1)
    ]


def test_a_handler_passes_three_arguments_on(program: Process) -> None:
    memory = program.allocate(8)
    program.lib.signal(SIGUSR1, program.lib.handler(3, "memset", memory, 0x61, 2))
    program.sys.kill(program.pid, SIGUSR1)
    assert program.load_bytes(memory, 3) == b"aa\0"


def test_a_cleanup_handler_runs_where_a_thread_ends_within_it(program: Process) -> None:
    ending, leaving = program.lib.pthread_create(), program.lib.pthread_create()
    ending.lib.pthread_cleanup_push(program.lib.handler(1), 7)
    leaving.lib.pthread_cleanup_push(program.lib.handler(2), 8)
    leaving.lib.leave(5)
    assert program.lib.pthread_join(leaving.creation.arrives(), Out(8)) == (0, b"\5" + bytes(7))
    ending.lib.pthread_exit(0)
    assert [(note.handler, note.args[0]) for note in program.lib.notes()] == [(1, 7)]


def test_each_thread_has_a_variable_of_its_own(program: Process) -> None:
    mine, thread = program.lib.thread_local_location(), program.lib.pthread_create()
    program.store(mine, 6)
    assert thread.load(thread.lib.thread_local_location()) == 5
    assert thread.load(mine) == 6


def test_without_a_compiler_it_is_unsupported(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_compiler(machine: str) -> Path:
        raise BuildFailed("needs a C compiler at build time")

    monkeypatch.setattr(native, "library", no_compiler)
    library_start._image.cache_clear()
    with pytest.raises(Unsupported, match=r"libc \(no helper program: needs a C compiler"):
        start_library(target.new_process())


def test_a_target_that_can_not_load_it_is_unsupported(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library_start, "_image", lambda machine: b"#!/nonexistent\n")
    with pytest.raises(Unsupported, match=r"libc \(execve for the helper program: ENOENT\)"):
        start_library(target.new_process())


def test_a_function_of_exec_leads_to_an_image_that_is_driven(program: Process) -> None:
    agent = program.target.agent_path
    assert program.lib.execl(agent, "zero", "one", 0) is program
    assert (program.images, program.initial().argv) == (2, [b"zero", b"one"])


def test_a_function_of_exec_that_fails_leaves_no_welcome(program: Process) -> None:
    with fails(ENOENT):
        program.lib.execv("/none", ["zero"])
    assert program.lib.getpid() == program.pid
    program.lib.execv(program.target.agent_path, ["zero"])
    assert program.sys.getpid() == program.pid


def test_a_thread_that_execs_by_a_function_ends_the_others(
    target: Target, program: Process
) -> None:
    thread = program.lib.pthread_create()
    thread.lib.execv(target.agent_path, ["zero"])
    assert thread.sys.gettid() == thread.pid
    target.wait_for_end(program)


def test_a_function_of_exec_that_leads_elsewhere_ends_the_process(program: Process) -> None:
    with pytest.raises(Ended):
        program.lib.execv("/bin/true", ["true"])
