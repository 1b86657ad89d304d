"""proc(5): the program of a process, its arguments and environment, and its memory."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make, like_fork
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    CLONE_VM,
    MADV_DONTFORK,
    MADV_WIPEONFORK,
    SIGCHLD,
)
from pytest_procsemantics.lies import (
    EXEC_DOES_NOTHING,
    EXEC_IN_A_CHILD,
    every_child,
    exec_given,
    in_child,
    leaves_out,
    lie,
)
from pytest_procsemantics.requirements.programs import copy_agent

WORD = 8  # bytes
ANOTHER_PROGRAM = in_child("it runs another program", lambda child: child.execve(argv=["other"]))


def arguments(observer: Observer, process: Process) -> bytes:
    return observer.read(f"/proc/{process.pid}/cmdline")


def environment(observer: Observer, process: Process) -> bytes:
    return observer.read(f"/proc/{process.pid}/environ")


def auxiliary(observer: Observer, process: Process) -> bytes:
    return observer.read(f"/proc/{process.pid}/auxv")


def program(observer: Observer, process: Process) -> str:
    return observer.link(f"/proc/{process.pid}/exe")


def maps(observer: Observer, process: Process) -> list[bytes]:
    return observer.read(f"/proc/{process.pid}/maps").splitlines()


# --- arguments, environment, auxiliary vector ---


@clause("proc.5/cmdline-set-by-exec")
@lie(exec_given("one argument less", lambda path, argv, envp: (path, argv[:-1], envp)))
def test_exec_gives_cmdline_its_arguments_each_with_a_null_byte(
    parent: Process, observer: Observer
) -> None:
    parent.execve(argv=["a", "b c", ""])
    assert arguments(observer, parent) == b"a\0b c\0\0"


@like_fork("proc.5/cmdline-same-after-fork")
@lie(ANOTHER_PROGRAM)
def test_cmdline_of_a_child_is_the_parents(parent: Process, observer: Observer, make: Make) -> None:
    parent.execve(argv=["one", "two"])
    child = make(parent)
    assert arguments(observer, child) == arguments(observer, parent) == b"one\0two\0"


@clause("proc.5/cmdline-follows-changed-strings")
@lie(every_child(CLONE_VM | SIGCHLD))
def test_cmdline_follows_changes_of_the_own_strings(parent: Process, observer: Observer) -> None:
    parent.execve(argv=["one", "two"])
    string = parent.load(parent.stack_pointer + WORD)
    child = parent.fork()
    child.store(string, b"ONE")
    assert arguments(observer, child) == b"ONE\0two\0"
    assert arguments(observer, parent) == b"one\0two\0"


@clause("proc.5/environ-set-by-exec")
@lie(exec_given("one string less", lambda path, argv, envp: (path, argv, envp[:-1])))
def test_exec_gives_environ_its_strings(parent: Process, observer: Observer) -> None:
    parent.execve(envp=["X=1", "Y="])
    assert environment(observer, parent) == b"X=1\0Y=\0"


@like_fork("proc.5/environ-same-after-fork")
@lie(ANOTHER_PROGRAM)
def test_environ_of_a_child_is_the_parents(parent: Process, observer: Observer, make: Make) -> None:
    parent.execve(envp=["A=1"])
    child = make(parent)
    assert environment(observer, child) == environment(observer, parent) == b"A=1\0"


@clause("proc.5/auxv-same-after-fork")
@lie(ANOTHER_PROGRAM)
def test_auxv_of_a_child_is_the_parents(parent: Process, observer: Observer) -> None:
    parent.execve(envp=["LONG=" + "x" * 5000])
    child = parent.fork()
    assert auxiliary(observer, child) == auxiliary(observer, parent) != b""


@clause("proc.5/auxv-same-after-fork")
@lie(EXEC_DOES_NOTHING)
def test_auxv_is_what_the_new_image_got(parent: Process, observer: Observer) -> None:
    before = auxiliary(observer, parent)
    parent.execve(envp=["LONG=" + "x" * 5000])
    words = [word for pair in parent.initial().auxv.items() for word in pair]
    shown = auxiliary(observer, parent)
    assert shown.startswith(b"".join(word.to_bytes(WORD, "little") for word in words))
    assert shown != before


# --- the program ---


@clause("proc.5/exe-set-by-exec")
@lie(exec_given("exec runs another file", lambda path, argv, envp: (b"", argv, envp)))
def test_exe_is_the_new_program(parent: Process, observer: Observer, target: Target) -> None:
    path = copy_agent(parent, f"{target.folder()}/agent")
    parent.execve(path)
    assert program(observer, parent) == path


@clause("proc.5/exe-set-by-exec")
@lie(EXEC_DOES_NOTHING)
def test_exe_of_a_script_is_its_interpreter(
    parent: Process, observer: Observer, target: Target
) -> None:
    path = copy_agent(parent, f"{target.folder()}/agent")
    parent.execve(parent.make_file(f"{target.folder()}/script", f"#!{path}\n".encode(), 0o755))
    assert program(observer, parent) == path


@like_fork("proc.5/exe-same-after-fork")
@lie(ANOTHER_PROGRAM)
def test_exe_of_a_child_is_the_parents(
    parent: Process, observer: Observer, target: Target, make: Make
) -> None:
    path = copy_agent(parent, f"{target.folder()}/agent")
    parent.execve(path)
    assert program(observer, make(parent)) == path


@clause("proc.5/exe-deleted-suffix")
@lie(leaves_out("unlink"))
def test_a_program_without_a_name_is_marked_and_runs(
    parent: Process, observer: Observer, target: Target
) -> None:
    path = copy_agent(parent, f"{target.folder()}/agent")
    parent.execve(path)
    other = parent.fork()
    parent.sys.unlink(path)
    assert program(observer, parent) == f"{path} (deleted)"
    other.execve(f"/proc/{parent.pid}/exe")
    assert program(observer, other) == f"{path} (deleted)"


@clause("proc.5/comm-truncated")
@lie(EXEC_DOES_NOTHING)
def test_comm_holds_15_bytes_of_the_programs_name(
    parent: Process, observer: Observer, target: Target
) -> None:
    parent.execve(copy_agent(parent, f"{target.folder()}/a-name-of-20-letters"))
    assert observer.read(f"/proc/{parent.pid}/comm") == b"a-name-of-20-le\n"


# --- memory ---


@like_fork("proc.5/maps-equal-after-fork")
@lie(in_child("it maps a page", lambda child: child.allocate(1)))
def test_maps_of_a_child_are_the_parents(parent: Process, observer: Observer, make: Make) -> None:
    parent.allocate(1, shared=True)
    child = make(parent)
    assert maps(observer, child) == maps(observer, parent) != []


@clause("proc.5/maps-replaced-by-exec")
@lie(EXEC_DOES_NOTHING)
def test_exec_leaves_no_mapping_of_the_old_program(
    parent: Process, observer: Observer, target: Target
) -> None:
    old = copy_agent(parent, f"{target.folder()}/agent").encode()
    parent.execve(old)
    assert any(line.endswith(old) for line in maps(observer, parent))
    parent.execve()
    assert not any(line.endswith(old) for line in maps(observer, parent))
    assert any(line.endswith(target.agent_path) for line in maps(observer, parent))
    assert any(line.endswith(b"[stack]") for line in maps(observer, parent))


def flags_of(observer: Observer, process: Process, address: int) -> set[bytes]:
    """The flags of the mapping that begins at an address; of none where there is no such mapping."""
    _, _, behind = observer.read(f"/proc/{process.pid}/smaps").partition(b"%08x-" % address)
    return set(behind.partition(b"VmFlags:")[2].partition(b"\n")[0].split())


@pytest.mark.parametrize(
    ("advice", "flag", "flags_of_child"),
    [
        pytest.param(MADV_DONTFORK, b"dc", set(), id="dontfork"),
        pytest.param(MADV_WIPEONFORK, b"wf", {b"wf"}, id="wipeonfork"),
    ],
)
@clause("proc.5/smaps-flags-dc-and-wf")
@lie(leaves_out("madvise"))
def test_smaps_marks_what_a_child_does_not_get(
    parent: Process, observer: Observer, advice: int, flag: bytes, flags_of_child: set[bytes]
) -> None:
    size = parent.target.page_size
    page = parent.allocate(3 * size) + size
    parent.sys.madvise(page, size, advice)
    assert flag in flags_of(observer, parent, page)
    child = parent.fork()
    assert flags_of(observer, child, page) & {flag} == flags_of_child


@clause("proc.5/mem-descriptor-stays-with-old-image")
@lie(EXEC_DOES_NOTHING, EXEC_IN_A_CHILD)
def test_a_descriptor_of_the_memory_does_not_show_the_new_image(parent: Process) -> None:
    cell = parent.allocate(8)
    parent.store(cell, b"contents")
    memory = parent.sys.openat(AT_FDCWD, "/proc/self/mem")
    holder = parent.fork("holder")
    assert holder.sys.pread64(memory, 8, cell) == b"contents"
    parent.execve()
    assert holder.sys.pread64(memory, 8, cell) == b""
    assert holder.sys.pread64(memory, 8, parent.stack_pointer) == b""
