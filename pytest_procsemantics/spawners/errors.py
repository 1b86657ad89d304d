"""What can become of a child that gives no result, one exception for each situation.

All of them keep their fields through pickle, copy and pytest-xdist: the fields are no arguments but attributes.
They are named for the child, so that `driven.Overdue`, which is about a target, stays another thing.
"""

from __future__ import annotations

from typing import Any


class ChildError(Exception):
    """A child did not give what was asked of it.

    Attributes:
        pid: of the child.
        primitive: what made it: fork, clone, clone3, thread, ...
    """

    pid: int
    primitive: str

    def __init__(self, message: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.__dict__.update(fields)


class ChildFailed(ChildError):
    """The child ended, and there is no result: it left by itself, ran a program, or the way back was too narrow.

    Attributes:
        exit_code: 0 to 255; None when a signal ended the child after its callable, or nobody knows.
    """

    exit_code: int | None


class ChildKilled(ChildError):
    """A signal ended the child before it gave a result.

    Attributes:
        signal: its number.
        core: whether there was a core dump.
    """

    signal: int
    core: bool


class ChildOverdue(ChildError):
    """The child still ran at its deadline; it and its descendants were ended. The message shows where it stood.

    Attributes:
        seconds: from its start to the deadline.
        phase: what it was in: fork hooks, callable or ending.
        stacks: the Python stacks of its threads, as text; empty where they could not be had.
    """

    seconds: float
    phase: str
    stacks: str


class ChildTraceback(Exception):
    """The cause of an exception that comes from a child: its traceback there, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"
