"""posix_spawn(3): file actions, and the errors of the child's preparation."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Out, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    E2BIG,
    EACCES,
    EBADF,
    ECHILD,
    ENOENT,
    ENOEXEC,
    ENOTTY,
    F_GETFD,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECTORY,
    O_RDONLY,
    O_WRONLY,
    P_ALL,
    RLIMIT_NOFILE,
    SIG_IGN,
    SIGCHLD,
    TIOCGPGRP,
    WEXITED,
    WNOHANG,
)
from pytest_procsemantics.driven.library import POSIX_SPAWN_SETPGROUP, POSIX_SPAWN_SETSID
from pytest_procsemantics.lies import (
    WITHOUT_ACTIONS,
    before_function,
    function_becomes,
    function_does_nothing,
    function_given,
    lie,
)

CLOSED = 170  # the channels begin above it
AGENT_INSTEAD = function_given("an agent instead", "posix_spawn", 1, "/proc/self/exe")


def is_open(process: Process, fd: int) -> None:
    assert process.sys.fcntl(fd, F_GETFD) == 0


def is_closed(process: Process, fd: int) -> None:
    with fails(EBADF):
        process.sys.fcntl(fd, F_GETFD)


def spawned(program: Process, actions: int) -> Process:
    return program.lib.posix_spawn(actions=actions)  # type: ignore[no-any-return]


def take_all_numbers(process: Process) -> int:
    """Leave no number below the limit free, and give the last one."""
    last: int = process.sys.dup(0)
    _, hard = process.sys.prlimit64(0, RLIMIT_NOFILE)
    process.sys.prlimit64(0, RLIMIT_NOFILE, (last + 1, hard))
    return last


def with_a_terminal(program: Process) -> tuple[Process, int]:
    """A leader of a session, and the terminal that it controls."""
    leader = program.lib.fork("leader")
    return leader, leader.lead_session()


def foreground(process: Process, terminal: int) -> int:
    _, group = process.sys.ioctl(terminal, TIOCGPGRP, Out(4))
    return int.from_bytes(group, "little")


@clause("posix_spawn.3/open-at-number")
@lie(WITHOUT_ACTIONS, function_does_nothing("posix_spawn_file_actions_addopen"))
def test_a_file_is_opened_at_its_number(program: Process, target: Target) -> None:
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addopen(actions, 31, target.folder(), O_RDONLY, 0)
    is_open(spawned(program, actions), 31)
    is_closed(program, 31)


@clause("posix_spawn.3/open-replaces-open-descriptor")
@lie(function_given("without file actions", "posix_spawn", 2, 0, hangs=True))
def test_an_open_descriptor_is_replaced(program: Process, target: Target) -> None:
    reader, writer = program.sys.pipe()
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addopen(actions, writer, target.folder(), O_RDONLY, 0)
    spawned(program, actions)
    program.sys.close(writer)
    assert program.sys.read(reader, 1) == b""


@clause("posix_spawn.3/open-needs-no-free-number")
@lie(WITHOUT_ACTIONS)
def test_an_open_descriptor_is_replaced_where_no_number_is_free(
    program: Process, target: Target
) -> None:
    last = take_all_numbers(program)
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addopen(actions, last, target.folder(), O_RDONLY, 0)
    spawned(program, actions).sys.getdents64(last)


@clause("posix_spawn.3/no-free-descriptor-needed")
@lie(function_becomes("posix_spawn", "pipe", args=(Out(8),)))
def test_no_free_descriptor_is_needed(program: Process) -> None:
    take_all_numbers(program)
    assert program.lib.posix_spawn().sys.getppid() == program.pid


@clause("posix_spawn.3/open-cloexec")
@lie(WITHOUT_ACTIONS, function_given("without O_CLOEXEC", "posix_spawn_file_actions_addopen", 3, 0))
def test_close_on_exec_counts_at_the_lowest_free_number_only(
    program: Process, target: Target
) -> None:
    lowest = program.sys.dup(0)
    program.sys.close(lowest)
    actions, flags = program.lib.actions(), O_RDONLY | O_CLOEXEC
    program.lib.posix_spawn_file_actions_addopen(actions, lowest, target.folder(), flags, 0)
    program.lib.posix_spawn_file_actions_addopen(actions, lowest + 30, target.folder(), flags, 0)
    child = spawned(program, actions)
    is_closed(child, lowest)
    is_open(child, lowest + 30)


@clause("posix_spawn.3/open-flags-mode-umask")
@lie(before_function("umask 0", "posix_spawn", lambda caller: caller.sys.umask(0)))
def test_a_new_file_has_its_mode_less_the_umask(program: Process, target: Target) -> None:
    path = f"{target.folder()}/new"
    program.sys.umask(0o077)
    actions = program.lib.actions()
    flags = O_CREAT | O_WRONLY
    program.lib.posix_spawn_file_actions_addopen(actions, 10, path, flags, 0o666)
    assert spawned(program, actions).sys.fstat(10).mode & 0o777 == 0o600


@clause("posix_spawn.3/open-path-is-copied")
@lie(function_does_nothing("posix_spawn_file_actions_addopen"))
def test_the_path_is_copied(program: Process, target: Target) -> None:
    buffer = program.allocate(4096)
    program.store(buffer, target.folder().encode() + b"\0")
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addopen(actions, 10, buffer, O_RDONLY, 0)
    program.store(buffer, b"/nonexistent\0")
    is_open(spawned(program, actions), 10)


@clause("posix_spawn.3/close-closes")
@lie(WITHOUT_ACTIONS)
def test_a_descriptor_is_closed_in_the_child_only(program: Process) -> None:
    program.sys.dup3(0, 40, 0)
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addclose(actions, 40)
    is_closed(spawned(program, actions), 40)
    is_open(program, 40)


@clause("posix_spawn.3/close-not-open-is-fine")
@lie(
    function_becomes(
        "posix_spawn_file_actions_addclose", "posix_spawn_file_actions_adddup2", CLOSED
    )
)
def test_closing_what_is_not_open_is_fine(program: Process) -> None:
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addclose(actions, CLOSED)
    assert spawned(program, actions).sys.getppid() == program.pid


@clause("posix_spawn.3/dup2-duplicates")
@lie(WITHOUT_ACTIONS)
def test_a_descriptor_is_duplicated(program: Process) -> None:
    reader, writer = program.sys.pipe()
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_adddup2(actions, writer, 40)
    spawned(program, actions).sys.write(40, b"x")
    assert program.sys.read(reader, 1) == b"x"


@clause("posix_spawn.3/dup2-clears-cloexec", "posix_spawn.3/cloexec-after-file-actions")
@lie(
    WITHOUT_ACTIONS,
    before_function("30 stays open", "posix_spawn", lambda caller: caller.sys.dup3(0, 30, 0)),
)
def test_a_duplicate_outlives_a_close_on_exec_source(program: Process) -> None:
    program.sys.dup3(0, 30, O_CLOEXEC)
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_adddup2(actions, 30, 20)
    child = spawned(program, actions)
    is_open(child, 20)
    is_closed(child, 30)


@clause("posix_spawn.3/dup2-same-number-clears-cloexec")
@lie(WITHOUT_ACTIONS)
def test_a_duplicate_onto_itself_stays_open(program: Process) -> None:
    program.sys.dup3(0, 30, O_CLOEXEC)
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_adddup2(actions, 30, 30)
    is_open(spawned(program, actions), 30)


@clause("posix_spawn.3/file-actions-in-order")
@lie(function_does_nothing("posix_spawn_file_actions_addclose"))
def test_file_actions_are_done_in_order(program: Process) -> None:
    program.sys.dup3(0, 30, 0)
    actions, others = program.lib.actions(), program.lib.actions()
    program.lib.posix_spawn_file_actions_adddup2(actions, 30, 31)
    program.lib.posix_spawn_file_actions_addclose(actions, 30)
    child = spawned(program, actions)
    is_open(child, 31)
    is_closed(child, 30)
    program.lib.posix_spawn_file_actions_addclose(others, 30)
    program.lib.posix_spawn_file_actions_adddup2(others, 30, 31)
    with fails(EBADF):
        spawned(program, others)


@clause("posix_spawn.3/chdir-changes-directory")
@lie(WITHOUT_ACTIONS)
def test_the_childs_folder_is_changed(program: Process, target: Target) -> None:
    before = program.sys.getcwd()
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addchdir_np(actions, target.folder())
    assert spawned(program, actions).sys.getcwd() == target.folder().encode()
    assert program.sys.getcwd() == before


@clause("posix_spawn.3/fchdir-changes-directory")
@lie(WITHOUT_ACTIONS)
def test_the_childs_folder_is_changed_by_descriptor(program: Process, target: Target) -> None:
    folder = program.sys.openat(AT_FDCWD, target.folder(), O_RDONLY | O_CLOEXEC)
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addfchdir_np(actions, folder)
    assert spawned(program, actions).sys.getcwd() == target.folder().encode()


@clause("posix_spawn.3/fchdir-before-relative-open")
@lie(function_does_nothing("posix_spawn_file_actions_addfchdir_np"))
def test_a_relative_file_is_opened_in_the_new_folder(program: Process, target: Target) -> None:
    program.sys.mkdir(f"{target.folder()}/new")
    program.sys.chdir(target.folder())
    new = program.sys.openat(AT_FDCWD, "new", O_RDONLY | O_DIRECTORY)
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addfchdir_np(actions, new)
    program.lib.posix_spawn_file_actions_addopen(actions, 30, "file", O_CREAT | O_WRONLY, 0o600)
    spawned(program, actions)
    assert program.sys.access("new/file") == 0


@clause("posix_spawn.3/tcsetpgrp-sets-foreground")
@lie(WITHOUT_ACTIONS)
def test_the_childs_group_comes_to_the_foreground(program: Process) -> None:
    leader, terminal = with_a_terminal(program)
    actions = leader.lib.actions()
    leader.lib.posix_spawn_file_actions_addtcsetpgrp_np(actions, terminal)
    attributes = leader.lib.attributes(POSIX_SPAWN_SETPGROUP)
    child = leader.lib.posix_spawn(actions=actions, attributes=attributes)
    assert foreground(leader, terminal) == child.pid


@clause("posix_spawn.3/tcsetpgrp-from-background")
@lie(WITHOUT_ACTIONS)
def test_a_group_comes_to_the_foreground_from_the_background(program: Process) -> None:
    leader, terminal = with_a_terminal(program)
    other = leader.lib.fork("other")
    other.sys.setpgid(0, 0)
    actions = other.lib.actions()
    other.lib.posix_spawn_file_actions_addtcsetpgrp_np(actions, terminal)
    spawned(other, actions)
    assert foreground(leader, terminal) == other.pid


@clause("posix_spawn.3/tcsetpgrp-not-a-terminal")
@lie(WITHOUT_ACTIONS)
def test_a_foreground_of_no_terminal_is_refused(program: Process) -> None:
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addtcsetpgrp_np(actions, 0)
    with fails(ENOTTY):
        spawned(program, actions)


@clause("posix_spawn.3/tcsetpgrp-after-setsid")
@lie(WITHOUT_ACTIONS, function_does_nothing("posix_spawnattr_setflags"))
def test_in_a_new_session_the_old_ones_terminal_is_refused(program: Process) -> None:
    leader, terminal = with_a_terminal(program)
    actions = leader.lib.actions()
    leader.lib.posix_spawn_file_actions_addtcsetpgrp_np(actions, terminal)
    attributes = leader.lib.attributes(POSIX_SPAWN_SETSID)
    with fails(ENOTTY):
        leader.lib.posix_spawn(actions=actions, attributes=attributes)


@clause("posix_spawn.3/chdir-before-relative-program")
@lie(WITHOUT_ACTIONS)
def test_a_relative_program_begins_in_the_new_folder(program: Process, target: Target) -> None:
    program.sys.symlinkat(target.agent_path, AT_FDCWD, f"{target.folder()}/agent")
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addchdir_np(actions, target.folder())
    child = program.lib.posix_spawn("./agent", actions=actions)
    assert child.initial().argv == [b"./agent"]


@clause("posix_spawn.3/dup2-not-open")
@lie(WITHOUT_ACTIONS)
def test_a_source_that_is_not_open_is_refused(program: Process) -> None:
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_adddup2(actions, CLOSED, 22)
    with fails(EBADF):
        spawned(program, actions)


@clause("posix_spawn.3/open-failure")
@lie(WITHOUT_ACTIONS)
def test_a_file_that_is_missing_is_refused(program: Process) -> None:
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addopen(actions, 10, "/nonexistent", O_RDONLY, 0)
    with fails(ENOENT):
        spawned(program, actions)


@clause("posix_spawn.3/chdir-failure")
@lie(WITHOUT_ACTIONS)
def test_a_folder_that_is_missing_is_refused(program: Process) -> None:
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addchdir_np(actions, "/nonexistent")
    with fails(ENOENT):
        spawned(program, actions)


@clause("posix_spawn.3/add-negative-descriptor")
@lie(function_given("descriptor 3 instead", "posix_spawn_file_actions_addclose", 1, 3))
def test_a_negative_descriptor_is_refused(program: Process) -> None:
    actions = program.lib.actions()
    with fails(EBADF):
        program.lib.posix_spawn_file_actions_adddup2(actions, -1, 3)
    with fails(EBADF):
        program.lib.posix_spawn_file_actions_adddup2(actions, 3, -1)
    with fails(EBADF):
        program.lib.posix_spawn_file_actions_addopen(actions, -1, "/", O_RDONLY, 0)
    with fails(EBADF):
        program.lib.posix_spawn_file_actions_addclose(actions, -1)


@clause("posix_spawn.3/add-negative-closefrom")
@lie(function_given("from 3", "posix_spawn_file_actions_addclosefrom_np", 1, 3))
def test_to_close_from_a_negative_descriptor_is_refused(program: Process) -> None:
    actions = program.lib.actions()
    with fails(EBADF):
        program.lib.posix_spawn_file_actions_addclosefrom_np(actions, -1)


@clause("posix_spawn.3/add-above-limit")
@lie(function_given("a lower number", "posix_spawn_file_actions_adddup2", 2, 20))
def test_a_descriptor_above_the_limit_is_refused(program: Process) -> None:
    program.sys.prlimit64(0, RLIMIT_NOFILE, (50, 50))
    actions = program.lib.actions()
    with fails(EBADF):
        program.lib.posix_spawn_file_actions_adddup2(actions, 0, 50)


@clause("posix_spawn.3/add-does-not-check-objects")
@lie(
    function_becomes("posix_spawn_file_actions_addopen", "open", args=("/nonexistent", 0)),
    function_becomes("posix_spawn_file_actions_adddup2", "dup", args=(CLOSED,)),
    function_becomes("posix_spawn_file_actions_addchdir_np", "chdir", args=("/nonexistent",)),
)
def test_what_can_not_be_done_yet_can_be_added(program: Process) -> None:
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_addopen(actions, 10, "/nonexistent", O_RDONLY, 0)
    program.lib.posix_spawn_file_actions_adddup2(actions, CLOSED, 22)
    program.lib.posix_spawn_file_actions_addchdir_np(actions, "/nonexistent")


@pytest.mark.parametrize(
    ("content", "mode", "errno"),
    [
        pytest.param(
            b"#!/bin/sh\n",
            0o644,
            EACCES,
            marks=clause("posix_spawn.3/eacces-not-executable"),
            id="mode",
        ),
        pytest.param(
            b"plain text\n", 0o755, ENOEXEC, marks=clause("posix_spawn.3/enoexec"), id="text"
        ),
    ],
)
@lie(AGENT_INSTEAD)
def test_a_file_that_is_no_program_is_refused(
    program: Process, target: Target, content: bytes, mode: int, errno: int
) -> None:
    path = program.make_file(f"{target.folder()}/file", content, mode)
    with fails(errno):
        program.lib.posix_spawn(path)


@clause("posix_spawn.3/enoent-missing-program", "posix_spawn.3/error-is-returned")
@lie(AGENT_INSTEAD)
def test_a_missing_program_is_refused(program: Process) -> None:
    with fails(ENOENT):
        program.lib.posix_spawn("/nonexistent")


@clause("posix_spawn.3/e2big")
@lie(function_given("a short argument instead", "posix_spawn", 4, ["short"]))
def test_a_long_argument_is_refused(program: Process) -> None:
    argument = program.allocate(200_000 + 24)
    program.store(argument, (argument + 24).to_bytes(8, "little") + bytes(16) + b"x" * 199_999)
    with fails(E2BIG):
        program.lib.posix_spawn(argv=argument)


@clause("posix_spawn.3/no-child-on-error")
@lie(before_function("forks first", "posix_spawn", lambda caller: caller.lib.fork()))
def test_after_an_error_there_is_no_child(program: Process) -> None:
    with fails(ENOENT):
        program.lib.posix_spawn("/nonexistent")
    with fails(ECHILD):
        program.sys.waitid(P_ALL, 0, WEXITED | WNOHANG)


@clause("posix_spawn.3/no-child-on-error-sigchld-ignored")
@lie(AGENT_INSTEAD)
def test_an_error_is_told_also_when_sigchld_is_ignored(program: Process) -> None:
    program.sys.rt_sigaction(SIGCHLD, SIG_IGN)
    with fails(ENOENT):
        program.lib.posix_spawn("/nonexistent")


@clause("posix_spawn.3/parent-unchanged")
@lie(before_function("the caller closes 30", "posix_spawn", lambda p: p.sys.close(30)))
def test_file_actions_change_the_child_only(program: Process, target: Target) -> None:
    program.sys.dup3(0, 30, 0)
    actions = program.lib.actions()
    program.lib.posix_spawn_file_actions_adddup2(actions, 30, 31)
    program.lib.posix_spawn_file_actions_addchdir_np(actions, target.folder())
    before = program.sys.getcwd()
    spawned(program, actions)
    is_open(program, 30)
    is_closed(program, 31)
    assert program.sys.getcwd() == before
