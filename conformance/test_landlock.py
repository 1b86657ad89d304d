"""landlock(7): who is under a restriction."""

from __future__ import annotations

import struct

import pytest

from pytest_procsemantics import Process, Target, clause
from pytest_procsemantics.alike import Make, by_any_copy, by_any_process
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    AT_FDCWD,
    EACCES,
    LANDLOCK_ACCESS_FS_EXECUTE,
    LANDLOCK_ACCESS_FS_READ_FILE,
    LANDLOCK_RULE_PATH_BENEATH,
    O_PATH,
    PR_SET_NO_NEW_PRIVS,
)
from pytest_procsemantics.lies import by_maker_too, leaves_out, lie

HANDLED = struct.Struct("<Q")  # struct landlock_ruleset_attr of ABI 1
BENEATH = struct.Struct("<Qi")  # struct landlock_path_beneath_attr, packed

READ = LANDLOCK_ACCESS_FS_READ_FILE
NOT_RESTRICTED = leaves_out("landlock_restrict_self")


def new_ruleset(process: Process, access: int, *paths: str) -> int:
    """Rules by which a kind of access is allowed for these files and beneath these folders only."""
    handled = HANDLED.pack(access)
    rules = int(process.sys.landlock_create_ruleset(handled, len(handled), 0))
    for path in paths:
        beneath = BENEATH.pack(access, process.sys.openat(AT_FDCWD, path, O_PATH))
        process.sys.landlock_add_rule(rules, LANDLOCK_RULE_PATH_BENEATH, beneath, 0)
    process.sys.prctl(PR_SET_NO_NEW_PRIVS, 1)
    return rules


def restrict(process: Process, *paths: str) -> None:
    """Let a process, or thread, read only these files and those beneath these folders."""
    process.sys.landlock_restrict_self(new_ruleset(process, READ, *paths), 0)


def read(process: Process, path: str) -> bytes:
    """A file of three bytes."""
    return bytes(process.sys.read(process.sys.openat(AT_FDCWD, path), 3))


@pytest.fixture
def file(target: Target, observer: Observer) -> str:
    """A file of three bytes."""
    return observer.process.make_file(f"{target.folder()}/file", b"abc")


@by_any_process("landlock.7/fork-inherits-domain")
@lie(NOT_RESTRICTED)
def test_a_child_is_under_its_makers_restriction(parent: Process, make: Make, file: str) -> None:
    assert read(parent, file) == b"abc"
    restrict(parent)
    child = make(parent)
    with fails(EACCES):
        read(child, file)


@clause("landlock.7/new-thread-inherits-domain")
@lie(NOT_RESTRICTED)
def test_a_thread_is_under_its_makers_restriction(parent: Process, file: str) -> None:
    maker = parent.thread("maker")
    restrict(maker)
    with fails(EACCES):
        read(maker.thread(), file)


@clause("landlock.7/existing-threads-not-restricted")
@lie(by_maker_too("landlock_restrict_self"))
def test_a_thread_that_was_there_is_under_none(parent: Process, file: str) -> None:
    rules = new_ruleset(parent, READ)
    thread = parent.thread()
    thread.sys.landlock_restrict_self(rules, 0)
    with fails(EACCES):
        read(thread, file)
    assert read(parent, file) == b"abc"


@by_any_copy("landlock.7/childs-domain-leaves-parent")
@lie(by_maker_too("landlock_restrict_self"))
def test_a_childs_restriction_does_not_bind_the_parent(
    parent: Process, make: Make, file: str
) -> None:
    rules = new_ruleset(parent, READ)
    child = make(parent)
    child.sys.landlock_restrict_self(rules, 0)
    with fails(EACCES):
        read(child, file)
    assert read(parent, file) == b"abc"


@clause("landlock.7/exec-keeps-domain")
@lie(NOT_RESTRICTED)
def test_the_restriction_stays_over_exec(parent: Process, target: Target, file: str) -> None:
    restrict(parent, target.agent_path.decode())
    parent.execve()
    with fails(EACCES):
        read(parent, file)


@clause("landlock.7/cannot-be-removed")
@lie(NOT_RESTRICTED)
def test_a_child_cannot_lift_the_restriction(parent: Process, target: Target, file: str) -> None:
    restrict(parent)
    child = parent.fork()
    restrict(child, target.folder())
    with fails(EACCES):
        read(child, file)


@clause("landlock.7/exec-outside-allowed-tree-refused")
@lie(NOT_RESTRICTED)
def test_a_program_elsewhere_may_not_be_executed(
    parent: Process, observer: Observer, target: Target
) -> None:
    inside, outside = f"{target.folder()}/inside", f"{target.folder()}/outside"
    agent = observer.read(target.agent_path.decode())
    for folder in (inside, outside):
        parent.sys.mkdir(folder)
        parent.make_file(f"{folder}/program", agent, 0o755)
    rules = new_ruleset(parent, LANDLOCK_ACCESS_FS_EXECUTE, inside)
    parent.sys.landlock_restrict_self(rules, 0)
    child = parent.fork()
    with fails(EACCES):
        child.execve(f"{outside}/program")
    with fails(EACCES):
        parent.execve(f"{outside}/program")
    assert child.execve(f"{inside}/program").sys.getppid() == parent.own_pid
