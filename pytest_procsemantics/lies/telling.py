"""How a lie gets to a target: whatever gives a check its target goes through `told`.

The fixture `told_lie` says which lie it is, so a fixture of any project can do what `procsem` does:

    @pytest.fixture
    def target(running_target, told_lie):
        with running_target.test() as target, told(told_lie, target):
            yield target
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_procsemantics.driven import Target
    from pytest_procsemantics.lies.generic import Lie

LYING_TIMEOUT = 0.5  # seconds: a lie that hangs is noticed by a wait that runs out


@contextlib.contextmanager
def told(lie: Lie | None, target: Target) -> Iterator[None]:
    """Let a target make lying processes for a while.

    Args:
        lie: what is told; None: the truth.
        target: what the check uses. Its timeout is short for a lie with `hangs`.
    """
    if lie is None:
        yield
        return
    from pytest_procsemantics.lies.generic import Liar

    process_class, timeout = target.process_class, target.timeout
    target.process_class = lie.process_class
    if issubclass(lie.process_class, Liar):
        lie.process_class.tellings = 0
    if lie.hangs:
        target.timeout = min(timeout, LYING_TIMEOUT)
    try:
        yield
    finally:
        target.process_class, target.timeout = process_class, timeout
