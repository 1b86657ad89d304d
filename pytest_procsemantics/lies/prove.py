"""`--procsem-prove`: each check truthfully, and once more under each of its lies.

Under a lie a test of pytest's passes when the check deviates: it noticed. A check that conforms under a lie, or has no
lie at all, proves nothing and fails. `--procsem-matrix` adds the generic lies of the check's primitive, of which it
need not notice any.

What the matrix needs leaves here as pairs of strings in `user_properties`, as what the summary needs does:

| property | value |
| --- | --- |
| procsem.lie | the lie that is told; such a test has no clause and no verdict |
| procsem.generic | primitives of a generic lie, with spaces between |
| procsem.noticed | yes, no, untold, broken, unsupported; of a test under a lie |
| procsem.by | what noticed: assertion, errno, end, wait |
| procsem.unproved | why nothing shows that the check can fail; of the truth |
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Final

import pytest

from pytest_procsemantics import catalogue, stash
from pytest_procsemantics.baselines import Baseline
from pytest_procsemantics.clauses import MARKER as CLAUSE_MARKER
from pytest_procsemantics.driven import Process
from pytest_procsemantics.lies import noticed
from pytest_procsemantics.lies.everywhere import GenericLie, lies_for
from pytest_procsemantics.lies.generic import MARKER, Liar, Lie, NotTold
from pytest_procsemantics.report.judge import make_skipped
from pytest_procsemantics.report.verdict import Verdict, kernel_needed, verdict_of
from pytest_procsemantics.settings import Settings

FIXTURE = "told_lie"

# What a verdict under a lie says of the check.
NOTICED: Final = {
    Verdict.DEVIATES: noticed.YES,
    Verdict.CONFORMS: noticed.NO,
    Verdict.BROKEN: noticed.BROKEN,
    Verdict.UNSUPPORTED: noticed.UNSUPPORTED,
}


class Proof:
    """Multiplies the checks by their lies, and turns the outcome under a lie around."""

    def __init__(self, settings: Settings) -> None:
        self._baselines = [Baseline.load(name) for name in settings.baselines]
        self._is_matrix = settings.matrix
        self._told: dict[str, set[str]] = {}  # names of lies, by function

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a check once for the truth and once for each lie."""
        test = metafunc.definition
        # What a baseline knows deviates already: that it can fail is seen in every run.
        if FIXTURE not in metafunc.fixturenames or self._is_known(test):
            return
        own = _lies(test)
        self._told[_function(test)] = {one.name for one in own}
        lies = (
            [*own, *lies_for(map(catalogue.clause, _ids_of_cases(test)))]
            if self._is_matrix
            else own
        )
        if lies:
            names = ["truth", *(_case(one) for one in lies)]
            metafunc.parametrize(FIXTURE, [None, *lies], ids=names)

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self,
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Of a function's cases each is told the generic lies of its own clauses only."""
        report = yield
        if self._is_matrix and report.passed:
            report.result = [node for node in report.result if _has_its_lie(node)]
        return report

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Note which lie an item tells: it says nothing about the target."""
        item.stash[stash.NAME] = item.name.replace("[truth-", "[", 1).replace("[truth]", "", 1)
        told = _told(item)
        if told:
            item.stash[stash.LIE] = told.name
            item.user_properties[:] = [("procsem.lie", told.name)]
            if isinstance(told, GenericLie):
                item.user_properties.append(("procsem.generic", " ".join(told.primitives)))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Keep what a lie brings about from pytest: its traceback would take longer than the check."""
        if stash.LIE not in item.stash:
            return (yield)
        if stash.CAME in item.stash:
            del item.stash[stash.CAME]  # of an earlier run, by plugins that run a test again
        try:
            return (yield)
        except BaseException as error:
            verdict = verdict_of(error, "call")
            if verdict == Verdict.DEVIATES:
                item.stash[stash.CAME] = (noticed.YES, noticed.by(error))
            elif verdict == Verdict.BROKEN and isinstance(error, Exception) and _is_generic(item):
                came = noticed.UNTOLD if isinstance(error, NotTold) else noticed.BROKEN
                item.stash[stash.CAME] = (came, "")
            else:
                raise
            return None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """A lie that an assertion noticed has passed; one that nothing noticed has failed."""
        report = yield
        if stash.LIE in item.stash:
            error = call.excinfo.value if call.excinfo else None
            if came := _came_of(item, report, error):
                _turn_around(item, report, error, *came)
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
        return any(
            baseline.known(one, test.name) for baseline in self._baselines for one in _ids(test)
        )


