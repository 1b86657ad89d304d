"""execve(2), Interpreter scripts. The agent is the interpreter and tells the arguments that it got."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Target, fails
from pytest_procsemantics.driven.constants import (
    EACCES,
    ELOOP,
    ENOENT,
    ENOEXEC,
    PR_GET_NAME,
    PR_SET_NAME,
)
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, before_exec, exec_given, in_image, lie

COUNTED = 253  # bytes behind #! that Linux looks at
RUNS_THE_AGENT = exec_given(
    "exec runs the agent itself", lambda path, argv, envp: (b"", argv, envp)
)


def script(process: Process, line: bytes, name: str = "script", mode: int = 0o755) -> bytes:
    """Make a script of just this content; AGENT in it is the agent's path. Gives its path."""
    folder = process.target.folder()
    content = line.replace(b"AGENT", process.target.agent_path)
    return process.make_file(f"{folder}/{name}", content, mode).encode()


def arguments(process: Process) -> list[bytes]:
    """What the present image got."""
    return process.initial().argv


@clause("execve.2/pathname-may-be-script", "execve.2/script-arguments")
@lie(RUNS_THE_AGENT)
def test_a_script_runs_by_its_interpreter(parent: Process, target: Target) -> None:
    path = script(parent, b"#!AGENT option\n")
    parent.execve(path, argv=["zero", "one", "two"])
    assert arguments(parent) == [target.agent_path, b"option", path, b"one", b"two"]


@clause("execve.2/script-argv0-lost")
@lie(RUNS_THE_AGENT)
def test_the_first_argument_is_lost(parent: Process) -> None:
    parent.execve(script(parent, b"#!AGENT\n"), argv=["zero", "x"])
    assert b"zero" not in arguments(parent)
    assert arguments(parent)[-1:] == [b"x"]


@clause("execve.2/script-optional-argument-absent")
@lie(RUNS_THE_AGENT)
def test_without_an_optional_argument_the_name_follows(parent: Process, target: Target) -> None:
    path = script(parent, b"#!AGENT\n")
    parent.execve(path)
    assert arguments(parent) == [target.agent_path, path]


@clause("execve.2/script-optional-argument-single")
@lie(RUNS_THE_AGENT)
def test_all_text_behind_the_interpreter_is_one_argument(parent: Process, target: Target) -> None:
    path = script(parent, b"#!AGENT one two\n")
    parent.execve(path)
    assert arguments(parent) == [target.agent_path, b"one two", path]


@clause("execve.2/script-whitespace-around")
@lie(RUNS_THE_AGENT)
def test_blanks_around_are_skipped(parent: Process, target: Target) -> None:
    path = script(parent, b"#! \t AGENT \t  opt arg \t \n")
    parent.execve(path)
    assert arguments(parent) == [target.agent_path, b"opt arg", path]


@clause("execve.2/script-pathname-as-given")
@lie(RUNS_THE_AGENT)
def test_the_name_is_passed_as_it_was_given(parent: Process, target: Target) -> None:
    path = script(parent, b"#!AGENT\n")
    parent.sys.symlink(path, f"{target.folder()}/link")
    parent.sys.chdir(target.folder())
    parent.execve("./script")
    assert arguments(parent) == [target.agent_path, b"./script"]
    parent.execve("link")
    assert arguments(parent) == [target.agent_path, b"link"]


@clause("execve.2/script-empty-argv")
@lie(RUNS_THE_AGENT)
def test_a_script_with_empty_argv_gets_its_name(parent: Process, target: Target) -> None:
    path = script(parent, b"#!AGENT\n")
    parent.execve(path, argv=[])
    assert arguments(parent) == [target.agent_path, path]


@clause("execve.2/script-without-newline")
@lie(RUNS_THE_AGENT)
def test_the_line_may_end_with_the_file(parent: Process, target: Target) -> None:
    path = script(parent, b"#!AGENT argument")
    parent.execve(path)
    assert arguments(parent) == [target.agent_path, b"argument", path]


@clause("execve.2/script-nul-ends-argument")
@lie(RUNS_THE_AGENT)
def test_a_nul_ends_the_argument(parent: Process, target: Target) -> None:
    path = script(parent, b"#!AGENT one\0 two\n")
    parent.execve(path)
    assert arguments(parent) == [target.agent_path, b"one", path]
    path = script(parent, b"#!AGENT\0 one\n")
    parent.execve(path)
    assert arguments(parent) == [target.agent_path, path]


