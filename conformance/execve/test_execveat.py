"""execveat(2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer, Target, fails
from pytest_procsemantics.driven.constants import (
    AF_UNIX,
    AT_EMPTY_PATH,
    AT_EXECVE_CHECK,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    E2BIG,
    EACCES,
    EBADF,
    EFAULT,
    EINVAL,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOEXEC,
    ENOTDIR,
    F_GETFD,
    O_CLOEXEC,
    O_NOFOLLOW,
    O_PATH,
    O_RDONLY,
    PATH_MAX,
    PR_GET_NAME,
    PR_SET_NAME,
    SIG_DFL,
    SIGUSR1,
    SOCK_STREAM,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    before_exec,
    exec_given,
    in_image,
    leaves_out,
    lie,
)

ANY = -1  # a descriptor that is not open
FD = 50  # a number that a check gives its descriptor
RUNS_THE_AGENT = exec_given(
    "exec runs the agent itself", lambda path, argv, envp: ("/proc/self/exe", argv, envp)
)
FINDS_NOTHING = exec_given("exec finds nothing", lambda path, argv, envp: ("none", argv, envp))


def opened(process: Process, path: str | bytes, flags: int = O_RDONLY) -> int:
    """Open a file as descriptor FD, with close-on-exec if that is in the flags."""
    fd = process.sys.openat(AT_FDCWD, path, flags)
    process.sys.dup3(fd, FD, flags & O_CLOEXEC)
    process.sys.close(fd)
    return FD


def folder_with_agent(process: Process) -> str:
    """The test's folder with a copy of the agent in it."""
    target = process.target
    content = target.observer.read(target.agent_path.decode())
    process.make_file(f"{target.folder()}/agent", content, 0o755)
    return target.folder()


def script(process: Process) -> str:
    """A script whose interpreter is the agent."""
    content = b"#!" + process.target.agent_path + b"\n"
    return process.make_file(f"{process.target.folder()}/script", content, 0o755)


# --- which file is run ---


@clause("execveat.2/relative-to-descriptor")
@lie(FINDS_NOTHING)
def test_a_relative_name_is_resolved_from_the_descriptor(parent: Process) -> None:
    fd = opened(parent, folder_with_agent(parent))
    parent.execveat(fd, "agent")
    assert parent.initial().execfn == b"/dev/fd/50/agent"


@clause("execveat.2/at-fdcwd")
@lie(before_exec("exec begins at the root", lambda process: process.sys.chdir("/")))
def test_at_fdcwd_is_the_working_directory(parent: Process) -> None:
    parent.sys.chdir(folder_with_agent(parent))
    parent.execveat(AT_FDCWD, "agent")
    assert parent.initial().execfn == b"agent"


@clause("execveat.2/absolute-ignores-descriptor")
@lie(FINDS_NOTHING)
def test_with_an_absolute_name_the_descriptor_is_ignored(parent: Process, target: Target) -> None:
    parent.execveat(ANY, target.agent_path)
    assert parent.images == 1


@pytest.mark.parametrize("flags", [O_PATH, O_RDONLY], ids=["path", "readable"])
@clause("execveat.2/empty-path-runs-descriptor")
@lie(FINDS_NOTHING, RUNS_THE_AGENT)
def test_an_empty_name_runs_the_file_of_the_descriptor(
    parent: Process, observer: Observer, flags: int
) -> None:
    folder = folder_with_agent(parent)
    parent.execveat(opened(parent, f"{folder}/agent", flags | O_CLOEXEC), "", flags=AT_EMPTY_PATH)
    assert observer.link(f"/proc/{parent.pid}/exe") == f"{folder}/agent"


@clause("execveat.2/empty-path-memfd")
@lie(FINDS_NOTHING, RUNS_THE_AGENT)
def test_a_memfd_can_be_run(parent: Process, target: Target, observer: Observer) -> None:
    fd = parent.sys.memfd_create("x", 0)
    parent.sys.write(fd, observer.read(target.agent_path.decode()))
    parent.execveat(fd, "", flags=AT_EMPTY_PATH)
    assert observer.link(f"/proc/{parent.pid}/exe").startswith("/memfd:x")


@clause("execveat.2/empty-path-name")
@lie(in_image("the number names it", lambda image: image.sys.prctl(PR_SET_NAME, b"50")))
def test_by_descriptor_the_name_is_dev_fd_and_the_process_has_the_files(parent: Process) -> None:
    fd = opened(parent, f"{folder_with_agent(parent)}/agent")
    parent.execveat(fd, "", flags=AT_EMPTY_PATH)
    assert parent.initial().execfn == b"/dev/fd/50"
    assert parent.sys.prctl(PR_GET_NAME) == b"agent"


@clause("execveat.2/empty-path-flag-with-name")
@lie(FINDS_NOTHING)
def test_with_a_name_the_flag_has_no_effect(parent: Process, target: Target) -> None:
    fd = opened(parent, folder_with_agent(parent))
    parent.execveat(fd, target.agent_path, flags=AT_EMPTY_PATH)
    assert parent.images == 1
    parent.execveat(fd, "agent", flags=AT_EMPTY_PATH)
    assert parent.images == 2


