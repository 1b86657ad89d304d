"""`@clause`: which clauses a check proves.

An id is looked up while the check's module is imported. That is the one moment at which pytest
prints a message of ours alone, with and without xdist: `Collector.CollectError` passes through the
import of a module unchanged, while any other exception gets a traceback around it.
"""

from __future__ import annotations

import os
import sys
from types import FrameType

import pytest

from pytest_procsemantics import catalogue

MARKER = "procsem_clause"


def clause(*ids: str) -> pytest.MarkDecorator:
    """Mark a check, or one case of a parametrised check, with the clauses that it proves.

    Args:
        ids: such as "fork.2/memory-is-copied". Twins (`same_as`) need not be named.

    Returns:
        The marker `procsem_clause`: a decorator, and fit for `pytest.param(..., marks=...)`.

    Raises:
        pytest.Collector.CollectError: no id, or one that no clause has; the message has file and
            line of the call, and the nearest ids.
    """
    if not ids:
        raise _collect_error(
            sys._getframe(1), "clause() needs an id such as 'fork.2/memory-is-copied'"
        )
    given: tuple[object, ...] = ids
    for id in given:
        if not isinstance(id, str):  # @clause without parentheses: the function comes as the id
            # No repr: an address in it would make a message of its own for each xdist worker.
            what = getattr(id, "__qualname__", type(id).__name__)
            raise _collect_error(
                sys._getframe(1), f"clause() takes ids of clauses as texts, not {what}"
            )
        try:
            catalogue.clause(id)
        except (catalogue.UnknownClause, catalogue.CatalogueError) as error:
            raise _collect_error(sys._getframe(1), str(error)) from None
    marker: pytest.MarkDecorator = getattr(pytest.mark, MARKER)
    return marker(*ids)


def clauses_of(item: pytest.Item) -> tuple[catalogue.Clause, ...]:
    """The clauses that a collected check names, its parameters' included, its twins not.

    Those of the case come first, then those of the function, of the class and of the module.

    Raises:
        UnknownClause: the marker was put on by hand, with an id that no clause has.
    """
    ids = [str(id) for marker in item.iter_markers(MARKER) for id in marker.args]
    return tuple(catalogue.clause(id) for id in dict.fromkeys(ids))


def _collect_error(caller: FrameType, message: str) -> pytest.Collector.CollectError:
    path = caller.f_code.co_filename
    short = os.path.relpath(path)
    place = f"{path if short.startswith(os.pardir) else short}:{caller.f_lineno}"
    return pytest.Collector.CollectError(f"{place}: {message}")
