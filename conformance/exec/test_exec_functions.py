"""exec(3): the six front ends of execve in the C library, and the search by those with a p."""

from __future__ import annotations

import shlex
import struct

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    E2BIG,
    EACCES,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOEXEC,
    RLIM_INFINITY,
    RLIMIT_STACK,
)
from pytest_procsemantics.lies import (
    before_function,
    function_becomes,
    function_given,
    function_reports,
    lie,
)

STRING_LIMIT = 32 * 4096  # bytes; execve(2), Limits on size of arguments and environment
MIB = 1 << 20
# What each of the functions takes behind the file, for the arguments "zero" and "one" and the environment A=1.
BEHIND = {
    "execl": ("zero", "one", 0),
    "execle": ("zero", "one", 0, ["A=1"]),
    "execlp": ("zero", "one", 0),
    "execv": (["zero", "one"],),
    "execvp": (["zero", "one"],),
    "execvpe": (["zero", "one"], ["A=1"]),
}
ALL = tuple(sorted(BEHIND))
LISTS = ("execl", "execle", "execlp")
ARRAYS = ("execv", "execvp", "execvpe")
SEARCHING = ("execlp", "execvp", "execvpe")
NOT_SEARCHING = ("execl", "execle", "execv")
WITH_ENVIRONMENT = ("execle", "execvpe")
WITH_ENVIRON = ("execl", "execlp", "execv", "execvp")
SAFE = ("execl", "execle")
OTHER_WORD = function_given("another word in the list", LISTS, 2, "two")
NOT_SEARCHED = function_becomes("execvp", "execv")
BEGINS_AT_THE_ROOT = before_function(
    "chdir to / first", "execvp", lambda caller: caller.sys.chdir("/")
)


def call(program: Process, function: str, file: str | bytes) -> Process:
    """Call one of the six."""
    return program.lib.raw(function, file, *BEHIND[function])  # type: ignore[no-any-return]


def folder(program: Process, name: str) -> str:
    """A new folder in that of this test."""
    path = f"{program.target.folder()}/{name}"
    program.sys.mkdirat(AT_FDCWD, path, 0o755)
    return path


def folder_with_agent(program: Process, name: str = "second") -> str:
    """A new folder in which the agent is a file named agent."""
    path = folder(program, name)
    program.sys.symlinkat(program.target.agent_path, AT_FDCWD, f"{path}/agent")
    return path


def text_file(program: Process, path: str) -> str:
    """An executable file without #!; a shell that runs it tells its own arguments to the agent."""
    agent = shlex.quote(program.target.agent_path.decode())
    return program.make_file(path, f'exec {agent} "$0" "$@"\n'.encode(), 0o755)


def script_file(program: Process, path: str) -> str:
    """The same with the agent as its interpreter."""
    return program.make_file(path, b"#!" + program.target.agent_path + b"\n", 0o755)


def search(program: Process, path: str) -> None:
    """Set PATH."""
    program.lib.setenv("PATH", path, 1)


# --- arguments and environment ---


@pytest.mark.parametrize("function", LISTS)
@clause("exec.3/l-takes-list")
@lie(OTHER_WORD)
def test_the_arguments_are_a_list(program: Process, target: Target, function: str) -> None:
    call(program, function, target.agent_path)
    assert program.initial().argv == [b"zero", b"one"]


@pytest.mark.parametrize("function", ARRAYS)
@clause("exec.3/v-takes-vector")
@lie(function_given("another array", ARRAYS, 1, ["zero", "two"]))
def test_the_arguments_are_an_array(program: Process, target: Target, function: str) -> None:
    call(program, function, target.agent_path)
    assert program.initial().argv == [b"zero", b"one"]


@pytest.mark.parametrize("function", WITH_ENVIRONMENT)
@clause("exec.3/e-takes-environment")
@lie(function_given("environ is passed", WITH_ENVIRONMENT, -1, ["OWN=2"]))
def test_the_environment_is_the_given_one(program: Process, target: Target, function: str) -> None:
    program.lib.setenv("OWN", "2", 1)
    call(program, function, target.agent_path)
    assert program.initial().envp == [b"A=1"]


