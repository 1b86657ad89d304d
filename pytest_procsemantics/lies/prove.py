"""`--procsem-prove`: each check truthfully, and once more under each of its lies.

Under a lie a test of pytest's passes when the check deviates: it noticed. A check that conforms under a lie, or has no
lie at all, proves nothing and fails.

What the matrix needs leaves here as pairs of strings in `user_properties`, as what the summary needs does:

| property | value |
| --- | --- |
| procsem.lie | the lie that is told; such a test has no clause and no verdict |
| procsem.noticed | one of NOTICED; of a test under a lie |
| procsem.unproved | why nothing shows that the check can fail; of the truth |
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

import pytest

from pytest_procsemantics import stash
from pytest_procsemantics.baselines import Baseline
from pytest_procsemantics.clauses import MARKER as CLAUSE_MARKER
from pytest_procsemantics.lies.generic import MARKER, Lie
from pytest_procsemantics.report.judge import make_skipped
from pytest_procsemantics.report.verdict import Verdict, verdict_of
from pytest_procsemantics.settings import Settings

FIXTURE = "told_lie"

# What a verdict under a lie says of the check. Only an assertion of its own has noticed something.
NOTICED: Final = {
    Verdict.DEVIATES: "yes",
    Verdict.CONFORMS: "no",
    Verdict.BROKEN: "broken",
    Verdict.UNSUPPORTED: "unsupported",
}


class Proof:
    """Multiplies the checks by their lies, and turns the outcome under a lie around."""

    def __init__(self, settings: Settings) -> None:
        self._baselines = [Baseline.load(name) for name in settings.baselines]
        self._told: dict[str, set[str]] = {}  # names of lies, by function

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a check once for the truth and once for each lie."""
        lies = _lies(metafunc.definition)
        # What a baseline knows deviates already: that it can fail is seen in every run.
        if FIXTURE not in metafunc.fixturenames or self._is_known(metafunc.definition):
            lies = []
        if not lies:
            return
        self._told[_function(metafunc.definition)] = {one.name for one in lies}
        names = ["truth", *(f"lie: {one.name}" for one in lies)]
        metafunc.parametrize(FIXTURE, [None, *lies], ids=names)

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note which lie an item tells: it says nothing about the target."""
        told = _told(item)
        if told:
            item.stash[stash.LIE] = told.name
            item.user_properties[:] = [("procsem.lie", told.name)]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A lie that an assertion noticed has passed; one that nothing noticed has failed."""
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if stash.LIE in item.stash:
            self._turn_around(item, report, error)
        elif why := self._unproved(item):
            if report.when == "setup":
                item.user_properties.append(("procsem.unproved", why))
                report.user_properties = list(item.user_properties)
            # With a failure or an error of its own it has something worse to tell.
            decides = report.when == "call" or (report.when == "setup" and report.skipped)
            if decides and not report.failed and not hasattr(report, "wasxfail"):
                report.outcome = "failed"
                report.longrepr = f"{item.nodeid} {why}"
        return report

    def _turn_around(
        self, item: pytest.Item, report: pytest.TestReport, error: BaseException | None
    ) -> None:
        verdict = verdict_of(error, report.when)
        if report.when == "setup" and verdict == Verdict.DEVIATES:
            # The steps and assertions of the check were not reached: nothing is known of them.
            verdict = Verdict.BROKEN
        if report.when == "teardown" and report.failed:
            verdict = Verdict.BROKEN
        if verdict is None:
            return
        if verdict != Verdict.UNSUPPORTED and hasattr(report, "wasxfail"):
            del report.wasxfail  # a mark expects something of the truth
        if verdict == Verdict.DEVIATES:
            report.outcome = "passed"
            report.longrepr = None
        elif verdict == Verdict.CONFORMS:
            report.outcome = "failed"
            name = item.stash[stash.LIE]
            report.longrepr = f"not noticed: {name}; the check says that all is well"
        elif verdict == Verdict.BROKEN:
            report.outcome = "failed"
        else:
            make_skipped(item, report, f"Skipped: {error}")
        kept = [pair for pair in item.user_properties if pair[0] != "procsem.noticed"]
        item.user_properties[:] = [*kept, ("procsem.noticed", NOTICED[verdict])]
        report.user_properties = list(item.user_properties)

    def _unproved(self, item: pytest.Item) -> str | None:
        """Why nothing shows that a check can fail, and what to do; None: its lies are told."""
        lies = _lies(item)
        is_check = bool(lies) or stash.CLAUSES in item.stash
        if not is_check or self._is_known(item):
            return None
        if not lies:
            return "has no lie: nothing shows that it can fail; next: @lie(...)"
        if FIXTURE not in getattr(item, "fixturenames", ()):
            return (
                f"can't be told its lies; next: take {FIXTURE} in the fixture that gives the target"
            )
        told = self._told.get(_function(item), set())
        if untold := [one.name for one in lies if one.name not in told]:
            return (
                f"can't be told {untold[0]!r}: a lie of one case; next: @lie(...) on the function"
            )
        return None

    def _is_known(self, test: pytest.Item) -> bool:
        ids = [one for mark in test.iter_markers(CLAUSE_MARKER) for one in mark.args]
        return any(baseline.known(one) for baseline in self._baselines for one in ids)


def _lies(test: pytest.Item) -> list[Lie]:
    return [one for mark in test.iter_markers(MARKER) for one in mark.args]


def _function(test: pytest.Item) -> str:
    """What a function's cases and its definition have in common."""
    return (
        f"{test.parent.nodeid if test.parent else ''}::{getattr(test, 'originalname', test.name)}"
    )


def _told(item: pytest.Item) -> Lie | None:
    callspec = getattr(item, "callspec", None)
    return callspec.params.get(FIXTURE) if callspec else None
