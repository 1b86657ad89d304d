"""futex(2): who is woken when a process has forked."""

from __future__ import annotations

import pytest

from pytest_procsemantics import Process, clause
from pytest_procsemantics.driven.constants import (
    CLONE_VM,
    FUTEX_PRIVATE_FLAG,
    FUTEX_WAKE,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    SIGCHLD,
)
from pytest_procsemantics.driven.futexes import waits_on
from pytest_procsemantics.lies import allocations, in_child, instead, lie, passes

FUTEX_WAKE_PRIVATE = FUTEX_WAKE | FUTEX_PRIVATE_FLAG
KINDS = pytest.mark.parametrize(
    "flags", [pytest.param(0, id="any"), pytest.param(FUTEX_PRIVATE_FLAG, id="private")]
)


@clause("futex.2/private-memory-is-not-shared-over-fork")
@lie(instead("fork", CLONE_VM | SIGCHLD))
@KINDS
def test_a_word_in_private_memory_is_another_in_the_child(parent: Process, flags: int) -> None:
    cell = parent.allocate(8)
    child = parent.fork()
    waiting = waits_on(child.thread(), cell, flags)
    assert parent.sys.futex(cell, FUTEX_WAKE, 1) == 0
    assert parent.sys.futex(cell, FUTEX_WAKE_PRIVATE, 1) == 0
    assert not waiting.ready
    assert child.sys.futex(cell, FUTEX_WAKE | flags, 1) == 1
    assert waiting.arrives() == 0


@clause("futex.2/shared-memory-is-shared-over-fork")
@lie(passes("shared memory is private", "mmap", 3, MAP_PRIVATE | MAP_ANONYMOUS))
def test_a_word_in_shared_memory_is_one_in_both(parent: Process) -> None:
    cell = parent.allocate(8, shared=True)
    child = parent.fork()
    waiting = waits_on(child.thread(), cell)
    assert parent.sys.futex(cell, FUTEX_WAKE_PRIVATE, 1) == 0
    assert parent.sys.futex(cell, FUTEX_WAKE, 1) == 1
    assert waiting.arrives() == 0


def wakes_everybody(child: Process) -> None:
    """Wake whoever waits in the memory of the process that forked it."""
    assert child.creation
    if child.name != "child":
        return
    for address, _ in allocations(child):
        child.creation.process.sys.futex(address, FUTEX_WAKE, 1)
        child.creation.process.sys.futex(address, FUTEX_WAKE_PRIVATE, 1)


@clause("futex.2/waiter-survives-copy-on-write")
@lie(in_child("fork ends each wait", wakes_everybody))
@KINDS
def test_who_waits_is_woken_although_another_forked_and_wrote(parent: Process, flags: int) -> None:
    cell = parent.allocate(8)
    parent.store(cell, 1)
    waiting = waits_on(parent.thread("waiter"), cell, flags)
    child = parent.fork()
    parent.store(cell, 2)
    assert child.load(cell) == 1
    assert parent.sys.futex(cell, FUTEX_WAKE | flags, 1) == 1
    assert waiting.arrives() == 0