@pytest.mark.parametrize("function", WITH_ENVIRON)
@clause("exec.3/others-use-environ")
@lie(before_function("OWN is unset", WITH_ENVIRON, lambda caller: caller.lib.unsetenv("OWN")))
def test_the_environment_is_the_callers(program: Process, target: Target, function: str) -> None:
    program.lib.setenv("OWN", "2", 1)
    call(program, function, target.agent_path)
    assert program.initial().envp == [b"OWN=2"]


@clause("exec.3/list-works-with-unlimited-stack")
@lie(OTHER_WORD)
def test_a_list_is_passed_with_the_stack_unlimited(program: Process, target: Target) -> None:
    unlimit_stack(program)
    call(program, "execl", target.agent_path)
    assert program.initial().argv == [b"zero", b"one"]


def unlimit_stack(program: Process) -> None:
    """Take away the soft RLIMIT_STACK."""
    hard = program.sys.getrlimit(RLIMIT_STACK).hard
    if hard != RLIM_INFINITY:
        raise Unsupported(f"an unlimited RLIMIT_STACK (the hard limit is {hard})")
    program.sys.setrlimit(RLIMIT_STACK, (RLIM_INFINITY, RLIM_INFINITY))


@pytest.mark.parametrize("function", SAFE)
@clause("exec.3/vfork-safe")
@lie(before_function("malloc first", SAFE, lambda caller: caller.lib.malloc(MIB)))
def test_a_list_needs_no_memory_of_the_parents(
    program: Process, target: Target, observer: Observer, function: str
) -> None:
    program.lib.symbol(function)
    before = observer.status_field(program, "VmData")
    child = program.lib.vfork()
    call(child, function, target.agent_path)
    assert child.initial().argv == [b"zero", b"one"]
    assert observer.status_field(program, "VmData") == before


# --- the search ---


@pytest.mark.parametrize("function", SEARCHING)
@clause("exec.3/p-searches-path")
@lie(function_given("the name has a slash", SEARCHING, 0, "./agent"))
def test_a_name_without_slash_is_searched_for(program: Process, function: str) -> None:
    first, second = folder(program, "first"), folder_with_agent(program)
    search(program, f"{first}:{second}")
    call(program, function, "agent")
    assert program.initial().argv == [b"zero", b"one"]


@clause("exec.3/p-path-of-caller")
@lie(
    before_function(
        "the caller has it, too",
        "execvpe",
        lambda caller: search(caller, f"{caller.target.folder()}/second"),
    )
)
def test_the_callers_path_is_searched_and_not_the_given_one(program: Process) -> None:
    second = folder_with_agent(program)
    search(program, "/nonexistent")
    with fails(ENOENT):
        program.lib.execvpe("agent", ["zero"], [f"PATH={second}"])


@clause("exec.3/p-default-path")
@lie(before_function("PATH is a point", "execvp", lambda caller: search(caller, ".")))
def test_without_path_the_systems_folders_are_searched(program: Process, target: Target) -> None:
    program.lib.unsetenv("PATH")
    program.sys.chdir(folder_with_agent(program))
    with fails(ENOENT):
        program.lib.execvp("agent", ["zero"])
    program.lib.execvp("sh", ["sh", text_file(program, f"{target.folder()}/text"), "by sh"])
    assert program.initial().argv[-1] == b"by sh"


@clause("exec.3/p-slash-no-search")
@lie(function_given("the name alone", "execvp", 0, "agent"))
def test_a_name_with_a_slash_is_not_searched_for(program: Process, target: Target) -> None:
    second = folder_with_agent(program)
    search(program, second)
    program.sys.chdir(target.folder())
    with fails(ENOENT):
        program.lib.execvp("./agent", ["zero"])
    program.sys.chdir(second)
    program.lib.execvp("./agent", ["zero"])
    assert program.initial().argv == [b"zero"]


@pytest.mark.parametrize("path", [":/nonexistent", "/nonexistent:", ""])
@clause("exec.3/p-empty-element-is-current-directory")
@lie(BEGINS_AT_THE_ROOT)
def test_an_empty_element_is_the_working_directory(program: Process, path: str) -> None:
    program.sys.chdir(folder_with_agent(program))
    search(program, path)
    program.lib.execvp("agent", ["zero"])
    assert program.initial().argv == [b"zero"]


