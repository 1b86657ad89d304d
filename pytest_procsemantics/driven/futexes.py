"""Waiting on a futex, so that a check knows that who is to wait does."""

from __future__ import annotations

from pytest_procsemantics.driven.constants import FUTEX_CMP_REQUEUE, FUTEX_WAIT
from pytest_procsemantics.driven.errors import Overdue, Unsupported
from pytest_procsemantics.driven.process import Process
from pytest_procsemantics.driven.step import Step

BEGIN = 77  # what the word holds on which a thread begins to wait


def waits_on(waiter: Process, cell: int, flags: int = 0) -> Step:
    """Let a thread wait on the futex at an address, whatever it holds; it waits when this returns.

    It begins on a word of its own and is moved by its maker: the kernel counts whom it moved.

    Args:
        waiter: a thread of its maker's process.
        cell: where it is to wait.
        flags: of the operation, such as FUTEX_PRIVATE_FLAG.

    Raises:
        Unsupported: the target does not count them, though the thread sleeps.
        Overdue: the thread did not come to wait within the target's timeout.

    Source: futex(2).
    """
    begin = waiter.allocate(8)
    waiter.store(begin, BEGIN)
    step: Step = waiter.post.sys.futex(begin, FUTEX_WAIT | flags, BEGIN)
    assert waiter.creation
    mover = waiter.creation.process
    try:
        waiter.target.wait_until(
            lambda: mover.sys.futex(begin, FUTEX_CMP_REQUEUE | flags, 0, 1, cell, BEGIN) == 1,
            f"{waiter} to wait on a futex",
        )
    except Overdue:
        # Asleep in a step that has no answer: it is in the call, and so does wait.
        if step.ready or waiter.target.observer.state_now(waiter) != "S":
            raise
        raise Unsupported("futex(2), FUTEX_CMP_REQUEUE (does not count whom it moves)") from None
    return step
