"""execve(2), ERRORS: what is refused, and that the caller goes on."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Target, fails
from pytest_procsemantics.driven.constants import (
    AF_UNIX,
    AT_FDCWD,
    EACCES,
    EAGAIN,
    EFAULT,
    ELOOP,
    ENAMETOOLONG,
    ENOENT,
    ENOEXEC,
    ENOTDIR,
    ETXTBSY,
    MS_NOEXEC,
    NAME_MAX,
    O_RDWR,
    O_WRONLY,
    PATH_MAX,
    PROT_NONE,
    RLIMIT_NPROC,
    S_IFIFO,
    SOCK_STREAM,
)
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, before_exec, exec_given, lie
from pytest_procsemantics.requirements import private_mounts

Maker = Callable[[Process, str], object]
Array = Callable[[Process], int]
BAD = 8  # an address where nothing is ever mapped
SYMBOLIC_LINKS = 40  # in one path (path_resolution(7))
# From here on there is a user for each pid: whoever runs this beside us counts other processes.
USERS = 100_000


def agent_copy(process: Process, path: str, mode: int = 0o755) -> str:
    """Copy the agent to a path on the target."""
    target = process.target
    return process.make_file(path, target.observer.read(target.agent_path.decode()), mode)


def script(process: Process, interpreter: str, name: str = "script") -> str:
    """Make a script with this interpreter."""
    path = f"{process.target.folder()}/{name}"
    return process.make_file(path, f"#!{interpreter}\n".encode(), 0o755)


def chain(process: Process, to: str, length: int, name: str = "link") -> str:
    """Make symbolic links that lead to a path one over the other; gives the last one."""
    path = to
    for number in range(length):
        process.sys.symlink(path, f"{process.target.folder()}/{name}{number}")
        path = f"{process.target.folder()}/{name}{number}"
    return path


@clause("execve.2/enoent-file")
@lie(EXEC_DOES_NOTHING)
def test_a_missing_file_is_refused(parent: Process, target: Target) -> None:
    with fails(ENOENT):
        parent.execve(f"{target.folder()}/missing")
    parent.sys.symlink("missing", f"{target.folder()}/dangling")
    with fails(ENOENT):
        parent.execve(f"{target.folder()}/dangling")


@clause("execve.2/enoent-empty")
@lie(EXEC_DOES_NOTHING)
def test_an_empty_name_is_refused(parent: Process) -> None:
    with fails(ENOENT):
        parent.execve("")


@clause("execve.2/enotdir-prefix")
@lie(EXEC_DOES_NOTHING)
def test_a_file_as_folder_is_refused(parent: Process, target: Target) -> None:
    with fails(ENOTDIR):
        parent.execve(target.agent_path + b"/program")


@clause("execve.2/enametoolong-path")
@lie(EXEC_DOES_NOTHING)
def test_a_path_that_is_too_long_is_refused(parent: Process) -> None:
    with fails(ENOENT):
        parent.execve("/" * (PATH_MAX - 2) + "x")
    with fails(ENAMETOOLONG):
        parent.execve("/" * (PATH_MAX - 1) + "x")


@clause("execve.2/enametoolong-component")
@lie(EXEC_DOES_NOTHING)
def test_a_name_that_is_too_long_is_refused(parent: Process, target: Target) -> None:
    with fails(ENOENT):
        parent.execve(f"{target.folder()}/{'x' * NAME_MAX}")
    with fails(ENAMETOOLONG):
        parent.execve(f"{target.folder()}/{'x' * (NAME_MAX + 1)}")


@clause("execve.2/eloop-symlinks")
@lie(EXEC_DOES_NOTHING)
def test_too_many_symbolic_links_are_refused(parent: Process, target: Target) -> None:
    parent.sys.symlink("itself", f"{target.folder()}/itself")
    with fails(ELOOP):
        parent.execve(f"{target.folder()}/itself")
    last = chain(parent, target.agent_path.decode(), SYMBOLIC_LINKS)
    with fails(ELOOP):
        parent.execve(chain(parent, last, 1, "beyond"))
    parent.execve(last)
    assert parent.images == 1


@clause("execve.2/eloop-symlinks-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_that_is_a_link_to_itself_is_refused(
    parent: Process, target: Target
) -> None:
    parent.sys.symlink("itself", f"{target.folder()}/itself")
    with fails(ELOOP):
        parent.execve(script(parent, f"{target.folder()}/itself"))


@clause("execve.2/symlink-limit-counts-anew-for-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_links_count_anew_for_the_interpreter(parent: Process, target: Target) -> None:
    agent = target.agent_path.decode()
    path = script(parent, chain(parent, agent, SYMBOLIC_LINKS, "a"))
    parent.execve(chain(parent, path, SYMBOLIC_LINKS, "b"))
    assert parent.images == 1
    with fails(ELOOP):
        parent.execve(script(parent, chain(parent, agent, SYMBOLIC_LINKS + 1, "c"), "another"))


@clause("execve.2/eacces-no-execute-permission")
@lie(EXEC_DOES_NOTHING)
def test_a_file_without_execute_permission_is_refused(parent: Process, target: Target) -> None:
    path = agent_copy(parent, f"{target.folder()}/agent", 0o644)
    with fails(EACCES):
        parent.execve(path)
    parent.sys.chmod(path, 0o755)
    parent.execve(path)


@clause("execve.2/eacces-no-execute-permission-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_without_execute_permission_is_refused(
    parent: Process, target: Target
) -> None:
    with fails(EACCES):
        parent.execve(script(parent, agent_copy(parent, f"{target.folder()}/agent", 0o644)))


@clause("execve.2/eacces-search")
@lie(EXEC_DOES_NOTHING)
def test_a_folder_without_search_permission_is_refused(parent: Process, target: Target) -> None:
    folder = f"{target.folder()}/closed"
    parent.sys.mkdir(folder)
    path = agent_copy(parent, f"{folder}/agent")
    parent.sys.chmod(folder, 0o600)
    parent.sys.capset(0, 0, 0)
    with fails(EACCES):
        parent.execve(path)
    parent.sys.chmod(folder, 0o700)
    parent.execve(path)


@clause("execve.2/eacces-search-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_in_a_folder_without_search_permission_is_refused(
    parent: Process, target: Target
) -> None:
    folder = f"{target.folder()}/closed"
    parent.sys.mkdir(folder)
    path = script(parent, agent_copy(parent, f"{folder}/agent"))
    parent.sys.chmod(folder, 0o600)
    parent.sys.capset(0, 0, 0)
    with fails(EACCES):
        parent.execve(path)


@clause("execve.2/execute-without-read-suffices")
@lie(EXEC_DOES_NOTHING)
def test_execute_permission_is_enough(parent: Process, target: Target) -> None:
    path = agent_copy(parent, f"{target.folder()}/agent", 0o111)
    parent.sys.capset(0, 0, 0)
    with fails(EACCES):
        parent.sys.openat(AT_FDCWD, path)
    parent.execve(path)
    assert parent.images == 1


def makes_a_fifo(process: Process, path: str) -> None:
    """Make a FIFO that all may execute."""
    process.sys.mknod(path, S_IFIFO | 0o755)


def makes_a_socket(process: Process, path: str) -> None:
    """Make a socket that all may execute."""
    address = struct.pack("<H", AF_UNIX) + path.encode() + b"\0"
    process.sys.bind(process.sys.socket(AF_UNIX, SOCK_STREAM, 0), address)
    process.sys.chmod(path, 0o755)


def makes_a_link_to_null(process: Process, path: str) -> None:
    """Make a link to a character device."""
    process.sys.symlink("/dev/null", path)


@pytest.mark.parametrize(
    "makes",
    [
        pytest.param(makes_a_link_to_null, id="device"),
        pytest.param(makes_a_fifo, id="fifo"),
        pytest.param(lambda process, path: process.sys.mkdir(path), id="folder"),
        pytest.param(makes_a_socket, id="socket"),
    ],
)
@clause("execve.2/eacces-not-regular")
@lie(EXEC_DOES_NOTHING)
def test_what_is_no_regular_file_is_refused(parent: Process, target: Target, makes: Maker) -> None:
    path = f"{target.folder()}/file"
    makes(parent, path)
    with fails(EACCES):
        parent.execve(path)


@clause("execve.2/eacces-interpreter-not-regular")
@lie(EXEC_DOES_NOTHING)
def test_a_folder_as_interpreter_is_refused(parent: Process) -> None:
    with fails(EACCES):
        parent.execve(script(parent, "/"))


@clause("execve.2/enotdir-interpreter")
@lie(EXEC_DOES_NOTHING)
def test_an_interpreter_below_a_file_is_refused(parent: Process, target: Target) -> None:
    with fails(ENOTDIR):
        parent.execve(script(parent, f"{target.agent_path.decode()}/x"))


@pytest.mark.parametrize(
    "content", [b"", b"x", b"text without an interpreter\n"], ids=["empty", "one-byte", "text"]
)
@clause("execve.2/enoexec-unknown-format")
@lie(EXEC_DOES_NOTHING)
def test_an_unknown_format_is_refused(parent: Process, target: Target, content: bytes) -> None:
    with fails(ENOEXEC):
        parent.execve(parent.make_file(f"{target.folder()}/file", content, 0o755))


@clause("execve.2/aout-not-supported")
@lie(EXEC_DOES_NOTHING)
def test_an_aout_file_is_refused(parent: Process, target: Target) -> None:
    zmagic = struct.pack("<8I", 0o413 | 100 << 16, 4096, 0, 0, 0, 0x1020, 0, 0)
    with fails(ENOEXEC):
        parent.execve(parent.make_file(f"{target.folder()}/aout", zmagic.ljust(8192, b"\0"), 0o755))


@clause("execve.2/efault-pathname")
@lie(EXEC_DOES_NOTHING)
def test_a_bad_address_of_the_name_is_refused(parent: Process) -> None:
    with fails(EFAULT):
        parent.execve(BAD)


def array_at_the_end(process: Process) -> int:
    """An array of pointers without an end: its next page is not to be read."""
    size = process.target.page_size
    page = process.allocate(2 * size)
    text = process.allocate(8)
    process.store(page + size - 8, text)
    process.sys.mprotect(page + size, size, PROT_NONE)
    return page + size - 8


def array_of_a_bad_address(process: Process) -> int:
    """An array of one pointer that leads nowhere, and a null pointer."""
    array = process.allocate(16)
    process.store(array, BAD)
    return array


ARRAYS = [
    pytest.param(lambda process: BAD, id="array"),
    pytest.param(array_of_a_bad_address, id="element"),
    pytest.param(array_at_the_end, id="end"),
]


@pytest.mark.parametrize("array", ARRAYS)
@clause("execve.2/efault-argv")
@lie(EXEC_DOES_NOTHING)
def test_a_bad_address_in_argv_is_refused(parent: Process, array: Array) -> None:
    with fails(EFAULT):
        parent.execve(argv=array(parent))


@pytest.mark.parametrize("array", ARRAYS)
@clause("execve.2/efault-envp")
@lie(EXEC_DOES_NOTHING)
def test_a_bad_address_in_envp_is_refused(parent: Process, array: Array) -> None:
    with fails(EFAULT):
        parent.execve(envp=array(parent))


@clause("execve.2/etxtbsy")
@lie(EXEC_DOES_NOTHING)
def test_a_file_that_is_open_for_writing_is_refused(parent: Process, target: Target) -> None:
    path = agent_copy(parent, f"{target.folder()}/agent")
    other = parent.fork()
    fd = other.sys.openat(AT_FDCWD, path, O_WRONLY)
    with fails(ETXTBSY):
        parent.execve(path)
    other.sys.close(fd)
    parent.execve(path)
    assert parent.images == 1


@clause("execve.2/etxtbsy-write-while-running")
@lie(exec_given("exec runs another file", lambda path, argv, envp: (b"", argv, envp)))
def test_a_running_file_cannot_be_written(parent: Process, target: Target) -> None:
    path = agent_copy(parent, f"{target.folder()}/agent")
    child = parent.fork()
    child.execve(path)
    with fails(ETXTBSY):
        parent.sys.openat(AT_FDCWD, path, O_RDWR)
    child.exit()
    assert parent.sys.openat(AT_FDCWD, path, O_RDWR) > 0


@clause("execve.2/eacces-noexec-mount")
@lie(EXEC_DOES_NOTHING)
def test_a_file_on_a_noexec_mount_is_refused(parent: Process, target: Target) -> None:
    folder = target.folder()
    content = target.observer.read(target.agent_path.decode())
    private_mounts(parent)
    parent.sys.mount("tmpfs", folder, "tmpfs", MS_NOEXEC)
    path = parent.make_file(f"{folder}/agent", content, 0o755)
    with fails(EACCES):
        parent.execve(path)


def above_the_limit(parent: Process) -> Process:
    """A process that a set*uid call put above RLIMIT_NPROC: one for a user who has two others."""
    user = USERS + parent.pid
    parent.fork("first").sys.setresuid(user, user, user)
    parent.fork("second").sys.setresuid(user, user, user)
    process = parent.fork()
    process.sys.setrlimit(RLIMIT_NPROC, (1, 10))
    process.sys.setresuid(user, user, user)
    return process


FORGETS_THE_LIMIT = before_exec(
    "exec raises the limit", lambda process: process.sys.setrlimit(RLIMIT_NPROC, (10, 10))
)


@clause("execve.2/eagain-nproc-exceeded")
@lie(FORGETS_THE_LIMIT)
def test_too_many_processes_of_a_new_user_are_refused(parent: Process) -> None:
    with fails(EAGAIN):
        above_the_limit(parent).execve()


@clause("execve.2/eagain-cleared-when-below")
@lie(FORGETS_THE_LIMIT)
def test_exec_succeeds_once_the_limit_is_not_exceeded(parent: Process) -> None:
    process = above_the_limit(parent)
    with fails(EAGAIN):
        process.execve()
    process.sys.setrlimit(RLIMIT_NPROC, (10, 10))
    process.execve()
    assert process.images == 1


@clause("execve.2/eagain-cleared-by-fork")
@lie(EXEC_DOES_NOTHING)
def test_a_successful_fork_clears_the_mark(parent: Process) -> None:
    process = above_the_limit(parent)
    process.sys.setrlimit(RLIMIT_NPROC, (10, 10))
    process.fork()
    process.sys.setrlimit(RLIMIT_NPROC, (1, 10))
    process.execve()
    assert process.images == 1


@clause("execve.2/nproc-limit-lowered-after-setuid")
@lie(EXEC_DOES_NOTHING)
def test_a_limit_that_is_set_later_does_not_count(parent: Process) -> None:
    user = USERS + parent.pid
    parent.fork("first").sys.setresuid(user, user, user)
    parent.fork("second").sys.setresuid(user, user, user)
    parent.sys.setresuid(user, user, user)
    parent.sys.setrlimit(RLIMIT_NPROC, (1, 10))
    with fails(EAGAIN):
        parent.fork()
    parent.execve()
    assert parent.images == 1