@clause("exec.3/p-enoent-and-enotdir-go-on")
@lie(NOT_SEARCHED)
def test_what_is_no_folder_is_passed_over(program: Process, target: Target) -> None:
    second = folder_with_agent(program)
    search(program, f"/nonexistent:{second}/agent:{second}")
    program.lib.execvp("agent", ["zero"])
    assert program.initial().argv == [b"zero"]


@clause("exec.3/p-eacces-goes-on")
@lie(
    before_function(
        "the first one goes",
        "execvp",
        lambda caller: caller.sys.unlinkat(AT_FDCWD, f"{caller.target.folder()}/first/agent", 0),
    )
)
def test_what_may_not_be_run_is_passed_over(program: Process) -> None:
    first, second = folder(program, "first"), folder_with_agent(program)
    program.make_file(f"{first}/agent", b"", 0o644)
    search(program, first)
    with fails(EACCES):
        program.lib.execvp("agent", ["zero"])
    search(program, f"{first}:{second}")
    program.lib.execvp("agent", ["zero"])
    assert program.initial().argv == [b"zero"]


@clause("exec.3/error-order")
@lie(
    before_function(
        "the first folder is left out",
        "execvp",
        lambda caller: search(caller, f"{caller.target.folder()}/second"),
    )
)
def test_any_other_error_ends_the_search(program: Process, target: Target) -> None:
    loop, second = f"{target.folder()}/loop", folder_with_agent(program)
    search(program, second)
    with fails(ENAMETOOLONG):
        program.lib.execvp("x" * 256, ["zero"])
    program.sys.symlinkat(loop, AT_FDCWD, loop)
    search(program, f"{loop}:{second}")
    with fails(ELOOP):
        program.lib.execvp("agent", ["zero"])


@clause("exec.3/p-empty-name")
@lie(function_given("another name", "execvp", 0, "agent"))
def test_an_empty_name_is_not_found(program: Process) -> None:
    search(program, folder_with_agent(program))
    with fails(ENOENT):
        program.lib.execvp("", ["zero"])


# --- files that the kernel does not know the format of ---


@clause("exec.3/p-enoexec-runs-shell")
@lie(NOT_SEARCHED)
def test_an_unknown_format_is_run_by_the_shell(program: Process, target: Target) -> None:
    second = folder(program, "second")
    path = text_file(program, f"{second}/text")
    search(program, second)
    program.lib.execvp("text", ["zero", "one"])
    assert program.initial().argv == [target.agent_path, path.encode(), b"one"]


@clause("exec.3/p-enoexec-shell-also-with-slash")
@lie(NOT_SEARCHED)
def test_the_shell_runs_a_name_with_a_slash_too(program: Process, target: Target) -> None:
    program.sys.chdir(target.folder())
    text_file(program, f"{target.folder()}/text")
    program.lib.execvp("./text", ["zero", "one"])
    assert program.initial().argv == [target.agent_path, b"./text", b"one"]


@pytest.mark.parametrize("function", NOT_SEARCHING)
@clause("exec.3/non-p-enoexec-fails")
@lie(
    before_function(
        "the file gets a format",
        NOT_SEARCHING,
        lambda caller: script_file(caller, f"{caller.target.folder()}/text"),
    )
)
def test_without_p_an_unknown_format_is_refused(
    program: Process, target: Target, function: str
) -> None:
    path = text_file(program, f"{target.folder()}/text")
    with fails(ENOEXEC):
        call(program, function, path)


# --- failure ---


@pytest.mark.parametrize("function", ALL)
@clause("exec.3/returns-only-on-error")
@lie(function_reports("it gives 0", ALL, lambda _: 0))
def test_a_failing_call_returns_minus_one(program: Process, function: str) -> None:
    with fails(ENOENT):
        call(program, function, "/nonexistent/agent")
    assert program.lib.getpid() == program.pid


@clause("exec.3/e2big")
@lie(function_given("a shorter argument", "execv", 1, ["x"]))
def test_an_argument_that_execve_refuses_is_refused(program: Process, target: Target) -> None:
    long = program.allocate(STRING_LIMIT + 1)
    program.store(long, b"x" * STRING_LIMIT)
    array = program.allocate(16)
    program.store(array, struct.pack("<Q", long))
    with fails(E2BIG):
        program.lib.execv(target.agent_path, array)
