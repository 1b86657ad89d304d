"""What a process is asked to do to make another, and the wait for the new one's first word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_procsemantics.driven.calls import Argument
from pytest_procsemantics.driven.constants import ENOSYS
from pytest_procsemantics.driven.errors import CallFailed, Unsupported
from pytest_procsemantics.driven.step import Step

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process


@dataclass(frozen=True)
class Creation:
    """What a process is asked to do to make another.

    Attributes:
        primitive: as the check calls it.
        call: the system call; another one on a machine that lacks the primitive's own.
        args: raw ones, bytes by address.
        flags: those of clone that say the same.
    """

    primitive: str
    call: str
    args: tuple[Argument, ...]
    flags: int


class Birth:
    """A process that was asked for: `begin()` waits for its first word."""

    def __init__(self, child: Process, step: Step, suspends: bool) -> None:
        self.child = child
        self.step = step
        self.suspends = suspends

    def begin(self) -> Process:
        """Wait for the child's first word, and for the maker's answer unless CLONE_VFORK keeps it from answering.

        Raises:
            CallFailed: the maker's call failed; there is no child.
            Unsupported: the target has no clone3, which is younger than the others (Linux 5.3).
            Overdue: no word came.
        """
        __tracebackhide__ = True
        try:
            self.step.process.target.wait_for_birth(self)
        except CallFailed as error:
            if error.call == "clone3" and error.errno == ENOSYS:
                raise Unsupported("syscall:clone3 (ENOSYS)") from None
            raise
        return self.child
