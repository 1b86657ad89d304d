"""The matrix of lies and checks: for each lie how many checks were told it, and how many noticed.

It is made in the one process that has all reports, from the properties that lies/prove.py gives to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from pytest_procsemantics.lies import noticed
from pytest_procsemantics.report import text

NAME = 68  # columns of a lie's name
UNFINISHED = ""  # what came of a lie until the check ends, and for ever if its worker crashed
MISSED = {
    noticed.NO: "not noticed",
    noticed.UNTOLD: "never told, so not noticed",
    noticed.BROKEN: "broken, so not noticed",
    UNFINISHED: "did not end, so not noticed",
}
WAYS = {
    noticed.BY_ASSERTION: "an assertion",
    noticed.BY_ERRNO: "an errno",
    noticed.BY_END: "the end of a process",
    noticed.BY_WAIT: "a wait that ran out",
}


@dataclass(frozen=True, slots=True)
class Telling:
    """One check under one lie.

    Attributes:
        test: its node id.
        lie: the lie's name.
        primitives: of a generic lie; empty: the lie is the check's own.
        noticed: a value of procsem.noticed, or UNFINISHED.
        by: a value of procsem.by, or empty.
    """

    test: str
    lie: str
    primitives: tuple[str, ...] = ()
    noticed: str = UNFINISHED
    by: str = ""

    @property
    def check(self) -> str:
        """The node id of the same check without a lie."""
        kind = "generic" if self.primitives else "lie"
        return self.test.replace(f"{kind}: {self.lie}", "truth", 1)


class Matrix:
    """Gathers what checks came to under lies, writes its section of the summary, and fails the run for a lie without use."""

    def __init__(self) -> None:
        self._tellings: dict[str, Telling] = {}  # by test
        self._unproved: dict[str, str] = {}  # test -> why

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = {name: str(value) for name, value in report.user_properties}
        if why := properties.get("procsem.unproved"):
            self._unproved[report.nodeid] = why
        if lie := properties.get("procsem.lie"):
            self._tellings[report.nodeid] = Telling(
                report.nodeid,
                lie,
                tuple(properties.get("procsem.generic", "").split()),
                properties.get("procsem.noticed", UNFINISHED),
                properties.get("procsem.by", ""),
            )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        # All else that is named below the table is a failed test.
        if session.exitstatus == pytest.ExitCode.OK and useless(self.tellings):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    # After the summary of verdicts.
    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._tellings and not self._unproved:
            return
        terminalreporter.section("proof that checks can fail")
        for line in lines(self.tellings, self._unproved):
            terminalreporter.write_line(line)

    @property
    def tellings(self) -> list[Telling]:
        """All checks under all lies, sorted by test."""
        return [self._tellings[test] for test in sorted(self._tellings)]

    def document(self) -> dict[str, Any]:
        """All of it, for the file of results."""
        return {
            "lies": [
                {"lie": lie, "primitives": list(primitives), **_row(row)}
                for (lie, primitives), row in sorted(_counts(self.tellings).items())
            ],
            "tellings": [
                {
                    "check": telling.check,
                    "lie": telling.lie,
                    "primitives": list(telling.primitives),
                    "noticed": telling.noticed or None,
                    "by": telling.by or None,
                }
                for telling in self.tellings
            ],
        }


def lines(tellings: Sequence[Telling], unproved: Mapping[str, str]) -> Iterator[str]:
    """The section's lines.

    Args:
        tellings: all that there were.
        unproved: for each check that was told no lie the reason.
    """
    generic = [telling for telling in tellings if telling.primitives]
    own = [telling for telling in tellings if not telling.primitives]
    if generic:
        yield from _table(
            "generic lie", generic, ("checks", "told", "noticed", "broken", "unsupported")
        )
        yield ""
    yield from _table("lie", own, ("checks", "noticed", "unsupported"))
    ways = Counter(telling.by for telling in tellings if telling.noticed == noticed.YES)
    if ways:
        counts = [f"{ways[way]} by {words}" for way, words in WAYS.items() if ways[way]]
        yield from ["", f"noticed: {', '.join(counts)}"]
    faults = [f"noticed by nothing: {text.one_line(lie)}" for lie in useless(tellings)]
    # The lie's name stands in that of the test.
    faults += [
        f"{MISSED[telling.noticed]}: {text.escaped(telling.test)}"
        for telling in own
        if telling.noticed in MISSED
    ]
    for test, why in sorted(unproved.items()):
        faults += [f"unproved: {text.escaped(test)}", *text.labelled("because", f"it {why}")]
    yield from ["", *faults] if faults else []


def useless(tellings: Iterable[Telling]) -> list[str]:
    """The lies that no check noticed, where there was one that could have."""
    return [
        lie
        for (lie, _), row in sorted(_counts(tellings).items())
        if not row[noticed.YES] and row[noticed.UNSUPPORTED] < row.total()
    ]


def _counts(tellings: Iterable[Telling]) -> dict[tuple[str, tuple[str, ...]], Counter[str]]:
    counts: dict[tuple[str, tuple[str, ...]], Counter[str]] = {}
    for telling in tellings:
        counts.setdefault((telling.lie, telling.primitives), Counter())[telling.noticed] += 1
    return counts


def _row(counts: Counter[str]) -> dict[str, int]:
    return {
        "checks": counts.total(),
        "told": counts[noticed.YES] + counts[noticed.NO],
        "noticed": counts[noticed.YES],
        "broken": counts[noticed.BROKEN] + counts[UNFINISHED],
        "unsupported": counts[noticed.UNSUPPORTED],
    }


def _table(what: str, tellings: Sequence[Telling], columns: tuple[str, ...]) -> Iterator[str]:
    counts = _counts(tellings)
    total = sum(counts.values(), Counter[str]())
    rows = [
        *((text.one_line(lie, NAME), counts[lie, of]) for lie, of in sorted(counts)),
        ("total", total),
    ]
    cells = [(name, *(str(_row(row)[column]) for column in columns)) for name, row in rows]
    return ("  " + line for line in text.table((what, *columns), cells))
