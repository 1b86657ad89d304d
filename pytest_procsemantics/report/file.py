"""The results as a file for programs: `--procsem-json=FILE`, in the form of results.schema.json.

One process writes it, under pytest-xdist the controller. It is written when the run begins, as one that is not
complete, and once more at its end: a run that is killed leaves no older file that looks like its own.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from pytest_procsemantics import stash
from pytest_procsemantics.report import text
from pytest_procsemantics.report.results import Result, Results, worker_of
from pytest_procsemantics.report.verdict import BROKEN_STATUS, Verdict

SCHEMA: Final = 1
CHECKS = "procsem_checks"  # attribute of a worker's first report: clauses by check
ENDED_BY_ITSELF = (
    pytest.ExitCode.OK,
    pytest.ExitCode.TESTS_FAILED,
    pytest.ExitCode.NO_TESTS_COLLECTED,
)
Checks = dict[str, list[str]]


class Herald:
    """A worker's part: it says which checks it has collected, so that those not reached are known."""

    def __init__(self) -> None:
        self._checks: Checks | None = None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._checks = checks_of(session)

    # With a report, since nothing else arrives before the end, which an interrupted worker does not see.
    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if self._checks is not None:
            setattr(report, CHECKS, self._checks)
            self._checks = None
        return report


class Writer:
    """Writes the file, from what `Results` has gathered."""

    def __init__(self, config: pytest.Config, path: Path, results: Results) -> None:
        self._path = path
        self._results = results
        self._matrix = config.stash.get(stash.MATRIX, None)
        self._judges_alone = config.getoption("dist", "no") != "each"
        self._collected: dict[str, Checks] = {}  # by worker
        self._has_collected = self._has_missed = False
        self._problem = ""

    def pytest_sessionstart(self) -> None:
        try:
            write(self._path, self._document(complete=False))
        except OSError as error:
            raise pytest.UsageError(f"--procsem-json: {self._path}: {error.strerror}") from None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._has_collected = True
        self._note("", checks_of(session))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        self._has_collected = True

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._has_missed |= report.failed

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        checks: Checks | None = getattr(report, CHECKS, None)
        if checks is not None:
            self._note(worker_of(report), checks)

    def _note(self, worker: str, checks: Checks) -> None:
        # Each worker collects the same, and each check runs in one of them only.
        self._collected["" if self._judges_alone else worker] = checks

    # The status that is given, not the session's: that may be one of ours already.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int | pytest.ExitCode
    ) -> None:
        is_whole = self._has_collected and not self._has_missed and not self._results.gave_up
        try:
            write(self._path, self._document(is_whole and exitstatus in ENDED_BY_ITSELF))
        except OSError as error:
            self._problem = error.strerror or str(error)
            session.exitstatus = BROKEN_STATUS

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._problem:
            terminalreporter.write_line(
                f"ERROR: --procsem-json: {self._path}: {self._problem}", red=True
            )

    def _document(self, complete: bool) -> dict[str, Any]:
        from pytest_procsemantics import catalogue

        results = [*self._results.begun, *self._not_begun()]
        targets: list[dict[str, str]] = []
        for facts in self._results.targets.values():
            targets += [] if facts in targets else [facts]
        targets = targets or [{"spec": self._results.spec}]
        collected = self._results.collected.union(*(r.clauses for r in results))
        pages = catalogue.coverage(collected) if results else []
        proof = {"proof": self._matrix.document()} if self._matrix else {}
        return {
            "schema": SCHEMA,
            "complete": complete and all(result.verdict for result in results),
            "targets": [{key: text.one_line(facts[key]) for key in facts} for facts in targets],
            "results": [
                _told(result, self._target(result.worker, targets))
                for result in sorted(results, key=lambda result: (result.nodeid, result.worker))
            ],
            "coverage": {
                page.page: {
                    "clauses": page.clauses,
                    "proved": page.proved,
                    "untestable": page.untestable,
                    "open": page.open,
                }
                for page in pages
            },
            **proof,
        }

    def _not_begun(self) -> list[Result]:
        begun = {
            ("" if self._judges_alone else result.worker, result.nodeid)
            for result in self._results.begun
        }
        return [
            Result(check, clauses, worker=worker)
            for worker, checks in self._collected.items()
            for check, clauses in checks.items()
            if (worker, check) not in begun
        ]

    def _target(self, worker: str, targets: Sequence[Mapping[str, str]]) -> int | None:
        facts = self._results.targets.get(worker)
        if facts is not None:
            return targets.index(facts)
        # A worker that never heard of its target was to judge the one that there is.
        return 0 if len(targets) == 1 else None


def checks_of(session: pytest.Session) -> Checks:
    """The clauses of each check that is to run; a check under a lie is none."""
    return {
        item.nodeid: [clause.id for clause in item.stash[stash.CLAUSES]]
        for item in session.items
        if stash.CLAUSES in item.stash and stash.LIE not in item.stash
    }


def probe(path: Path) -> None:
    """See whether the file can be written, and leave everything as it is.

    Raises:
        OSError: it can't be.
    """
    # Replacing it atomically would put a file in the place of /dev/null.
    if path.exists() and not path.is_file():
        raise OSError(0, "is no regular file")
    temporary = _beside(path)
    temporary.touch(exist_ok=False)
    temporary.unlink()


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write a document as JSON, or leave what is there: nobody reads half a file.

    Raises:
        OSError: it can't be written.
    """
    temporary = _beside(path)
    try:
        with temporary.open("x", encoding="utf-8") as file:
            json.dump(document, file, indent=2, ensure_ascii=False, allow_nan=False)
            file.write("\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f".procsem-{secrets.token_hex(8)}.json")


def _told(result: Result, target: int | None) -> dict[str, Any]:
    """A result; its texts come from a target, so they are bounded, and escaped where JSON could not hold them."""
    return {
        "check": text.block(result.nodeid),
        "clauses": result.clauses,
        "target": target,
        "verdict": result.verdict,
        "reason": text.block(_reason(result)),
        "baseline": result.baseline or None,
        "teardown": text.block(result.teardown) or None,
        "transcript": text.block(result.transcript) or None,
        "seconds": round(result.seconds, 6),
    }


def _reason(result: Result) -> str:
    match result.verdict:
        case None:
            return "did not end" if result.seconds else "not reached"
        case Verdict.UNSUPPORTED:
            return ", ".join(result.missing)
        case Verdict.CONFORMS if result.entry_seen:
            return f"conforms now, but a baseline says: {result.entry_seen}"
    return result.seen
