"""What a check may come to under a lie, in words that travel from a worker to whoever writes the summary."""

from __future__ import annotations

from typing import Final

from pytest_procsemantics.driven.errors import CallFailed, Ended, Overdue

# Values of the property procsem.noticed.
YES: Final = "yes"
NO: Final = "no"  # it says that all is well
UNTOLD: Final = "untold"  # nothing in it does what the lie is about
BROKEN: Final = "broken"
UNSUPPORTED: Final = "unsupported"

# Values of the property procsem.by: what noticed.
BY_ASSERTION: Final = "assertion"
BY_ERRNO: Final = "errno"
BY_END: Final = "end"
BY_WAIT: Final = "wait"


def by(error: BaseException) -> str:
    """What noticed a lie: an assertion of the check, an errno, a process that ended, or a wait that ran out."""
    if isinstance(error, CallFailed):
        return BY_ERRNO
    if isinstance(error, Ended):
        return BY_END
    if isinstance(error, Overdue):
        return BY_WAIT
    return BY_ASSERTION
