"""Every check's verdict, set in the phase that decides; registered once a check was collected.

What the summary needs leaves here as pairs of strings in `user_properties` and as report sections,
because under pytest-xdist nothing else reaches the process that writes it:

| property | value |
| --- | --- |
| procsem.clause | id of a clause that the check proves; one property for each |
| procsem.verdict | conforms, deviates, unsupported or broken |
| procsem.seen | what was seen instead, in one line |
| procsem.missing | a requirement that is missing; one property for each |
| procsem.baseline | known (a deviation that a baseline has) or stale (an entry that is over) |
| procsem.entry.seen, procsem.entry.reason | what the baseline's entry says |
| procsem.target.FACT | a fact of the target's greeting; once for each process of pytest |
| procsem.gave-up | why the run ended early |
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING

import pytest

from pytest_procsemantics import stash
from pytest_procsemantics.baselines import Baseline, KnownDeviation
from pytest_procsemantics.driven.errors import CallFailed, StartFailed, TargetLost, Unsupported
from pytest_procsemantics.report import text
from pytest_procsemantics.report.verdict import Verdict, kernel_needed, verdict_of
from pytest_procsemantics.settings import Settings

if TYPE_CHECKING:
    from pytest_procsemantics.catalogue import Clause

STARTS_BEFORE_GIVING_UP = 3


class Judge:
    """Gives each check its verdict and makes pytest's outcome agree with it."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        self._baselines = [Baseline.load(name) for name in settings.baselines]
        self._facts_told = False
        self._failed_starts = 0

    # Outermost, so that it sees what marks such as xfail made of the outcome.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        clauses, excinfo = item.stash.get(stash.CLAUSES, ()), call.excinfo
        if clauses and excinfo and self._is_no_failure(item, clauses, excinfo.value, call.when):
            call.excinfo = _as_skip(excinfo)
        report = yield
        if clauses and stash.LIE not in item.stash:
            self._judge(item, clauses, report, excinfo)
        return report

    def _is_no_failure(
        self, item: pytest.Item, clauses: Sequence[Clause], error: BaseException, when: str
    ) -> bool:
        """Whether an error says of the target only what is known, or that it can't be judged."""
        if isinstance(error, Unsupported):
            return True
        if verdict_of(error, when) != Verdict.DEVIATES or stash.LIE in item.stash:
            return False
        is_to_show = self._config.getoption("xfail_tb")
        is_known = not is_to_show and self._entry(item, clauses) is not None
        return is_known or bool(kernel_needed(clauses, self._release()))

    def _judge(
        self,
        item: pytest.Item,
        clauses: Sequence[Clause],
        report: pytest.TestReport,
        excinfo: pytest.ExceptionInfo[BaseException] | None,
    ) -> None:
        error = excinfo.value if excinfo else None
        if report.when == "setup":
            _forget_earlier_run(item)
        properties = self._facts()
        verdict = verdict_of(error, report.when)
        lost = self._known_loss(item, clauses, error)
        if lost and report.when == "teardown":
            report.outcome, report.longrepr = "passed", None
        elif lost and excinfo:
            verdict = Verdict.DEVIATES
            properties += [("procsem.seen", _seen(excinfo)), *_make_known(report, *lost)]
        elif verdict == Verdict.CONFORMS:
            properties += self._conforms(item, clauses, report)
        elif verdict == Verdict.DEVIATES and excinfo:
            seen = _seen(excinfo)
            verdict, more = self._deviates(item, clauses, report, seen)
            properties += [("procsem.seen", seen), *more]
        elif verdict == Verdict.UNSUPPORTED:
            make_skipped(item, report, f"Skipped: {error}")
            # A skip for lack of requirements carries them; any other has its reason only.
            missing = getattr(error, "missing", None) or [str(error)]
            properties += [("procsem.missing", text.one_line(str(word))) for word in missing]
        elif verdict == Verdict.BROKEN and excinfo:
            _make_failed(report)
            properties += [("procsem.seen", _seen(excinfo)), *self._give_up(item, excinfo.value)]
        if verdict:
            properties.append(("procsem.verdict", verdict))
            if verdict in (Verdict.CONFORMS, Verdict.DEVIATES):
                self._failed_starts = 0
        item.user_properties += properties
        report.user_properties = list(item.user_properties)
        self._add_transcript(item, report, verdict)
        if report.failed and not text.is_sendable(shown := str(report.longrepr)):
            report.longrepr = text.block(shown)

    def _facts(self) -> list[tuple[str, object]]:
        facts = self._config.stash.get(stash.FACTS, None)
        if self._facts_told or not facts:
            return []
        self._facts_told = True
        return [(f"procsem.target.{key}", text.one_line(facts[key])) for key in facts]

    def _release(self) -> str:
        """Of the kernel, as the target declares it; empty before it has."""
        return str(self._config.stash.get(stash.FACTS, {}).get("release", ""))

    def _conforms(
        self, item: pytest.Item, clauses: Sequence[Clause], report: pytest.TestReport
    ) -> list[tuple[str, object]]:
        told: list[tuple[str, object]] = []
        found = self._entry(item, clauses)
        if found and not found[2].sometimes:
            source, id, entry = found
            report.outcome = "failed"
            report.longrepr = (
                f"stale baseline entry: {id} conforms now, but {source} says: "
                f"{text.one_line(entry.seen)}; remove the entry"
            )
            told = _words_of(entry)
        # A strict xfail mark that passed is stale in the same sense.
        return [("procsem.baseline", "stale"), *told] if report.failed else []

    def _deviates(
        self, item: pytest.Item, clauses: Sequence[Clause], report: pytest.TestReport, seen: str
    ) -> tuple[str, list[tuple[str, object]]]:
        release = self._release()
        if needed := kernel_needed(clauses, release):
            reason = f"needs {needed} (the target declares {text.one_line(release, 60)}): {seen}"
            make_skipped(item, report, f"Skipped: {reason}")
            return Verdict.UNSUPPORTED, [("procsem.missing", needed)]
        if found := self._entry(item, clauses):
            return Verdict.DEVIATES, _make_known(report, *found)
        # So is one that an xfail mark expects.
        known = hasattr(report, "wasxfail")
        return Verdict.DEVIATES, [("procsem.baseline", "known")] if known else []

    def _known_loss(
        self, item: pytest.Item, clauses: Sequence[Clause], error: BaseException | None
    ) -> tuple[str, str, KnownDeviation] | None:
        """The entry that expects the whole target to be lost by this check, if that is what happened."""
        if not isinstance(error, TargetLost) or isinstance(error, StartFailed):
            return None
        found = self._entry(item, clauses)
        return found if found and found[2].lost else None

    def _entry(
        self, item: pytest.Item, clauses: Sequence[Clause]
    ) -> tuple[str, str, KnownDeviation] | None:
        """The first entry of a baseline for this check, with the baseline and the clause."""
        for baseline in self._baselines:
            for clause in clauses:
                if entry := baseline.known(clause.id, item.stash.get(stash.NAME, item.name)):
                    return baseline.source, clause.id, entry
        return None

    def _give_up(self, item: pytest.Item, error: BaseException) -> list[tuple[str, object]]:
        """End the run when the target can't be started: every other check would say the same."""
        if not isinstance(error, StartFailed):
            self._failed_starts = 0
            return []
        self._failed_starts += 1
        if self._failed_starts < STARTS_BEFORE_GIVING_UP:
            return []
        why = (
            f"the target did not start, {self._failed_starts} times in a row:"
            f" {text.one_line(str(error))}"
        )
        item.session.shouldfail = why
        return [("procsem.gave-up", why)]

    def _add_transcript(
        self, item: pytest.Item, report: pytest.TestReport, verdict: str | None
    ) -> None:
        wanted = report.failed or (verdict and self._settings.transcript == "all")
        if wanted and stash.TRANSCRIPT in item.stash:
            steps = text.block(str(item.stash[stash.TRANSCRIPT]))
            report.sections.append(("transcript", steps))
        if report.when == "teardown" and stash.TRANSCRIPT in item.stash:
            # pytest keeps every item to the end of the run, and the collector of garbage would look at each step.
            del item.stash[stash.TRANSCRIPT]


