"""prctl(2): PR_SET_DUMPABLE."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.alike import Make, MakeWith, like_clone, like_fork
from pytest_procsemantics.driven import Observer, fails
from pytest_procsemantics.driven.constants import (
    CLONE_VM,
    EINVAL,
    EPERM,
    PR_GET_DUMPABLE,
    PR_SET_DUMPABLE,
    PTRACE_ATTACH,
    PTRACE_SEIZE,
    SIGCHLD,
)
from pytest_procsemantics.lies import drops, in_child, instead, leaves_out, lie, passes
from pytest_procsemantics.requirements import become_ordinary

ALWAYS_ONE = passes("it stays 1", "prctl", 1, lambda value: value or 1)


def is_dumpable(process: Process) -> int:
    return int(process.sys.prctl(PR_GET_DUMPABLE))


@clause("prctl.2/dumpable-normally-one")
@lie(in_child("it begins with 0", lambda child: child.sys.prctl(PR_SET_DUMPABLE, 0)))
def test_a_process_is_normally_dumpable(parent: Process) -> None:
    assert is_dumpable(parent) == 1
    assert is_dumpable(parent.fork()) == 1


@clause("prctl.2/dumpable-only-zero-and-one")
@lie(passes("2 and 3 are 1", "prctl", 1, lambda value: min(value, 1)))
@pytest.mark.parametrize("value", [2, 3])
def test_another_value_than_zero_and_one_is_refused(parent: Process, value: int) -> None:
    with fails(EINVAL):
        parent.sys.prctl(PR_SET_DUMPABLE, value)
    assert is_dumpable(parent) == 1


@like_fork("prctl.2/dumpable-inherited-by-fork")
@lie(in_child("it is 1 again", lambda child: child.sys.prctl(PR_SET_DUMPABLE, 1)))
def test_a_forked_child_has_its_parents_value(parent: Process, make: Make) -> None:
    parent.sys.prctl(PR_SET_DUMPABLE, 0)
    assert is_dumpable(make(parent)) == 0


@clause("prctl.2/dumpable-shared-with-memory")
@lie(instead("vfork", SIGCHLD))
def test_the_child_of_vfork_changes_its_parents_value(parent: Process) -> None:
    child = parent.vfork()
    child.sys.prctl(PR_SET_DUMPABLE, 0)
    child.exit()
    assert is_dumpable(parent) == 0


@like_clone("prctl.2/dumpable-shared-with-memory")
@lie(drops(CLONE_VM))
def test_who_shares_the_memory_has_the_same_value(parent: Process, make: MakeWith) -> None:
    child = make(parent, CLONE_VM)
    child.sys.prctl(PR_SET_DUMPABLE, 0)
    assert is_dumpable(parent) == 0


# --- what it does ---


@clause("prctl.2/dumpable-zero-not-attachable")
@lie(ALWAYS_ONE, leaves_out("prctl"))
def test_a_process_that_is_not_dumpable_cannot_be_attached(parent: Process) -> None:
    child = parent.fork()
    parent.sys.capset(0, 0, 0)
    child.sys.capset(0, 0, 0)
    child.sys.prctl(PR_SET_DUMPABLE, 0)
    with fails(EPERM):
        parent.sys.ptrace(PTRACE_ATTACH, child.own_pid, 0, 0)
    child.sys.prctl(PR_SET_DUMPABLE, 1)
    parent.sys.ptrace(PTRACE_SEIZE, child.own_pid, 0, 0)


@clause("prctl.2/dumpable-zero-proc-owner")
@lie(ALWAYS_ONE)
def test_the_files_in_proc_of_a_process_that_is_not_dumpable_are_roots(
    parent: Process, observer: Observer
) -> None:
    become_ordinary(parent)
    path = f"/proc/{parent.pid}/status"
    parent.sys.prctl(PR_SET_DUMPABLE, 1)
    assert observer.process.sys.stat(path).uid == parent.sys.getuid()
    parent.sys.prctl(PR_SET_DUMPABLE, 0)
    assert observer.process.sys.stat(path).uid == 0