@clause("execveat.2/nofollow-refuses-symlink")
@lie(EXEC_DOES_NOTHING)
def test_with_nofollow_a_symbolic_link_is_refused(parent: Process, target: Target) -> None:
    fd = opened(parent, target.folder())
    parent.sys.symlink(target.agent_path, f"{target.folder()}/link")
    with fails(ELOOP):
        parent.execveat(fd, "link", flags=AT_SYMLINK_NOFOLLOW)
    with fails(ELOOP):
        parent.execveat(AT_FDCWD, f"{target.folder()}/link", flags=AT_SYMLINK_NOFOLLOW)
    parent.execveat(fd, "link")
    assert parent.initial().execfn == b"/dev/fd/50/link"


@clause("execveat.2/nofollow-not-last-component")
@lie(FINDS_NOTHING)
def test_nofollow_concerns_the_last_component_only(parent: Process) -> None:
    folder = folder_with_agent(parent)
    parent.sys.symlink(".", f"{folder}/link")
    parent.execveat(AT_FDCWD, f"{folder}/link/agent", flags=AT_SYMLINK_NOFOLLOW)
    assert parent.images == 1


@clause("execveat.2/empty-path-with-nofollow")
@lie(EXEC_DOES_NOTHING)
def test_a_descriptor_opened_through_a_link_runs_with_nofollow(
    parent: Process, target: Target
) -> None:
    link = f"{target.folder()}/link"
    parent.sys.symlink(target.agent_path, link)
    both = AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW
    parent.execveat(opened(parent, link), "", flags=both)
    assert parent.images == 1
    parent.execveat(opened(parent, link, O_PATH), "", flags=both)
    assert parent.images == 2
    fd = opened(parent, link, O_PATH | O_NOFOLLOW)
    with fails(ELOOP):
        parent.execveat(fd, "", flags=both)
    with fails(ELOOP):
        parent.execveat(fd, "", flags=AT_EMPTY_PATH)


# --- as execve ---


@clause("execveat.2/like-execve")
@lie(EXEC_DOES_NOTHING)
def test_the_process_is_as_after_execve(parent: Process, target: Target) -> None:
    kept, _ = parent.sys.pipe()
    closed, _ = parent.sys.pipe2(O_CLOEXEC)
    parent.count_signals(SIGUSR1)
    parent.execveat(AT_FDCWD, target.agent_path, ["one", "two"], ["NAME=value"])
    image = parent.initial()
    assert (image.argv, image.envp) == ([b"one", b"two"], [b"NAME=value"])
    assert parent.sys.rt_sigaction(SIGUSR1).handler == SIG_DFL
    assert parent.sys.fcntl(kept, F_GETFD) == 0
    with fails(EBADF):
        parent.sys.fcntl(closed, F_GETFD)


def without_format(process: Process) -> str:
    """An executable file in no known format."""
    return process.make_file(f"{process.target.folder()}/text", b"text", 0o755)


@pytest.mark.parametrize(
    ("name", "argv", "errno"),
    [
        pytest.param(lambda process: process.target.folder(), [], EACCES, id="eacces"),
        pytest.param(lambda process: process.target.agent_path, 8, EFAULT, id="efault"),
        pytest.param(lambda process: f"{process.target.folder()}/none", [], ENOENT, id="enoent"),
        pytest.param(without_format, [], ENOEXEC, id="enoexec"),
        pytest.param(
            lambda process: process.target.agent_path, [b"x" * (1 << 21)], E2BIG, id="too-big"
        ),
    ],
)
@clause("execveat.2/errors-of-execve")
@lie(EXEC_DOES_NOTHING)
def test_the_errors_are_those_of_execve(
    parent: Process, name: Callable[[Process], str], argv: list[bytes] | int, errno: int
) -> None:
    with fails(errno):
        parent.execveat(AT_FDCWD, name(parent), argv)


# --- scripts ---


@clause("execveat.2/script-gets-dev-fd-path")
@lie(RUNS_THE_AGENT)
def test_a_script_run_by_a_descriptor_gets_its_dev_fd_name(parent: Process, target: Target) -> None:
    parent.execveat(opened(parent, script(parent)), "", flags=AT_EMPTY_PATH)
    assert parent.initial().argv == [target.agent_path, b"/dev/fd/50"]
    parent.execveat(opened(parent, target.folder()), "script")
    assert parent.initial().argv == [target.agent_path, b"/dev/fd/50/script"]


@clause("execveat.2/enoent-script-cloexec")
@lie(EXEC_DOES_NOTHING)
def test_a_script_by_a_close_on_exec_descriptor_is_refused(parent: Process, target: Target) -> None:
    path = script(parent)
    with fails(ENOENT):
        parent.execveat(opened(parent, path, O_CLOEXEC), "", flags=AT_EMPTY_PATH)
    with fails(ENOENT):
        parent.execveat(opened(parent, target.folder(), O_CLOEXEC), "script")
    parent.execveat(FD, path)
    assert parent.initial().argv == [target.agent_path, path.encode()]


