"""fexecve(3): a program is run by its descriptor."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWNS,
    EACCES,
    EBADF,
    EINVAL,
    ENOENT,
    ENOEXEC,
    ETXTBSY,
    F_GETFD,
    F_SETFD,
    FD_CLOEXEC,
    O_CLOEXEC,
    O_PATH,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    SEEK_SET,
)
from pytest_procsemantics.lies import (
    before_function,
    function_does_nothing,
    function_given,
    function_reports,
    lie,
)
from pytest_procsemantics.requirements import own_namespaces

RUNS_NOTHING = function_does_nothing("fexecve")
CLOSED = 99  # the number of no descriptor
OF_NOTHING = -1
TEXT = b"no program\n"


def path(target: Target) -> str:
    """Where the checks of this module make the file that is to run."""
    return f"{target.folder()}/file"


def agent_file(program: Process, mode: int = 0o755) -> str:
    """A copy of the agent."""
    target = program.target
    content = target.observer.read(target.agent_path.decode())
    return program.make_file(path(target), content, mode)


def script_file(program: Process) -> str:
    """A script whose interpreter is the agent."""
    return program.make_file(path(program.target), b"#!" + program.target.agent_path + b"\n", 0o755)


def opened(program: Process, file: str | bytes, flags: int = O_RDONLY) -> int:
    return program.sys.openat(AT_FDCWD, file, flags)  # type: ignore[no-any-return]


def opened_agent(program: Process, flags: int = O_RDONLY) -> int:
    return opened(program, program.target.agent_path, flags)


def opened_anew(program: Process) -> None:
    """Have the first descriptor be the file of this module, for reading."""
    program.sys.close(3)
    opened(program, path(program.target))


OPENED_ANEW = before_function("it is opened again, for reading", "fexecve", opened_anew)


# --- what runs ---


@clause("fexecve.3/runs-descriptors-file", "fexecve.3/does-not-return")
@lie(RUNS_NOTHING)
def test_the_file_of_the_descriptor_runs_under_the_same_pid(program: Process) -> None:
    program.lib.fexecve(opened_agent(program), ["zero"], [])
    assert (program.images, program.sys.getpid()) == (2, program.pid)


@clause("fexecve.3/arguments-are-passed")
@lie(
    function_given("other arguments", "fexecve", 1, ["zero"]),
    function_given("another environment", "fexecve", 2, []),
)
def test_arguments_and_environment_are_passed(program: Process) -> None:
    program.lib.fexecve(opened_agent(program), ["zero", "one"], ["A=1"])
    initial = program.initial()
    assert (initial.argv, initial.envp) == ([b"zero", b"one"], [b"A=1"])


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(O_PATH, id="path", marks=clause("fexecve.3/path-descriptor")),
        pytest.param(O_RDONLY, id="readable", marks=clause("fexecve.3/read-only-descriptor")),
    ],
)
@clause("exec.3/fexecve-readonly-or-path")
@lie(RUNS_NOTHING)
def test_a_descriptor_for_reading_or_for_the_path_will_do(program: Process, flags: int) -> None:
    program.lib.fexecve(opened_agent(program, flags), ["zero"], [])
    assert program.initial().argv == [b"zero"]


@clause("fexecve.3/offset-does-not-matter")
@lie(RUNS_NOTHING)
def test_the_offset_plays_no_role(program: Process) -> None:
    fd = opened_agent(program)
    program.sys.lseek(fd, 1000, SEEK_SET)
    program.lib.fexecve(fd, ["zero"], [])
    assert program.initial().argv == [b"zero"]


@clause("fexecve.3/checked-file-is-run")
@lie(OPENED_ANEW)
def test_the_file_that_was_opened_runs_though_its_name_means_another(program: Process) -> None:
    fd = opened(program, agent_file(program))
    program.sys.unlinkat(AT_FDCWD, path(program.target), 0)
    program.make_file(path(program.target), TEXT, 0o755)
    program.lib.fexecve(fd, ["zero"], [])
    assert program.initial().argv == [b"zero"]


@clause("fexecve.3/content-change-not-prevented")
@lie(
    before_function(
        "the content is put back",
        "fexecve",
        lambda caller: caller.make_file(path(caller.target), TEXT, 0o755),
    )
)
def test_content_that_was_written_meanwhile_runs(program: Process, target: Target) -> None:
    fd = opened(program, program.make_file(path(target), TEXT, 0o755))
    agent_file(program)
    program.lib.fexecve(fd, ["zero"], [])
    assert program.initial().argv == [b"zero"]


@clause("fexecve.3/works-without-proc")
@lie(RUNS_NOTHING)
def test_a_program_runs_where_proc_is_not_mounted(program: Process, target: Target) -> None:
    own_namespaces(program, CLONE_NEWNS)
    fd = opened_agent(program)
    program.sys.chroot(target.folder())
    with fails(ENOENT):
        opened(program, "/proc/self/exe")
    program.lib.fexecve(fd, ["zero"], [])
    assert program.initial().argv == [b"zero"]


# --- the descriptor in the new image ---


@clause("fexecve.3/cloexec-descriptor-not-leaked")
@lie(before_function("it is kept open", "fexecve", lambda caller: caller.sys.fcntl(3, F_SETFD, 0)))
def test_with_close_on_exec_the_program_has_it_not(program: Process) -> None:
    fd = opened_agent(program, O_CLOEXEC)
    program.lib.fexecve(fd, ["zero"], [])
    with fails(EBADF):
        program.sys.fcntl(fd, F_GETFD)


@clause("fexecve.3/descriptor-leaks-without-cloexec")
@lie(
    before_function(
        "it is closed", "fexecve", lambda caller: caller.sys.fcntl(3, F_SETFD, FD_CLOEXEC)
    )
)
def test_without_close_on_exec_the_program_has_it(program: Process, observer: Observer) -> None:
    fd = opened(program, agent_file(program))
    program.lib.fexecve(fd, ["zero"], [])
    assert observer.link(f"/proc/{program.pid}/fd/{fd}") == path(program.target)


@clause("fexecve.3/script-needs-dev-fd")
@lie(RUNS_NOTHING)
def test_a_script_is_named_by_its_descriptor(program: Process, target: Target) -> None:
    fd = opened(program, script_file(program))
    program.lib.fexecve(fd, ["zero", "one"], [])
    assert program.initial().argv == [target.agent_path, f"/dev/fd/{fd}".encode(), b"one"]


@clause("fexecve.3/enoent-script-cloexec")
@lie(before_function("it is kept open", "fexecve", lambda caller: caller.sys.fcntl(3, F_SETFD, 0)))
def test_a_script_whose_descriptor_would_be_closed_is_refused(program: Process) -> None:
    fd = opened(program, script_file(program), O_CLOEXEC)
    with fails(ENOENT):
        program.lib.fexecve(fd, ["zero"], [])


# --- failure ---


@pytest.mark.parametrize("flags", [O_RDWR, O_WRONLY], ids=["both", "writing"])
@clause("fexecve.3/writable-descriptor")
@lie(OPENED_ANEW)
def test_a_descriptor_for_writing_is_refused(program: Process, flags: int) -> None:
    fd = opened(program, agent_file(program), flags)
    with fails(ETXTBSY):
        program.lib.fexecve(fd, ["zero"], [])


@clause("fexecve.3/execute-permission-needed")
@lie(
    before_function(
        "it is made executable",
        "fexecve",
        lambda caller: caller.sys.fchmodat(AT_FDCWD, path(caller.target), 0o755),
    )
)
def test_the_file_must_be_executable_at_the_call(program: Process) -> None:
    fd = opened(program, agent_file(program))
    program.sys.fchmodat(AT_FDCWD, path(program.target), 0o644)
    with fails(EACCES):
        program.lib.fexecve(fd, ["zero"], [])


def opened_text(program: Process) -> int:
    return opened(program, program.make_file(path(program.target), TEXT, 0o755))


@pytest.mark.parametrize(
    ("opening", "errno"),
    [
        pytest.param(lambda program: opened(program, "/"), EACCES, id="folder"),
        pytest.param(lambda program: program.sys.pipe()[0], EACCES, id="pipe"),
        pytest.param(opened_text, ENOEXEC, id="text"),
    ],
)
@clause("fexecve.3/errors-of-execve")
@lie(
    before_function(
        "it becomes the agent",
        "fexecve",
        lambda caller: caller.sys.dup2(opened_agent(caller), 3),
    )
)
def test_what_execve_refuses_is_refused(program: Process, opening: object, errno: int) -> None:
    assert callable(opening)
    fd = opening(program)
    with fails(errno):
        program.lib.fexecve(fd, ["zero"], [])


@pytest.mark.parametrize(
    ("fd", "argv", "envp"),
    [
        pytest.param(
            3, ["zero"], 0, id="no environment", marks=clause("fexecve.3/einval-null-envp")
        ),
        pytest.param(3, 0, [], id="no arguments", marks=clause("fexecve.3/einval-null-argv")),
        pytest.param(OF_NOTHING, ["zero"], [], id="negative"),
    ],
)
@clause("exec.3/fexecve-einval")
@lie(function_reports("it gives 0", "fexecve", lambda _: 0))
def test_null_pointers_and_negative_descriptors_are_refused(
    program: Process, fd: int, argv: list[str] | int, envp: list[str] | int
) -> None:
    opened_agent(program)
    with fails(EINVAL):
        program.lib.fexecve(fd, argv, envp)


@pytest.mark.parametrize("fd", [OF_NOTHING, CLOSED], ids=["negative", "closed"])
@clause("fexecve.3/einval-bad-descriptor")
@lie(function_reports("it gives 0", "fexecve", lambda _: 0))
def test_a_number_of_no_descriptor_is_refused(program: Process, fd: int) -> None:
    with fails(EINVAL):
        program.lib.fexecve(fd, ["zero"], [])


@clause("fexecve.3/failure-returns-minus-one")
@lie(
    before_function("it is closed", "fexecve", lambda caller: caller.sys.close(3)),
    function_reports("it gives 0", "fexecve", lambda _: 0),
)
def test_after_a_failure_the_old_image_goes_on(program: Process) -> None:
    fd = opened(program, agent_file(program, 0o644), O_CLOEXEC)
    with fails(EACCES):
        program.lib.fexecve(fd, ["zero"], [])
    assert program.sys.fcntl(fd, F_GETFD) == FD_CLOEXEC
    assert program.images == 1
