"""clone(2): CLONE_IO and CLONE_SYSVSEM."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process
from pytest_procsemantics.alike import MakeWith, like_clone
from pytest_procsemantics.driven import Step
from pytest_procsemantics.driven.constants import (
    CLONE_IO,
    CLONE_SYSVSEM,
    GETVAL,
    SEM_UNDO,
)
from pytest_procsemantics.lies import adds, drops, in_child, leaves_out, lie

IOPRIO_WHO_PROCESS = 1
LOW, HIGH = 2 << 13 | 7, 2 << 13 | 0  # of the best-effort class (ioprio_set(2))


@like_clone("clone.2/io-shares-context")
@lie(drops(CLONE_IO))
def test_with_clone_io_the_io_priority_is_one(parent: Process, make: MakeWith) -> None:
    parent.sys.ioprio_set(IOPRIO_WHO_PROCESS, 0, LOW)
    child = make(parent, CLONE_IO)
    child.sys.ioprio_set(IOPRIO_WHO_PROCESS, 0, HIGH)
    assert parent.sys.ioprio_get(IOPRIO_WHO_PROCESS, 0) == HIGH


@like_clone("clone.2/io-unset-own-context")
@lie(adds(CLONE_IO))
def test_without_clone_io_the_io_priority_is_each_ones_own(parent: Process, make: MakeWith) -> None:
    parent.sys.ioprio_set(IOPRIO_WHO_PROCESS, 0, LOW)
    child = make(parent, 0)
    child.sys.ioprio_set(IOPRIO_WHO_PROCESS, 0, HIGH)
    assert parent.sys.ioprio_get(IOPRIO_WHO_PROCESS, 0) == LOW


# --- semaphores ---


@pytest.fixture
def worker(parent: Process, semaphore: int) -> Process:
    """A process that can end before the parent, who looks at the semaphore."""
    return parent.fork("worker")


@like_clone("clone.2/sysvsem-shares-adjustments")
@lie(drops(CLONE_SYSVSEM))
def test_with_clone_sysvsem_the_last_sharers_end_undoes(
    parent: Process, worker: Process, semaphore: int, make: MakeWith
) -> None:
    sharer = make(worker, CLONE_SYSVSEM)
    sharer.sys.semop(semaphore, (0, 1, SEM_UNDO))
    sharer.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 1
    worker.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 0


@like_clone("clone.2/sysvsem-unshare-performs")
@lie(drops(CLONE_SYSVSEM), leaves_out("unshare"))
def test_the_last_sharer_that_leaves_by_unshare_undoes(
    parent: Process, worker: Process, semaphore: int, make: MakeWith
) -> None:
    sharer = make(worker, CLONE_SYSVSEM)
    sharer.sys.semop(semaphore, (0, 1, SEM_UNDO))
    sharer.sys.unshare(CLONE_SYSVSEM)
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 1
    worker.sys.unshare(CLONE_SYSVSEM)
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 0


def undoes_too(child: Process) -> None:
    """Have an adjustment as the maker has, and the semaphore as it was."""
    steps = [event for event in child.target.transcript.events if isinstance(event, Step)]
    for semaphore in {step.result for step in steps if step.name == "semget"}:
        child.sys.semop(semaphore, (0, 1, SEM_UNDO))
        child.sys.semop(semaphore, (0, -1))


@like_clone("clone.2/sysvsem-unset-own-empty-list")
@lie(adds(CLONE_SYSVSEM), in_child("the list is copied", undoes_too))
def test_without_clone_sysvsem_the_childs_list_is_empty(
    parent: Process, worker: Process, semaphore: int, make: MakeWith
) -> None:
    worker.sys.semop(semaphore, (0, 1, SEM_UNDO))
    first, second = make(worker, 0), make(worker, 0)
    first.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 1
    worker.exit()
    assert parent.sys.semctl(semaphore, 0, GETVAL) == 0
    assert second.sys.getpid() == second.own_pid
