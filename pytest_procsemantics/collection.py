"""Checks and other marked tests as they are collected: their markers judged, some of them selected.

All of it runs only once a test with a marker of ours was found; a suite without pays for one look
at each test's markers.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_procsemantics import stash
from pytest_procsemantics.settings import Settings

CLAUSE_MARKER = "procsem_clause"
REQUIRES_MARKER = "procsem_requires"
PRIMITIVES_MARKER = "procsem_primitives"
MARKERS = (
    f"{CLAUSE_MARKER}(id, ...): clauses of the catalogue that this check proves; set by @clause",
    f"{REQUIRES_MARKER}(word, ...): what the local machine must offer, such as 'userns' or"
    + " 'kernel>=5.3'; the test is skipped where something is missing",
    "procsem_lie(lie, ...): planned deviations that this check notices; set by @lie",
    f"{PRIMITIVES_MARKER}(name, ...): what the fixture spawn makes children by in this test, such as"
    " 'fork', 'clone'",
)

# What a worker tells the process that writes the summary; keys of config.workeroutput.
COLLECTED = "procsem_collected"
UNMATCHED = "procsem_unmatched"


def marked(collected: list[pytest.Item | pytest.Collector]) -> list[pytest.Item]:
    """Those of a collector's nodes that are tests with a marker of ours."""
    return [
        node
        for node in collected
        if isinstance(node, pytest.Item)
        and any(mark.name in (CLAUSE_MARKER, REQUIRES_MARKER) for mark in node.iter_markers())
    ]


def ready(report: pytest.CollectReport, tests: list[pytest.Item]) -> None:
    """Note what each marked test proves, or make the report one of a collection error.

    That is the one way to a single message that is the same under pytest-xdist: an exception in a
    hook of a worker is forty lines of INTERNALERROR.
    """
    # Parametrised tests come from one decorator and have one problem.
    problems = list(dict.fromkeys(problem for test in tests for problem in _problems(test)))
    if problems:
        report.outcome = "failed"
        report.longrepr = "\n".join(problems)
        report.result = []


def _problems(test: pytest.Item) -> Iterator[str]:
    from pytest_procsemantics.catalogue import CatalogueError, UnknownClause
    from pytest_procsemantics.catalogue.vocabulary import UnknownRequirement, split_requirement
    from pytest_procsemantics.clauses import clauses_of

    path, line, _ = test.location
    where = path if line is None else f"{path}:{line + 1}"
    try:
        clauses = clauses_of(test)
    except (UnknownClause, CatalogueError) as error:
        yield f"{where}: {error}"
    else:
        if clauses:
            test.stash[stash.CLAUSES] = clauses
            test.user_properties += [("procsem.clause", clause.id) for clause in clauses]
    for mark in test.iter_markers(REQUIRES_MARKER):
        if mark.kwargs or not mark.args:
            yield f"{where}: {REQUIRES_MARKER} takes one or more words, such as 'userns'"
        for word in mark.args:
            try:
                split_requirement(word)
            except UnknownRequirement as error:
                yield f"{where}: {REQUIRES_MARKER}: {error}"
            except TypeError:
                # No repr: an address in it would be another message in each worker.
                kind = type(word).__name__
                yield f"{where}: {REQUIRES_MARKER} takes words, not something of type {kind}"


class Selection:
    """Notes what the checks prove, and runs only those that --procsem-clause selects."""

    def __init__(self, settings: Settings) -> None:
        self._patterns = settings.patterns
        self._is_coverage = settings.coverage
        self._collected: set[str] = set()
        self._unmatched: list[str] = []

    # Before -k, -m and the like: the coverage is of what was collected.
    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        proved = {item: _ids(item) for item in items}
        self._collected.update(*proved.values())
        if stash.RESULTS in config.stash:
            config.stash[stash.RESULTS].collected |= self._collected
        if self._patterns:
            self._select(session, config, items, proved)

    def _select(
        self,
        session: pytest.Session,
        config: pytest.Config,
        items: list[pytest.Item],
        proved: dict[pytest.Item, frozenset[str]],
    ) -> None:
        from pytest_procsemantics import catalogue

        wanted: set[str] = set()
        for pattern in self._patterns:
            ids = {clause.id for clause in catalogue.matching(pattern)}
            # A check proves the twins of its clauses too.
            ids.update(*map(catalogue.twin_ids, ids))
            # The coverage is asked for clauses without a check too.
            if ids.isdisjoint(self._collected) and not self._is_coverage:
                self._unmatched.append(pattern)
            wanted |= ids
        # A file that can't be collected may hold the check: its error is the one to show.
        if session.testsfailed:
            self._unmatched.clear()
        elif self._unmatched and not hasattr(config, "workerinput"):
            raise unmatched(self._unmatched)
        elif self._unmatched:
            wanted.clear()
        dropped = [item for item in items if wanted.isdisjoint(proved[item])]
        if dropped:
            items[:] = [item for item in items if not wanted.isdisjoint(proved[item])]
            config.hook.pytest_deselected(items=dropped)

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, object] | None = getattr(session.config, "workeroutput", None)
        if output is not None:
            output[COLLECTED] = sorted(self._collected)
            output[UNMATCHED] = self._unmatched


def unmatched(patterns: list[str]) -> pytest.UsageError:
    """The error for patterns that name clauses, but of no check among the collected ones."""
    words = ", ".join(map(repr, patterns))
    return pytest.UsageError(
        f"--procsem-clause: no collected check proves a clause that matches {words};"
        " --procsem-coverage shows which pages have checks"
    )


def _ids(item: pytest.Item) -> frozenset[str]:
    return frozenset(clause.id for clause in item.stash.get(stash.CLAUSES, ()))
