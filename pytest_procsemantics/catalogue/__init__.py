"""The clauses: what manual pages say about process creation, one testable fact each.

A page is read when one of its clauses is named, never at import. The format is described in
docs/reference/catalogue.md.
"""

from pytest_procsemantics.catalogue.coverage import (
    PageCoverage,
    coverage,
    open_clauses,
    with_twins,
)
from pytest_procsemantics.catalogue.loader import (
    CatalogueError,
    Clause,
    Page,
    UnknownClause,
    UnknownPage,
    clause,
    matching,
    page,
    pages,
    twin_ids,
    twins,
    validate,
)

__all__ = [
    "CatalogueError",
    "Clause",
    "Page",
    "PageCoverage",
    "UnknownClause",
    "UnknownPage",
    "clause",
    "coverage",
    "matching",
    "open_clauses",
    "page",
    "pages",
    "twin_ids",
    "twins",
    "validate",
    "with_twins",
]
