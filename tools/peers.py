"""What other suites assert about processes, and how much of it is proved here.

    python -m tools.peers                   # a row for each suite
    python -m tools.peers 'clone.2/*' ...   # the facts on these clauses that no check proves

A file in tools/peers/ is one suite: a list of [[test]], each with a `name` and its `facts`. A fact has
    says      what is asserted, in our own words
    clause    the id of the clause that states it
    note      optional: a remark
or, where it is no matter of processes, `scope = "out"` and `why` in place of the clause.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from io import StringIO
from pathlib import Path

import pytest

from pytest_procsemantics import catalogue, stash
from pytest_procsemantics.catalogue.schema import Key, problems_of_table, read_toml

FOLDER = Path(__file__).with_suffix("")
CHECKOUT = FOLDER.parent.parent
FACT = {"says": Key(str), "clause": Key(str), "note": Key(str, needed=False)}
OUT = {"says": Key(str), "note": Key(str, needed=False), "scope": Key(str), "why": Key(str)}
COLUMNS = ("tests", "facts", "proved", "open", "untestable")


@dataclass(frozen=True)
class Fact:
    """One thing that a test of another suite asserts; the fields are the keys of its table."""

    test: str
    says: str
    clause: str = ""
    note: str = ""
    scope: str = ""
    why: str = ""


@dataclass
class Suite:
    """Another suite.

    Attributes:
        name: of its file.
        tests: how many have facts that are about processes.
        facts: those.
    """

    name: str
    tests: int = 0
    facts: list[Fact] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Suite:
        """Read a file.

        Raises:
            ValueError: with all that is wrong, a line for each.
        """
        suite, problems, names = cls(path.stem), list[str](), set[str]()
        for test in read_toml(path).get("test", []):  # type: ignore[attr-defined]
            where = f"{path.name}: {test.get('name')}"
            if test.keys() != {"name", "facts"} or not test["facts"]:
                problems.append(f"{where}: a test has a name and facts")
                continue
            if where in names:
                problems.append(f"{where}: stands twice")
            names.add(where)
            for table in test["facts"]:
                problems += _problems(table, where)
            facts = [Fact(test["name"], **table) for table in test["facts"] if not problems]
            inside = [fact for fact in facts if not fact.scope]
            suite.tests += bool(inside)
            suite.facts += inside
        if problems:
            raise ValueError("\n".join(problems))
        return suite


def _problems(fact: dict[str, object], where: str) -> Iterator[str]:
    yield from problems_of_table(fact, OUT if "scope" in fact else FACT, where)
    if fact.get("scope", "out") != "out":
        yield f"{where}: scope is out, not {fact['scope']!r}"
    if "clause" in fact:
        try:
            catalogue.clause(str(fact["clause"]))
        except catalogue.UnknownClause as error:
            yield f"{where}: {error}"


def suites() -> list[Suite]:
    """All of them, sorted by name."""
    return [Suite.load(path) for path in sorted(FOLDER.glob("*.toml"))]


class Proved:
    """A plugin that notes the clauses of the collected checks, twins included."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            for clause in item.stash.get(stash.CLAUSES, ()):
                self.ids |= {clause.id, *catalogue.twin_ids(clause.id)}


def proved() -> set[str]:
    """The ids of the clauses that the suite has checks for."""
    found = Proved()
    # An installed plugin is known already, and nothing of it is to be rewritten.
    options = ["-qq", "--collect-only", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with redirect_stdout(StringIO()) as output:
        status = pytest.main([*options, str(CHECKOUT / "conformance")], plugins=[found])
    if status:
        sys.exit(f"the checks can't be collected:\n{output.getvalue()}")
    return found.ids


def rows(done: set[str]) -> Iterator[tuple[str, ...]]:
    """The table: a row for each suite, and their sum."""
    total = [0] * len(COLUMNS)
    for suite in suites():
        known = [catalogue.clause(fact.clause) for fact in suite.facts]
        ours = sum(clause.id in done for clause in known)
        left = sum(clause.testable and clause.id not in done for clause in known)
        counts = [suite.tests, len(known), ours, left, len(known) - ours - left]
        total = [one + more for one, more in zip(total, counts, strict=True)]
        yield suite.name, *map(str, counts)
    yield "total", *map(str, total)


def main(patterns: list[str]) -> None:
    """Print the table, or what is open."""
    done = proved()
    if not patterns:
        for row in [("suite", *COLUMNS), *rows(done)]:
            print(f"{row[0]:10}", *(f"{cell:>11}" for cell in row[1:]))
        return
    for suite in suites():
        for fact in suite.facts:
            is_asked = any(fnmatchcase(fact.clause, pattern) for pattern in patterns)
            if is_asked and fact.clause not in done:
                print(f"{fact.clause}\n  {suite.name}: {fact.test}\n  {fact.says}")


if __name__ == "__main__":
    main(sys.argv[1:])
