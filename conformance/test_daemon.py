"""daemon(3): the process that goes on in the background, and the one that ends."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.driven import Exit, Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    EAGAIN,
    ENXIO,
    O_RDWR,
    PR_SET_CHILD_SUBREAPER,
)
from pytest_procsemantics.lies import (
    before_function,
    function_becomes,
    function_given,
    in_library_child,
    leaves_out,
    lie,
)
from pytest_procsemantics.requirements import at_the_limit

STANDARD = (0, 1, 2)
JUST_A_CHILD = function_becomes("daemon", "fork")
KEEPS_DESCRIPTORS = function_given("with noclose", "daemon", 1, 1)
NULL_DEVICE = "/dev/null"


def with_a_terminal(program: Process) -> Process:
    """A process that has a controlling terminal; its end hangs nobody up, for it leads no session."""
    leader = program.lib.fork("leader")
    leader.lead_session()
    caller: Process = leader.lib.fork("caller")
    return caller


def standard_files(observer: Observer, process: Process) -> list[str]:
    return [observer.link(f"/proc/{process.pid}/fd/{number}") for number in STANDARD]


def folder_as_standard_files(program: Process, target: Target) -> int:
    """Have the test's folder at descriptors 0 to 2; gives another one of the same."""
    fd: int = program.sys.openat(AT_FDCWD, target.folder())
    assert [program.sys.dup3(fd, number, 0) for number in STANDARD] == list(STANDARD)
    return fd


@clause("daemon.3/goes-to-background", "daemon.3/daemon-is-session-leader")
@lie(JUST_A_CHILD)
def test_the_daemon_leads_a_session_without_a_terminal(program: Process) -> None:
    caller = with_a_terminal(program)
    assert caller.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR) > 0
    daemon = caller.lib.daemon()
    assert daemon.sys.getsid(0) == daemon.sys.getpgrp() == daemon.own_pid
    with fails(ENXIO):
        daemon.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR)


@clause("daemon.3/daemon-can-get-a-terminal")
@lie(JUST_A_CHILD)
def test_a_terminal_that_the_daemon_opens_controls_it(program: Process) -> None:
    daemon = program.lib.fork("caller").lib.daemon()
    daemon.sys.openat(AT_FDCWD, daemon.new_terminal(), O_RDWR)
    assert daemon.sys.openat(AT_FDCWD, "/dev/tty", O_RDWR) > 0


@clause("daemon.3/parent-exits-with-zero")
@lie(function_becomes("daemon", "fork", hangs=True))
def test_the_caller_ends_with_status_0_and_runs_no_handlers(program: Process) -> None:
    caller = program.lib.fork("caller")
    caller.lib.atexit(caller.lib.handler(1))
    caller.lib.daemon()
    assert caller.wait_for_exit() == Exit(0)
    assert program.lib.noted() == []


@clause("daemon.3/reparented")
@lie(leaves_out("prctl"))
def test_the_daemon_comes_to_the_sub_reaper(program: Process) -> None:
    program.sys.prctl(PR_SET_CHILD_SUBREAPER, 1)
    caller = program.lib.fork("caller")
    daemon = caller.lib.daemon()
    caller.wait_for_exit()
    assert daemon.sys.getppid() == program.own_pid
    daemon.exit(4)
    assert program.sys.wait4(daemon.own_pid).status == 4 << 8


# --- what it takes along ---


@pytest.mark.parametrize(
    ("nochdir", "name"),
    [
        pytest.param(1, None, id="nochdir", marks=clause("daemon.3/nochdir-keeps-directory")),
        pytest.param(0, "/", id="without", marks=clause("daemon.3/chdir-to-root")),
    ],
)
@lie(function_given("the other way round", "daemon", 0, lambda nochdir: 1 - nochdir))
def test_the_working_directory_becomes_the_root_unless_told_otherwise(
    program: Process, target: Target, nochdir: int, name: str | None
) -> None:
    program.sys.chdir(target.folder())
    daemon = program.lib.fork("caller").lib.daemon(nochdir, 0)
    assert daemon.sys.getcwd() == (name or target.folder()).encode()


@clause("daemon.3/standard-descriptors-to-null")
@lie(KEEPS_DESCRIPTORS)
def test_descriptors_0_to_2_become_the_null_device(
    program: Process, target: Target, observer: Observer
) -> None:
    fd = folder_as_standard_files(program, target)
    daemon = program.lib.fork("caller").lib.daemon()
    assert standard_files(observer, daemon) == [NULL_DEVICE] * 3
    assert observer.link(f"/proc/{daemon.pid}/fd/{fd}") == target.folder()


@clause("daemon.3/noclose-keeps-descriptors")
@lie(function_given("without noclose", "daemon", 1, 0))
def test_with_noclose_descriptors_0_to_2_stay(
    program: Process, target: Target, observer: Observer
) -> None:
    folder_as_standard_files(program, target)
    daemon = program.lib.fork("caller").lib.daemon(0, 1)
    assert standard_files(observer, daemon) == [target.folder()] * 3


@clause("daemon.3/umask-unchanged")
@lie(in_library_child("the daemon clears its umask", lambda daemon: daemon.sys.umask(0)))
def test_the_umask_stays(program: Process) -> None:
    program.sys.umask(0o27)
    daemon = program.lib.fork("caller").lib.daemon()
    assert daemon.sys.umask(0) == 0o27


@clause("daemon.3/errors-of-fork-and-setsid")
@lie(before_function("chdir to / first", "daemon", lambda caller: caller.sys.chdir("/")))
def test_where_fork_fails_the_caller_goes_on_unchanged(program: Process, target: Target) -> None:
    program.sys.chdir(target.folder())
    with at_the_limit(program), fails(EAGAIN):
        program.lib.daemon()
    assert program.sys.getcwd() == target.folder().encode()
    assert program.sys.getsid(0) != program.own_pid
