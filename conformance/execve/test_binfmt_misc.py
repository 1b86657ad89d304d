"""execve(2): interpreters that are registered with binfmt_misc, in a user namespace of the check's own."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import CallFailed, Target, Unsupported, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_NEWUSER,
    EACCES,
    ENODEV,
    ENOENT,
    ENOEXEC,
    O_WRONLY,
)
from pytest_procsemantics.lies import EXEC_DOES_NOTHING, exec_given, lie
from pytest_procsemantics.requirements import private_mounts

MAGIC = b"procsem!"
RUNS_THE_AGENT = exec_given(
    "exec runs the agent itself", lambda path, argv, envp: (b"", argv, envp)
)


def tell(process: Process, file: str, text: str) -> None:
    """Write a text into a file of binfmt_misc."""
    fd = process.sys.openat(AT_FDCWD, f"{process.target.folder()}/misc/{file}", O_WRONLY)
    process.sys.write(fd, text.encode())
    process.sys.close(fd)


def register(process: Process, interpreter: str) -> None:
    """Register an interpreter for files that begin with MAGIC, and for those that end in .procsem."""
    misc = f"{process.target.folder()}/misc"
    process.sys.mkdir(misc)
    private_mounts(process, CLONE_NEWUSER, root=True)
    try:
        process.sys.mount("none", misc, "binfmt_misc")
    except CallFailed as error:
        if error.errno != ENODEV:
            raise
        raise Unsupported("fs:binfmt_misc (ENODEV)") from None
    tell(process, "register", f":magic:M::{MAGIC.decode()}::{interpreter}:")
    tell(process, "register", f":extension:E::procsem::{interpreter}:")


@clause("execve.2/binfmt-misc-runs-interpreter")
@lie(RUNS_THE_AGENT)
def test_a_registered_interpreter_is_run(parent: Process, target: Target) -> None:
    folder, agent = target.folder(), target.agent_path
    by_magic = parent.make_file(f"{folder}/file", MAGIC, 0o755)
    by_extension = parent.make_file(f"{folder}/file.procsem", b"text", 0o755)
    register(parent, agent.decode())
    parent.execve(by_magic, argv=["zero", "one"])
    assert parent.initial().argv == [agent, by_magic.encode(), b"one"]
    parent.execve(by_extension, argv=["zero", "one"])
    assert parent.initial().argv == [agent, by_extension.encode(), b"one"]
    tell(parent, "status", "0")
    with fails(ENOEXEC):
        parent.execve(by_magic)


@pytest.mark.parametrize(
    ("interpreter", "file", "errno"),
    [
        pytest.param("none", "file", ENOENT, id="no-interpreter"),
        pytest.param("plain", "file", EACCES, id="interpreter-not-executable"),
        pytest.param("empty", "file", ENOEXEC, id="interpreter-empty"),
        pytest.param("agent", "plain", EACCES, id="file-not-executable"),
        pytest.param("agent", "empty", ENOEXEC, id="file-empty"),
        pytest.param("agent", "none", ENOENT, id="no-file"),
    ],
)
@clause("execve.2/binfmt-misc-errors")
@lie(EXEC_DOES_NOTHING)
def test_the_errors_are_those_of_a_script(
    parent: Process, target: Target, interpreter: str, file: str, errno: int
) -> None:
    folder = target.folder()
    parent.sys.symlink(target.agent_path, f"{folder}/agent")
    parent.make_file(f"{folder}/file", MAGIC, 0o755)
    parent.make_file(f"{folder}/plain", MAGIC, 0o644)
    parent.make_file(f"{folder}/empty", b"", 0o755)
    register(parent, f"{folder}/{interpreter}")
    with fails(errno):
        parent.execve(f"{folder}/{file}")
