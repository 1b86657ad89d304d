"""The matrix of `--procsem-prove` in short: for each lie how many checks were told it, and how many noticed.

It is made in the one process that has all reports, from the properties that lies/prove.py gives to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from pytest_procsemantics.report import text

NAME = 68  # columns of a lie's name
HEAD = ("lie", "checks", "noticed", "unsupported")
UNFINISHED = ""  # what came of a lie until the check ends, and for ever if its worker crashed
MISSED = {
    "no": "not noticed",
    "broken": "broken, so not noticed",
    UNFINISHED: "did not end, so not noticed",
}


class Matrix:
    """Gathers what checks came to under their lies, and writes its section of the summary."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, str]] = {}  # test -> lie, what came of it
        self._unproved: dict[str, str] = {}  # test -> why

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties = dict(report.user_properties)
        if why := properties.get("procsem.unproved"):
            self._unproved[report.nodeid] = str(why)
        if lie := properties.get("procsem.lie"):
            noticed = str(properties.get("procsem.noticed", UNFINISHED))
            self._told[report.nodeid] = (str(lie), noticed)

    # After the summary of verdicts.
    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._told and not self._unproved:
            return
        terminalreporter.section("proof that checks can fail")
        for line in lines(self._told, self._unproved):
            terminalreporter.write_line(line)


def lines(told: Mapping[str, tuple[str, str]], unproved: Mapping[str, str]) -> Iterator[str]:
    """The section's lines.

    Args:
        told: for each test under a lie the lie, and what came of it: a value of `procsem.noticed`, or UNFINISHED.
        unproved: for each check that was told no lie the reason.
    """
    counts: dict[str, Counter[str]] = {}
    for lie, noticed in told.values():
        counts.setdefault(lie, Counter())[noticed] += 1
    rows = {lie: _numbers(counts[lie]) for lie in sorted(counts)}
    total = ("total", _numbers(sum(counts.values(), Counter())))
    yield from (
        "  " + row
        for row in text.table(
            HEAD,
            [
                (text.one_line(lie, NAME), *map(str, numbers))
                for lie, numbers in [*rows.items(), total]
            ],
        )
    )
    faults = [
        f"noticed by nothing: {text.one_line(lie)}"
        for lie, (checks, noticed, unsupported) in rows.items()
        if not noticed and unsupported < checks
    ]
    # The lie's name stands in that of the test.
    faults += [
        f"{MISSED[noticed]}: {text.escaped(test)}"
        for test, (_, noticed) in sorted(told.items())
        if noticed in MISSED
    ]
    for test, why in sorted(unproved.items()):
        faults += [f"unproved: {text.escaped(test)}", *text.labelled("because", f"it {why}")]
    yield from ["", *faults] if faults else []


def _numbers(counts: Counter[str]) -> tuple[int, int, int]:
    return counts.total(), counts["yes"], counts["unsupported"]
