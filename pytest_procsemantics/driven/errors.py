"""What can go wrong with a target, one exception for each situation.

The class decides the verdict: a `Deviation` or a `CallFailed` is the target's doing, a `TargetLost` is nobody's answer.
"""

from __future__ import annotations

import errno as errnos
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process


class Deviation(AssertionError):
    """The target did otherwise than the check says."""


class Overdue(Deviation):
    """A wait ran out although the hub still answers: the target's doing, not ours."""


class Ended(Deviation):
    """A driven process ended that should not have.

    Attributes:
        process: the one that ended.
    """

    def __init__(self, message: str, process: Process) -> None:
        super().__init__(message)
        self.process = process


class CallFailed(OSError):
    """A system call on the target gave an errno.

    Attributes:
        process: the driven process that made the call.
        call: the call's name.
    """

    def __init__(self, errno: int, process: Process, call: str) -> None:
        name = errnos.errorcode.get(errno, f"errno {errno}")
        super().__init__(errno, f"{call} in {process}: {name}, {os.strerror(errno)}")
        self.process = process
        self.call = call


class TargetLost(Exception):
    """The hub is silent, dead or talks nonsense: no verdict about the target is possible.

    Attributes:
        evidence: what there is to look at: the command, how it ended, its standard error, strange bytes.
    """

    def __init__(self, message: str, evidence: str = "") -> None:
        super().__init__(message)
        self.evidence = evidence

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.evidence}".rstrip()


class StartFailed(TargetLost):
    """The target did not start, or no agent of ours answered there."""


class UsageProblem(ValueError):
    """A target specification that cannot be meant; the message says what is accepted."""


class Unsupported(Exception):
    """The target can't do what a step needs: no fault of its semantics, and no verdict on them.

    Attributes:
        missing: what is missing, each in a few words, with the reason in brackets.
    """

    def __init__(self, *missing: str) -> None:
        super().__init__("needs " + " and ".join(missing))
        self.missing = missing
