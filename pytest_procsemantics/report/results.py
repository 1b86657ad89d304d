"""What the checks of a run came to, gathered in the one process that writes the summary."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, field
from typing import Any

import pytest

from pytest_procsemantics.collection import COLLECTED, UNMATCHED, unmatched
from pytest_procsemantics.report import summary
from pytest_procsemantics.report.verdict import BROKEN_STATUS, Verdict
from pytest_procsemantics.settings import DEFAULT_TARGET, DEFAULT_TIMEOUT, Settings

SUITE_SETTINGS = (
    "suite.ini"  # what `python -m pytest_procsemantics` runs with; its node ids are its arguments
)


@dataclass(slots=True)
class Result:
    """One check's result; it has no verdict while the check runs, and for ever if it never ended."""

    nodeid: str
    clauses: list[str]
    verdict: str | None = None
    seen: str = ""
    baseline: str = ""  # known, stale, or empty
    entry_seen: str = ""  # of the baseline's entry, if it is one
    entry_reason: str = ""
    missing: list[str] = field(default_factory=list)
    teardown: str = ""  # what a failing teardown said
    failed: bool = False  # to pytest, which then shows the report's sections
    transcript: str = ""
    seconds: float = 0.0  # of all phases
    worker: str = ""

    @property
    def page(self) -> str:
        """The page of the first clause: a check is counted once."""
        return self.clauses[0].partition("/")[0]


class Results:
    """Collects results, shows broken as an error, writes the summary, sets the exit status."""

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        self._config = config
        self._settings = settings
        # The same check runs once for each target with `--dist each`.
        self._results: dict[tuple[str, str], Result] = {}
        self.targets: dict[str, dict[str, str]] = {}  # facts, by worker
        self.collected: set[str] = set()  # ids of clauses
        self.gave_up = ""

    @property
    def spec(self) -> str:
        """The target that was asked for."""
        return self._settings.target

    @property
    def begun(self) -> list[Result]:
        """The results of all checks that began, sorted by test."""
        return sorted(self._results.values(), key=lambda result: (result.nodeid, result.worker))

    @property
    def all(self) -> list[Result]:
        """Those that have a verdict."""
        return [result for result in self.begun if result.verdict]

    # Before the terminal asks for the status of the same report.
    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        worker = worker_of(report)
        key = (worker, report.nodeid)
        clauses = [str(value) for name, value in report.user_properties if name == "procsem.clause"]
        if report.when not in ("setup", "call", "teardown"):
            self._crashed(key, report)
        if not clauses:
            return
        if report.when == "setup" or key not in self._results:
            self._results[key] = Result(report.nodeid, clauses, worker=worker)
        result = self._results[key]
        result.seconds += report.duration
        if report.when == "teardown":
            if report.failed:
                result.teardown = summary.failure_of(report)
            return
        self._read(result, worker, report)

    def _read(self, result: Result, worker: str, report: pytest.TestReport) -> None:
        missing = []
        for name, value in report.user_properties:
            match name:
                case "procsem.verdict":
                    result.verdict = str(value)
                case "procsem.seen":
                    result.seen = str(value)
                case "procsem.baseline":
                    result.baseline = str(value)
                case "procsem.entry.seen":
                    result.entry_seen = str(value)
                case "procsem.entry.reason":
                    result.entry_reason = str(value)
                case "procsem.missing":
                    missing.append(str(value))
                case "procsem.gave-up":
                    self.gave_up = str(value)
                case _ if name.startswith("procsem.target."):
                    facts = self.targets.setdefault(worker, {})
                    facts[name.removeprefix("procsem.target.")] = str(value)
        result.missing = missing
        result.failed = report.failed
        result.transcript = "\n".join(
            content for name, content in report.sections if name == "transcript"
        )

    def _crashed(self, key: tuple[str, str], report: pytest.TestReport) -> None:
        """pytest-xdist's report of a crashed worker has no properties; what was heard before counts."""
        result = self._results.get(key)
        if result is None:
            # It crashed before the setup's report: whether it was a check only its file can tell.
            file = report.nodeid.partition("::")[0]
            beside = [
                other for other in self._results.values() if other.nodeid.partition("::")[0] == file
            ]
            if not beside:
                return
            clauses = beside[0].clauses
            result = self._results[key] = Result(report.nodeid, clauses, worker=key[0])
        result.verdict = Verdict.BROKEN
        result.seen = summary.failure_of(report)

    # Broken looks like an error, and a deviation in the setup like a failure.
    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(
        self, report: pytest.CollectReport | pytest.TestReport
    ) -> tuple[str, str, str] | None:
        if not isinstance(report, pytest.TestReport) or not report.failed:
            return None
        result = self._results.get((worker_of(report), report.nodeid))
        if result is None or report.when == "teardown":
            return None
        if result.verdict == Verdict.BROKEN:
            return "error", "E", "ERROR"
        return "failed", "F", "FAILED"

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        output: dict[str, Any] = getattr(node, "workeroutput", {})  # a crashed worker has none
        self.collected.update(output.get(COLLECTED, ()))
        if output.get(UNMATCHED):
            raise unmatched(output[UNMATCHED])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        judged = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        broken = any(result.verdict == Verdict.BROKEN or result.teardown for result in self.all)
        if self.gave_up or (judged and broken):
            session.exitstatus = BROKEN_STATUS

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        lines = []
        if self._settings.coverage:
            lines += summary.coverage(self.collected, self._settings.patterns)
        if self._settings.transcript == "all":
            lines += summary.transcripts(self.all)
        if self.all:
            targets = list(self.targets.values()) or [{"spec": self._settings.target}]
            lines += summary.summary(self.all, targets, self._command)
            lines += summary.claims(self._settings.patterns, self.all)
        if lines:
            terminalreporter.section("semantics of process creation")
            for line in lines:
                terminalreporter.write_line(line)

    def _command(self, result: Result) -> str:
        """The command that runs just this check again."""
        if self._config.inipath and self._config.inipath.name == SUITE_SETTINGS:
            words = ["python", "-m", "pytest_procsemantics", result.nodeid]
        else:
            # pytest's node ids are relative to its root folder, its arguments to the current one.
            file, colons, name = result.nodeid.partition("::")
            path = os.path.relpath(self._config.rootpath / file, self._config.invocation_params.dir)
            words = ["pytest", f"{path}{colons}{name}"]
        if self._settings.prove:
            words.append("--procsem-prove")
        if self._settings.target != DEFAULT_TARGET:
            words.append(f"--procsem-target={self._settings.target}")
        if self._settings.timeout != DEFAULT_TIMEOUT:
            words.append(f"--procsem-timeout={self._settings.timeout:g}")
        return shlex.join(words)


def worker_of(report: pytest.TestReport) -> str:
    """The id of the worker that a report came from; empty without pytest-xdist."""
    # pytest-xdist sets worker_id on what a worker sent, but only node on a crash.
    node = getattr(report, "node", None)
    return str(node.gateway.id) if node is not None else ""