def _came_of(
    item: pytest.Item, report: pytest.TestReport, error: BaseException | None
) -> tuple[str, str] | None:
    """What came of a lie in this phase, as values of procsem.noticed and procsem.by; None: nothing yet."""
    if report.when == "teardown":
        return (noticed.BROKEN, "") if report.failed else None
    verdict = verdict_of(error, report.when)
    if verdict is None:
        return None
    if report.when == "setup" and verdict == Verdict.DEVIATES:
        # The steps and assertions of the check were not reached: nothing is known of them.
        verdict = Verdict.BROKEN
    came, by = NOTICED[verdict], ""
    if report.when == "call":
        came, by = item.stash.get(stash.CAME, (came, by))
    if came == noticed.YES and _is_too_old(item):
        # The truth would be unsupported: without the lie the check may deviate as well.
        return noticed.UNSUPPORTED, ""
    if came in (noticed.YES, noticed.NO) and _was_never_told(item):
        # A check that deviates all the same does so without the lie, too.
        return noticed.UNTOLD, ""
    return came, by


def _turn_around(
    item: pytest.Item, report: pytest.TestReport, error: BaseException | None, came: str, by: str
) -> None:
    name, is_generic = item.stash[stash.LIE], _is_generic(item)
    if came != noticed.UNSUPPORTED and hasattr(report, "wasxfail"):
        del report.wasxfail  # a mark expects something of the truth
    if came == noticed.UNSUPPORTED:
        if not report.skipped:
            make_skipped(item, report, f"Skipped: {error or 'the kernel is too old'}")
    elif is_generic and came == noticed.BROKEN and report.when == "setup":
        make_skipped(item, report, f"Skipped: broken by a generic lie: {error}")
    elif is_generic or came == noticed.YES:
        report.outcome = "passed"
        report.longrepr = None
    else:
        report.outcome = "failed"
        if came == noticed.NO:
            report.longrepr = f"not noticed: {name}; the check says that all is well"
        elif came == noticed.UNTOLD:
            report.longrepr = f"never told: {name}; nothing in this check does what the lie changes"
    told = [("procsem.noticed", came), *([("procsem.by", by)] if by else [])]
    before = [
        pair for pair in item.user_properties if pair[0] not in ("procsem.noticed", "procsem.by")
    ]
    item.user_properties[:] = [*before, *told]
    report.user_properties = list(item.user_properties)


def _lies(test: pytest.Item) -> list[Lie]:
    return [one for mark in test.iter_markers(MARKER) for one in mark.args]


def _case(lie: Lie) -> str:
    return f"{'generic' if isinstance(lie, GenericLie) else 'lie'}: {lie.name}"


def _ids(test: pytest.Item) -> list[str]:
    return [one for mark in test.iter_markers(CLAUSE_MARKER) for one in mark.args]


def _ids_of_cases(function: pytest.Item) -> Iterator[str]:
    """The clauses that a function proves in any of its cases."""
    yield from _ids(function)
    for mark in function.iter_markers("parametrize"):
        cases = mark.args[1] if len(mark.args) > 1 else mark.kwargs.get("argvalues")
        # What can be read only once is pytest's to read.
        for case in cases if isinstance(cases, (list, tuple)) else ():
            marks = getattr(case, "marks", ())
            yield from (one for mark in marks if mark.name == CLAUSE_MARKER for one in mark.args)


def _has_its_lie(node: pytest.Item | pytest.Collector) -> bool:
    told = _told(node)
    if not isinstance(node, pytest.Item) or not isinstance(told, GenericLie):
        return True
    return told.is_for(map(catalogue.clause, _ids(node)))


def _is_generic(item: pytest.Item) -> bool:
    return isinstance(_told(item), GenericLie)


def _was_never_told(item: pytest.Item) -> bool:
    told = _told(item)
    # Of a process class that is no Liar it isn't known.
    liar = told.process_class if told else Process
    return issubclass(liar, Liar) and not liar.tellings


def _is_too_old(item: pytest.Item) -> bool:
    release = item.config.stash.get(stash.FACTS, {}).get("release", "")
    clauses = item.stash.get(stash.CLAUSES, None)
    return bool(clauses and kernel_needed(clauses, release))


def _function(test: pytest.Item) -> str:
    """What a function's cases and its definition have in common."""
    return (
        f"{test.parent.nodeid if test.parent else ''}::{getattr(test, 'originalname', test.name)}"
    )


def _told(node: pytest.Item | pytest.Collector) -> Lie | None:
    callspec = getattr(node, "callspec", None)
    return callspec.params.get(FIXTURE) if callspec else None
