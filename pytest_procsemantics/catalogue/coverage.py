"""How much of the catalogue is proved by checks, page by page."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_procsemantics.catalogue import loader


@dataclass(frozen=True, slots=True)
class PageCoverage:
    """Numbers of a page's clauses; `clauses` is the sum of the other three."""

    page: str
    clauses: int
    proved: int
    untestable: int
    open: int


def coverage(proved: Iterable[str]) -> list[PageCoverage]:
    """Count the clauses of every page; this reads the whole catalogue.

    Args:
        proved: ids of clauses that have a check. A clause is proved too when a twin is.

    Raises:
        UnknownClause: an id that no clause has.
    """
    known = with_twins(proved)
    counts = []
    for page in map(loader.page, loader.pages()):
        done = sum(clause.id in known for clause in page.clauses)
        left = sum(not clause.testable and clause.id not in known for clause in page.clauses)
        total = len(page.clauses)
        counts.append(PageCoverage(page.name, total, done, left, total - done - left))
    return counts


def open_clauses(proved: Iterable[str], glob: str) -> list[loader.Clause]:
    """The clauses of a pattern that could be proved and are not, in the order of pages and text.

    Args:
        proved: as in `coverage`.
        glob: as in `matching`.

    Raises:
        UnknownClause: an id that no clause has.
    """
    known = with_twins(proved)
    return [one for one in loader.matching(glob) if one.testable and one.id not in known]


def with_twins(ids: Iterable[str]) -> set[str]:
    """These ids and those of all clauses that state the same facts.

    Raises:
        UnknownClause: an id that no clause has.
    """
    return {twin for id in ids for twin in (loader.clause(id).id, *loader.twin_ids(id))}