@clause("execve.2/script-relative-interpreter")
@lie(before_exec("exec begins at the root", lambda process: process.sys.chdir("/")))
def test_a_relative_interpreter_is_found_from_the_working_directory(
    parent: Process, target: Target
) -> None:
    path = script(parent, b"#!./interpreter\n")
    parent.sys.symlink(target.agent_path, f"{target.folder()}/interpreter")
    parent.sys.chdir(target.folder())
    parent.execve(path)
    assert arguments(parent) == [b"./interpreter", path]
    parent.sys.chdir("/")
    with fails(ENOENT):
        parent.execve(path)


@clause("execve.2/script-interpreter-may-be-script")
@lie(RUNS_THE_AGENT)
def test_an_interpreter_may_be_a_script(parent: Process, target: Target) -> None:
    first = script(parent, b"#!AGENT a\n", "first")
    second = script(parent, b"#!" + first + b" b\n", "second")
    parent.execve(second, argv=["zero", "one"])
    assert arguments(parent) == [target.agent_path, b"a", first, b"b", second, b"one"]


@clause("execve.2/script-recursion-limit")
@lie(RUNS_THE_AGENT)
def test_five_scripts_nest_and_six_do_not(parent: Process) -> None:
    first = script(parent, b"#!AGENT\n", "1")
    second = script(parent, b"#!" + first + b"\n", "2")
    third = script(parent, b"#!" + second + b"\n", "3")
    fourth = script(parent, b"#!" + third + b"\n", "4")
    fifth = script(parent, b"#!" + fourth + b"\n", "5")
    sixth = script(parent, b"#!" + fifth + b"\n", "6")
    parent.execve(fifth)
    assert arguments(parent)[1:] == [first, second, third, fourth, fifth]
    with fails(ELOOP):
        parent.execve(sixth)


@clause("execve.2/name-of-script")
@lie(in_image("the interpreter names it", lambda image: image.sys.prctl(PR_SET_NAME, b"agent")))
def test_the_process_is_named_after_the_script(parent: Process) -> None:
    parent.execve(script(parent, b"#!AGENT\n", "averyveryverylongname"))
    assert parent.sys.prctl(PR_GET_NAME) == b"averyveryverylo"


@clause("execve.2/script-line-too-long")
@lie(RUNS_THE_AGENT)
def test_what_is_beyond_the_limit_of_the_line_is_ignored(parent: Process, target: Target) -> None:
    room = COUNTED - len(target.agent_path) - len(" ")
    path = script(parent, b"#!AGENT " + b"x" * room + b"\n")
    parent.execve(path)
    assert arguments(parent) == [target.agent_path, b"x" * room, path]
    path = script(parent, b"#!AGENT " + b"x" * room + b"beyond\n")
    parent.execve(path)
    assert arguments(parent) == [target.agent_path, b"x" * room, path]


@clause("execve.2/script-truncated-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_that_is_cut_is_refused(parent: Process) -> None:
    with fails(ENOEXEC):
        parent.execve(script(parent, b"#!/" + b"x" * COUNTED + b"\n"))


@pytest.mark.parametrize("line", [b"#!\n", b"#! \n"], ids=["bare", "blank"])
@clause("execve.2/script-empty-line-refused")
@lie(EXEC_DOES_NOTHING)
def test_a_line_without_an_interpreter_is_refused(parent: Process, line: bytes) -> None:
    with fails(ENOEXEC):
        parent.execve(script(parent, line))


@clause("execve.2/script-needs-execute-permission")
@lie(EXEC_DOES_NOTHING)
def test_a_script_without_execute_permission_is_refused(parent: Process) -> None:
    with fails(EACCES):
        parent.execve(script(parent, b"#!AGENT\n", mode=0o644))
    parent.execve(script(parent, b"#!AGENT\n", "executable"))


@clause("execve.2/script-interpreter-must-be-valid")
@lie(EXEC_DOES_NOTHING)
def test_a_missing_interpreter_is_refused(parent: Process) -> None:
    with fails(ENOENT):
        parent.execve(script(parent, b"#!/no/such/interpreter\n"))
