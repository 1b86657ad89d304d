"""What other suites assert about processes, and how much of it is proved here.

    python -m tools.peers                   # a row for each suite
    python -m tools.peers 'clone.2/*' ...   # the facts on these clauses that a check could prove, and none does

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
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest

from pytest_procsemantics import catalogue, stash
from pytest_procsemantics.catalogue.schema import Key, problems_of_table, read_toml

FOLDER = Path(__file__).with_suffix("")
CHECKOUT = FOLDER.parent.parent
TEST = {"name", "facts"}
FACT = {"says": Key(str), "clause": Key(str), "note": Key(str, needed=False)}
OUT = {"says": Key(str), "note": Key(str, needed=False), "scope": Key(str), "why": Key(str)}
COLUMNS = ("tests", "facts", "proved", "open", "untestable")


@dataclass(frozen=True)
class Fact:
    """One thing that a test of another suite asserts about processes.

    Attributes:
        test: the test's name.
        says: what is asserted.
        clause: the id of the clause that states it.
    """

    test: str
    says: str
    clause: str


def facts_of(path: Path) -> list[Fact]:
    """The facts of a suite that are about processes.

    Raises:
        ValueError: with all that is wrong with the file, a line for each.
    """
    tests = read_toml(path).get("test", [])
    assert isinstance(tests, list)
    names = [test.get("name") for test in tests]
    problems = [f"{path.name}: {name}: stands twice" for name in names if names.count(name) > 1]
    for test in tests:
        where = f"{path.name}: {test.get('name')}"
        if test.keys() != TEST or not test["facts"]:
            problems.append(f"{where}: a test has a name and facts")
            continue
        for fact in test["facts"]:
            problems += _problems(fact, where)
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))
    return [
        Fact(test["name"], fact["says"], fact["clause"])
        for test in tests
        for fact in test["facts"]
        if "scope" not in fact
    ]


def _problems(fact: dict[str, object], where: str) -> Iterator[str]:
    yield from problems_of_table(fact, OUT if "scope" in fact else FACT, where)
    if fact.get("scope", "out") != "out":
        yield f"{where}: scope is out, not {fact['scope']!r}"
    if "clause" in fact:
        try:
            catalogue.clause(str(fact["clause"]))
        except catalogue.UnknownClause as error:
            yield f"{where}: {error}"


def suites() -> dict[str, list[Fact]]:
    """The facts of each suite, by its name, sorted."""
    return {path.stem: facts_of(path) for path in sorted(FOLDER.glob("*.toml"))}


class Collected:
    """A plugin that notes what the collected checks prove."""

    def __init__(self) -> None:
        self.ids: set[str] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self.ids.update(clause.id for clause in item.stash.get(stash.CLAUSES, ()))


def proved() -> set[str]:
    """The ids of the clauses that the suite has checks for."""
    collected = Collected()
    # An installed plugin is known already, and nothing of it is to be rewritten.
    options = ["-qq", "--collect-only", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
    with redirect_stdout(StringIO()) as output:
        status = pytest.main([*options, str(CHECKOUT / "conformance")], plugins=[collected])
    if status:
        sys.exit(f"the checks can't be collected:\n{output.getvalue()}")
    return collected.ids


def rows(done: set[str]) -> Iterator[tuple[str, list[int]]]:
    """The name and the numbers of each suite, and their sum."""
    known, waiting = catalogue.with_twins(done), open_ids(done, "*")
    total = [0] * len(COLUMNS)
    for name, facts in suites().items():
        ours = sum(fact.clause in known for fact in facts)
        left = sum(fact.clause in waiting for fact in facts)
        counts = [len({fact.test for fact in facts}), len(facts), ours, left]
        counts.append(len(facts) - ours - left)
        total = [one + more for one, more in zip(total, counts, strict=True)]
        yield name, counts
    yield "total", total


def open_ids(done: set[str], pattern: str) -> set[str]:
    """The clauses of a pattern that could be proved and are not."""
    if not catalogue.matching(pattern):
        sys.exit(
            f"no clause of the catalogue matches {pattern!r};"
            " accepted: a clause id or a pattern such as 'vfork.2/*'"
        )
    return {clause.id for clause in catalogue.open_clauses(done, pattern)}


def main(patterns: list[str]) -> None:
    """Print the table, or what is open."""
    done = proved()
    if not patterns:
        print(f"{'suite':10}", *(f"{column:>11}" for column in COLUMNS))
        for name, counts in rows(done):
            print(f"{name:10}", *(f"{count:>11}" for count in counts))
        return
    asked = set[str]().union(*(open_ids(done, pattern) for pattern in patterns))
    for name, facts in suites().items():
        for fact in facts:
            if fact.clause in asked:
                print(f"{fact.clause}\n  {name}: {fact.test}\n  {fact.says}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ValueError as error:
        sys.exit(str(error))
