"""What a target offers, in the words of the clause format, found out by the act on that target.

Each word is tried once for each start of a target, in a fresh driven process, and what the act made
is gone before the answer is used. A word is missing for a reason, never by a version: `kernel>=X.Y`
holds for every target here, and excuses a deviation afterwards (report.verdict).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from pytest_procsemantics.catalogue.vocabulary import split_requirement
from pytest_procsemantics.driven import Target
from pytest_procsemantics.driven.call import BadAnswer
from pytest_procsemantics.driven.errors import CallFailed, Ended, Overdue, Unsupported
from pytest_procsemantics.driven.link import Link
from pytest_procsemantics.driven.process import Process
from pytest_procsemantics.report.text import one_line
from pytest_procsemantics.requirements.common import Lacking, end_of, errno_of
from pytest_procsemantics.requirements.probes import PROBES
from pytest_procsemantics.requirements.probes import find_tool as find_tool
from pytest_procsemantics.requirements.start import become_nicer as become_nicer
from pytest_procsemantics.requirements.start import expect_end_as_another as expect_end_as_another
from pytest_procsemantics.requirements.start import expect_new_privileges as expect_new_privileges
from pytest_procsemantics.requirements.start import expect_own_id_map as expect_own_id_map
from pytest_procsemantics.requirements.start import expect_user_0_outside as expect_user_0_outside
from pytest_procsemantics.requirements.surroundings import at_the_limit as at_the_limit
from pytest_procsemantics.requirements.surroundings import become_ordinary as become_ordinary
from pytest_procsemantics.requirements.surroundings import (
    enter_user_namespace as enter_user_namespace,
)
from pytest_procsemantics.requirements.surroundings import lose_capabilities as lose_capabilities
from pytest_procsemantics.requirements.surroundings import mount_proc as mount_proc
from pytest_procsemantics.requirements.surroundings import namespace_flags as namespace_flags
from pytest_procsemantics.requirements.surroundings import (
    nest_user_namespaces as nest_user_namespaces,
)
from pytest_procsemantics.requirements.surroundings import new_init as new_init
from pytest_procsemantics.requirements.surroundings import open_namespace as open_namespace
from pytest_procsemantics.requirements.surroundings import own_namespaces as own_namespaces
from pytest_procsemantics.requirements.surroundings import private_mounts as private_mounts
from pytest_procsemantics.requirements.surroundings import raise_ambient as raise_ambient

if TYPE_CHECKING:
    from pytest_procsemantics.catalogue import Clause

LONGEST_REASON = 120  # characters

_tried: WeakKeyDictionary[Link, dict[str, str | None]] = WeakKeyDictionary()


def missing(target: Target, words: Iterable[str]) -> list[str]:
    """Which of the words a target lacks.

    Args:
        target: may be inside `with target.test():`, if that test has made no process yet.
        words: such as "userns" or "cap:SYS_ADMIN".

    Returns:
        Each missing one with its reason, in the order of the words: "syscall:clone3 (ENOSYS)",
        "cap:SYS_ADMIN (not in the effective set)".

    Raises:
        UnknownRequirement: a word has none of the accepted forms.
        TargetLost: the target did not survive the act, or can't be started.
        ValueError: the running test has processes, which the act would end.
    """
    return [f"{word} ({reason})" for word, reason in tried(target, words).items() if reason]


def tried(target: Target, words: Iterable[str]) -> dict[str, str | None]:
    """Each word with the reason why the target lacks it, or None; see `missing`."""
    wanted = list(dict.fromkeys(words))
    if not wanted:
        return {}
    target.start()
    known = _tried.setdefault(target.link, {})
    for word in wanted:
        if word not in known:
            known[word] = _reason(target, word)
    return {word: known[word] for word in wanted}


def require(target: Target, clauses: Sequence[Clause]) -> None:
    """Let a check go on only where the target offers what its clauses require.

    Raises:
        Unsupported: with all that is missing.
        and what `missing` raises.
    """
    lacking = missing(target, (word for clause in clauses for word in clause.requires))
    if lacking:
        raise Unsupported(*lacking)


def _reason(target: Target, word: str) -> str | None:
    """Try one word in a test of its own; None: it is offered."""
    kind, argument = split_requirement(word)
    own = target.observer.process if target.processes else None
    if any(process is not own for process in target.processes.values()):
        raise ValueError("requirements are tried before a test makes a process of its own")
    transcript = target.transcript
    try:
        with target.test():
            reason = _outcome(target.new_process("probe"), kind, argument)
    finally:
        # A test around this one goes on with the steps of its own.
        target.transcript = transcript
    return None if reason is None else one_line(reason, LONGEST_REASON)


def _outcome(process: Process, kind: str, argument: str) -> str | None:
    try:
        return PROBES[kind](process, argument)
    except Lacking as lacking:
        return str(lacking)
    except CallFailed as error:
        return f"{error.call}: {errno_of(error)}"
    except Ended as error:
        return f"the process that tried it: {end_of(error.process)}"
    except Overdue:
        return f"no answer within {process.target.timeout:g} s"
    except BadAnswer as error:
        return str(error)
