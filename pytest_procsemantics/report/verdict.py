"""The four verdicts, and which exception gives which.

An exception in the call phase is "failed" to pytest whatever it is; only here a target that
misbehaves (deviates) is told from a fault of ours, of the agent or of the machine (broken).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from pytest_procsemantics.catalogue import Clause

BROKEN_STATUS: Final = 10  # exit status of a run with a broken check; pytest's own end at 5


class Verdict:
    """The verdicts as plain strings: they travel between processes, which carry no enums."""

    CONFORMS: Final = "conforms"
    DEVIATES: Final = "deviates"
    UNSUPPORTED: Final = "unsupported"
    BROKEN: Final = "broken"


VERDICTS: Final = (Verdict.CONFORMS, Verdict.DEVIATES, Verdict.UNSUPPORTED, Verdict.BROKEN)

# pytest-timeout raises pytest.fail.Exception, so only its words tell it from a check's own failure.
# Its releases before 2.3 wrote "Timeout >5.0s".
_TIMEOUT_FIRED = re.compile(r"Timeout (\(>[\d.]+s\) from pytest-timeout\.?|>[\d.]+s)")


def verdict_of(error: BaseException | None, when: str) -> str | None:
    """Judge one phase of a check.

    Args:
        error: what ended the phase; None: it came to its end.
        when: setup, call or teardown.

    Returns:
        One of VERDICTS, or None when this phase decides nothing: a setup that went well, and any
        teardown, which is reported beside the verdict.
    """
    if when == "teardown":
        return None
    if error is None:
        return Verdict.CONFORMS if when == "call" else None
    if isinstance(error, pytest.skip.Exception):
        return Verdict.UNSUPPORTED
    if isinstance(error, pytest.fail.Exception):
        fired = _TIMEOUT_FIRED.fullmatch(str(error).strip())
        return Verdict.BROKEN if fired else Verdict.DEVIATES
    # Not at the top: the process that writes the summary needs the words and no driver.
    from pytest_procsemantics.driven.errors import CallFailed, Unsupported

    if isinstance(error, Unsupported):
        return Verdict.UNSUPPORTED
    # AssertionError includes Deviation and all below it.
    if isinstance(error, (AssertionError, CallFailed, pytest.xfail.Exception)):
        return Verdict.DEVIATES
    return Verdict.BROKEN


def kernel_needed(clauses: Iterable[Clause], release: str) -> str | None:
    """The requirement that excuses a deviation of a kernel too old for the clause.

    Args:
        clauses: what the check proves.
        release: what the target declares, such as "4.4.0".

    Returns:
        `kernel>=X.Y` with the newest version that the clauses name, if the target declares an
        older one; else None. A release that can't be read excuses nothing.
    """
    declared = re.match(r"(\d+)\.(\d+)", release)
    if not declared:
        return None
    versions = [version[:2] for clause in clauses for version in _versions(clause)]
    needed = max(versions, default=(0, 0))
    if needed > (int(declared[1]), int(declared[2])):
        return f"kernel>={needed[0]}.{needed[1]}"
    return None


def _versions(clause: Clause) -> Iterator[tuple[int, ...]]:
    if clause.since_kernel:
        yield clause.since_kernel
    for word in clause.requires:
        if found := re.fullmatch(r"kernel>=(\d+)\.(\d+)(\.\d+)?", word):
            yield int(found[1]), int(found[2])
