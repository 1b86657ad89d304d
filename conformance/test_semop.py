"""semop(2): what is undone at the end of a process."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven import Observer
from pytest_procsemantics.driven.constants import (
    CLONE_SYSVSEM,
    GETPID,
    GETVAL,
    P_PID,
    SEM_UNDO,
    SETVAL,
    SIGKILL,
    WEXITED,
    WNOWAIT,
)
from pytest_procsemantics.lies import drops, lie, passes

NOT_UNDONE = passes("nothing is to be undone", "semop", 1, lambda given: given[:4] + bytes(2))


@pytest.fixture
def worker(parent: Process, semaphore: int) -> Process:
    """A process that can end before the parent, who looks at the semaphore."""
    return parent.fork("worker")


def value(process: Process, semaphore: int) -> int:
    """The value of the semaphore."""
    return int(process.sys.semctl(semaphore, 0, GETVAL))


@clause("semop.2/undo-at-exit")
@lie(NOT_UNDONE)
def test_an_operation_is_undone_at_the_end(
    parent: Process, worker: Process, semaphore: int
) -> None:
    worker.sys.semop(semaphore, (0, 1, SEM_UNDO))
    assert value(parent, semaphore) == 1
    worker.exit()
    assert value(parent, semaphore) == 0


@clause("semop.2/undo-at-fatal-signal")
@lie(NOT_UNDONE)
def test_an_operation_is_undone_when_a_signal_kills(
    parent: Process, worker: Process, semaphore: int
) -> None:
    worker.sys.semop(semaphore, (0, 1, SEM_UNDO))
    parent.sys.kill(worker.own_pid, SIGKILL)
    worker.wait_for_exit()
    assert value(parent, semaphore) == 0


@clause("semop.2/undo-done-before-wait-reports")
@lie(NOT_UNDONE)
def test_it_is_undone_when_the_end_can_be_waited_for(
    parent: Process, worker: Process, semaphore: int
) -> None:
    worker.sys.semop(semaphore, (0, 1, SEM_UNDO))
    parent.sys.semop(semaphore, (0, 1))
    worker.post.sys.exit_group(0)
    parent.sys.waitid(P_PID, worker.own_pid, WEXITED | WNOWAIT)
    assert value(parent, semaphore) == 1
    assert parent.sys.semctl(semaphore, 0, GETPID) == worker.own_pid


@clause("semop.2/undo-by-thread-ends-with-process")
@lie(drops(CLONE_SYSVSEM))
def test_what_a_thread_did_is_undone_at_the_end_of_the_process(
    parent: Process, worker: Process, semaphore: int, observer: Observer
) -> None:
    thread = worker.thread()
    thread.sys.semop(semaphore, (0, 1, SEM_UNDO))
    thread.exit_thread()
    observer.wait_until_gone(thread)
    assert value(parent, semaphore) == 1
    worker.exit()
    assert value(parent, semaphore) == 0


@clause("semop.2/setval-clears-adjustments")
@lie(
    passes("nothing is set", "semctl", 2, lambda command: GETVAL if command == SETVAL else command)
)
def test_a_value_that_is_set_stays(parent: Process, worker: Process, semaphore: int) -> None:
    worker.sys.semop(semaphore, (0, 1, SEM_UNDO))
    parent.sys.semctl(semaphore, 0, SETVAL, 9)
    worker.exit()
    assert value(parent, semaphore) == 9


@clause("semop.2/undo-stops-at-zero")
@lie(NOT_UNDONE)
def test_what_is_undone_goes_down_to_zero(parent: Process, worker: Process, semaphore: int) -> None:
    worker.sys.semop(semaphore, (0, 2, SEM_UNDO))
    parent.sys.semop(semaphore, (0, -2))
    worker.sys.semop(semaphore, (0, 1))
    worker.exit()
    assert value(parent, semaphore) == 0