def _forget_earlier_run(item: pytest.Item) -> None:
    """Plugins that run a test again keep the item, and with it what its first run was given."""
    kept = ("procsem.clause", "procsem.target.")
    item.user_properties[:] = [
        pair
        for pair in item.user_properties
        if pair[0].startswith(kept) or not pair[0].startswith("procsem.")
    ]


def _as_skip(excinfo: pytest.ExceptionInfo[BaseException]) -> pytest.ExceptionInfo[BaseException]:
    """What is no failure to pytest either: it formats no traceback, which costs more than the check, nor starts a debugger."""
    skip = pytest.skip.Exception(str(excinfo.value))
    return pytest.ExceptionInfo.from_exception(skip.with_traceback(excinfo.tb))


def _make_known(
    report: pytest.TestReport, source: str, id: str, entry: KnownDeviation
) -> list[tuple[str, object]]:
    """Let a report look as one of a strict xfail mark that holds."""
    report.outcome = "skipped"
    report.wasxfail = f"{source}: {id}: {entry.reason}"
    return [("procsem.baseline", "known"), *_words_of(entry)]


def _words_of(entry: KnownDeviation) -> list[tuple[str, object]]:
    return [
        ("procsem.entry.seen", text.one_line(entry.seen)),
        ("procsem.entry.reason", text.one_line(entry.reason)),
    ]


def make_skipped(item: pytest.Item, report: pytest.TestReport, reason: str) -> None:
    """Let a report look as after pytest.skip(), whatever was raised."""
    path, line, _ = item.location
    report.outcome = "skipped"
    report.longrepr = (path, (line or 0) + 1, text.one_line(reason))


def _make_failed(report: pytest.TestReport) -> None:
    # An xfail mark expects a deviation; it must not hide that nothing was judged.
    report.outcome = "failed"
    if hasattr(report, "wasxfail"):
        del report.wasxfail


def _seen(excinfo: pytest.ExceptionInfo[BaseException]) -> str:
    error = excinfo.value
    said = text.one_line(str(error))
    if type(error) is AssertionError or isinstance(error, pytest.fail.Exception):
        # Without pytest's rewriting an assertion says nothing: then its source line does.
        return explained(str(error)) or text.one_line(str(excinfo.traceback[-1].statement))
    if isinstance(error, CallFailed):
        return text.one_line(error.strerror or said)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def explained(assertion: str) -> str:
    """An assertion as pytest explains it, in one line: "assert not True, where True = ..."."""
    first, *rest = assertion.strip().splitlines() or [""]
    where = [line.strip(" +") for line in rest if re.match(r"\s*\+\s+(where|and)\s", line)]
    return text.one_line(", ".join([first, *where[:1]]))  # the others explain this one