@clause("execveat.2/script-dev-fd-path-too-long")
@lie(RUNS_THE_AGENT)
def test_the_dev_fd_name_of_a_script_may_be_too_long(parent: Process) -> None:
    fd = opened(parent, folder_with_agent(parent))
    script(parent)
    slashes = "/" * (PATH_MAX - len("./script") - 1)
    parent.execveat(fd, f".{slashes}/script")
    name = b"/dev/fd/50/." + slashes.encode() + b"/script"
    assert parent.initial().argv[1:] == [name]
    with fails(ENAMETOOLONG):
        parent.sys.openat(AT_FDCWD, name)


# --- refusals ---


@clause("execveat.2/ebadf")
@lie(EXEC_DOES_NOTHING)
def test_a_bad_descriptor_is_refused(parent: Process) -> None:
    with fails(EBADF):
        parent.execveat(ANY, "agent")
    with fails(EBADF):
        parent.execveat(FD, "agent")


@clause("execveat.2/einval-flags")
@lie(EXEC_DOES_NOTHING)
def test_unknown_flags_are_refused(parent: Process, target: Target) -> None:
    with fails(EINVAL):
        parent.execveat(AT_FDCWD, target.agent_path, flags=1 << 30)


HAVE_A_MEANING = AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_EXECVE_CHECK


@pytest.mark.parametrize("bit", [bit for bit in range(32) if not HAVE_A_MEANING >> bit & 1])
@clause("execveat.2/accepted-flag-has-its-effect")
@lie(EXEC_DOES_NOTHING)
def test_a_flag_without_a_meaning_is_refused(parent: Process, target: Target, bit: int) -> None:
    with fails(EINVAL):
        parent.execveat(AT_FDCWD, target.agent_path, flags=1 << bit)


@clause("execveat.2/enoent-empty-without-flag")
@lie(EXEC_DOES_NOTHING)
def test_an_empty_name_without_the_flag_is_refused(parent: Process, target: Target) -> None:
    with fails(ENOENT):
        parent.execveat(opened(parent, target.agent_path), "")


@clause("execveat.2/enotdir")
@lie(EXEC_DOES_NOTHING)
def test_a_file_as_folder_is_refused(parent: Process, target: Target) -> None:
    with fails(ENOTDIR):
        parent.execveat(opened(parent, target.agent_path), "x")


@clause("execveat.2/eacces-not-executable")
@lie(EXEC_DOES_NOTHING)
def test_a_file_without_execute_permission_is_refused(parent: Process) -> None:
    path = f"{folder_with_agent(parent)}/agent"
    parent.sys.chmod(path, 0o644)
    with fails(EACCES):
        parent.execveat(opened(parent, path), "", flags=AT_EMPTY_PATH)
    with fails(EACCES):
        parent.execveat(AT_FDCWD, path)


@clause("execveat.2/efault-null-name")
@lie(EXEC_DOES_NOTHING)
def test_a_null_name_is_refused(parent: Process, target: Target) -> None:
    with fails(EFAULT):
        parent.execveat(opened(parent, target.agent_path), 0, flags=AT_EMPTY_PATH)


@pytest.mark.parametrize(
    "fd",
    [
        pytest.param(lambda process: opened(process, "/dev/null"), id="device"),
        pytest.param(lambda process: process.sys.eventfd2(0, 0), id="eventfd"),
        pytest.param(lambda process: opened(process, process.target.folder()), id="folder"),
        pytest.param(lambda process: process.sys.pipe()[0], id="pipe"),
        pytest.param(lambda process: process.sys.socket(AF_UNIX, SOCK_STREAM, 0), id="socket"),
    ],
)
@clause("execveat.2/eacces-not-regular-descriptor")
@lie(EXEC_DOES_NOTHING)
def test_a_descriptor_of_no_regular_file_is_refused(
    parent: Process, fd: Callable[[Process], int]
) -> None:
    with fails(EACCES):
        parent.execveat(fd(parent), "", flags=AT_EMPTY_PATH)


# --- AT_EXECVE_CHECK ---


def checks(process: Process, path: str | bytes) -> int:
    """Ask whether a file may be run."""
    empty = bytes(8)
    return int(process.sys.execveat(AT_FDCWD, path, empty, empty, AT_EXECVE_CHECK))


@clause("execveat.2/at-execve-check")
@lie(leaves_out("execveat"))
def test_the_check_runs_nothing(parent: Process, target: Target) -> None:
    folder = folder_with_agent(parent)
    assert checks(parent, f"{folder}/agent") == 0
    assert checks(parent, without_format(parent)) == 0
    assert parent.images == 0
    parent.sys.chmod(f"{folder}/agent", 0o644)
    with fails(EACCES):
        checks(parent, f"{folder}/agent")
    with fails(ENOENT):
        checks(parent, f"{folder}/none")
