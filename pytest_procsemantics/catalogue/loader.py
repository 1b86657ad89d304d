"""Pages and clauses, read from the TOML files beside this module.

Reading a page takes 1 ms (the median) to 25 ms (clone.2), so a page is read when it is named, and
kept. Only what crosses pages (twins, a search for a misspelt id, validate) looks at all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

from pytest_procsemantics.catalogue.schema import Key, hint, problems_of_table, read_toml
from pytest_procsemantics.catalogue.vocabulary import (
    CLAIMS,
    ERRORS,
    KINDS,
    PRIMITIVES,
    UnknownRequirement,
    nearest,
    split_requirement,
)

FOLDER = Path(__file__).parent
PAGE_KEYS = {"name": Key(str), "title": Key(str), "source": Key(str)}
CLAUSE_KEYS = {
    "id": Key(str),
    "section": Key(str),
    "says": Key(str),
    "kind": Key(str),
    "primitives": Key(list),
    "requires": Key(list),
    "observable": Key(str),
    "testable": Key(bool),
    "why": Key(str, needed=False),
    "claim": Key(str, needed=False),
    "errno": Key(str, needed=False),
    "since": Key(str, needed=False),
    "same_as": Key(str, needed=False),
    "seen": Key(str, needed=False),
    "note": Key(str, needed=False),
}
FACT = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # the part of an id behind the page's name
SINCE = re.compile(r"(Linux|glibc|musl) (\d+\.\d+(?:\.\d+)*)|POSIX")
LIBRARIES = {"libc", "glibc", "musl"}


@dataclass(frozen=True, slots=True)
class Clause:
    """One documented, testable fact; the fields are the keys of its TOML table."""

    id: str
    page: str
    section: str
    says: str
    kind: str
    primitives: tuple[str, ...]
    requires: tuple[str, ...]
    observable: str
    testable: bool
    why: str | None = None
    claim: str | None = None
    errno: str | None = None
    since: str | None = None
    same_as: str | None = None
    seen: str | None = None
    note: str | None = None

    @property
    def since_kernel(self) -> tuple[int, ...] | None:
        """The Linux that brought the fact, such as (5, 14); None: the page names none."""
        found = SINCE.match(self.since or "")
        if not found or found[1] != "Linux":
            return None
        return tuple(int(part) for part in found[2].split("."))


@dataclass(frozen=True, slots=True)
class Page:
    """A manual page, or another source: what was read, and its clauses in the order of the text."""

    name: str
    title: str
    source: str
    clauses: tuple[Clause, ...]


class CatalogueError(ValueError):
    """A file of the catalogue breaks the format; `problems` has a line for each fault."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(problems[0] + more)


class UnknownClause(LookupError):
    """No clause has this id; `nearest` has up to two that may have been meant."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.nearest = _nearest_ids(id)
        found = ", ".join(self.nearest)
        super().__init__(
            f"no clause {id!r}; "
            + (f"nearest: {found}" if found else "an id looks like fork.2/memory-is-copied")
        )


class UnknownPage(LookupError):
    """No page has this name; `nearest` has up to two that may have been meant."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nearest = nearest(name, pages())
        found = ", ".join(self.nearest)
        super().__init__(
            f"no page {name!r}; " + (f"nearest: {found}" if found else "a page looks like fork.2")
        )


@cache
def pages() -> tuple[str, ...]:
    """The names of all pages, sorted; no page is read for it."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in FOLDER.glob("*.toml")))


@cache
def page(name: str) -> Page:
    """Read one page; the second time it is there.

    Args:
        name: such as "fork.2".

    Raises:
        UnknownPage: there is no such page.
        CatalogueError: its file is not as the format wants it.
    """
    if name not in pages():
        raise UnknownPage(name)
    path = FOLDER / f"{name}.toml"
    try:
        document = read_toml(path)
    except ValueError as error:
        raise CatalogueError([f"{path.name}: {error}"]) from None
    if problems := list(_problems_of_document(document, path.name)):
        raise CatalogueError(problems)
    return _page_of(document)


def clause(id: str) -> Clause:
    """The clause with this id; only its page is read.

    Raises:
        UnknownClause: there is none.
        CatalogueError: the file of its page is not as the format wants it.
    """
    name = id.partition("/")[0]
    found = _clauses_of(name).get(id) if name in pages() else None
    if found is None:
        raise UnknownClause(id)
    return found


def matching(glob: str) -> tuple[Clause, ...]:
    """All clauses that a pattern selects, in the order of pages and text; none is no error.

    Args:
        glob: `PAGE/FACT`, or `PAGE` alone for all of its clauses, each with `*`, `?` and `[...]`:
            "fork.2/*signal*", "clone.2", "*/exec-keeps*". Only pages that can match are read.
    """
    names, slash, fact = glob.partition("/")
    wanted = [name for name in pages() if fnmatchcase(name, names)]
    return tuple(
        clause
        for name in wanted
        for clause in page(name).clauses
        if not slash or fnmatchcase(clause.id.partition("/")[2], fact)
    )


def twins(id: str) -> tuple[Clause, ...]:
    """The other clauses that state the same fact, sorted by id.

    `same_as` is followed in both directions and over several steps, so all clauses of such a
    family have each other as twins.

    Raises:
        UnknownClause: no clause has this id.
    """
    clause(id)
    return tuple(clause(other) for other in twin_ids(id))


def twin_ids(id: str) -> tuple[str, ...]:
    """The ids of a clause's twins, without reading any page; an unknown id has none."""
    return tuple(other for other in _families().get(id, ()) if other != id)


def validate() -> list[str]:
    """Check every file of the catalogue.

    Returns:
        One line for each problem, with file, clause and key; an empty list when all is well.
    """
    problems = []
    clauses: dict[str, Clause] = {}
    for name in pages():
        try:
            clauses.update(_clauses_of(name))
        except CatalogueError as error:
            problems += error.problems
    for found in clauses.values():
        where = f"{found.page}.toml: {found.id}"
        problems += [f"{where}: {problem}" for problem in _problems_of_same_as(found, clauses)]
    return problems


@cache
def _clauses_of(name: str) -> Mapping[str, Clause]:
    return {clause.id: clause for clause in page(name).clauses}


def _page_of(document: Mapping[str, Any]) -> Page:
    about = document["page"]
    clauses = []
    for table in document["clause"]:
        values: dict[str, Any] = dict(table, page=about["name"])
        values["primitives"] = tuple(values["primitives"])
        values["requires"] = tuple(values["requires"])
        clauses.append(Clause(**values))
    return Page(**about, clauses=tuple(clauses))


def _problems_of_document(document: Mapping[str, Any], file: str) -> Iterator[str]:
    known = ("page", "clause")
    if strange := [key for key in document if key not in known]:
        yield from (f"{file}: unknown table {key!r}{hint(key, known)}" for key in strange)
        return
    name = file.removesuffix(".toml")
    about, tables = document.get("page"), document.get("clause")
    if not isinstance(about, dict):
        yield f"{file}: lacks [page]"
        return
    yield from problems_of_table(about, PAGE_KEYS, f"{file}: [page]")
    if about.get("name") != name:
        yield f"{file}: [page]: name must be {name!r}, as the file's"
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        yield f"{file}: lacks [[clause]]"
        return
    seen = set()
    for number, table in enumerate(tables, start=1):
        id = table.get("id")
        where = f"{file}: {id if isinstance(id, str) else f'clause {number}'}"
        yield from problems_of_table(table, CLAUSE_KEYS, where)
        for problem in _problems_of_values(table, name):
            yield f"{where}: {problem}"
        if id in seen:
            yield f"{where}: id stands twice"
        seen.add(id)


def _problems_of_values(table: Mapping[str, Any], name: str) -> Iterator[str]:
    """Judge the values of a clause's keys; one of a wrong type is left to problems_of_table."""
    match table.get("id"):
        case str(id) if not (id.startswith(f"{name}/") and FACT.fullmatch(id[len(name) + 1 :])):
            yield f"id must be {name}/ and lower-case words joined by hyphens"
    match table.get("kind"):
        case str(kind) if kind not in KINDS:
            yield f"unknown kind {kind!r}{hint(kind, KINDS)}"
    match table.get("primitives"):
        case []:
            yield "primitives names none"
        case [*primitives]:
            for word in primitives:
                if isinstance(word, str) and word not in PRIMITIVES:
                    yield f"primitives: unknown {word!r}{hint(word, PRIMITIVES)}"
    match table.get("requires"):
        case [*requires]:
            for word in requires:
                try:
                    split_requirement(str(word))
                except UnknownRequirement as error:
                    yield f"requires: {error}"
    match table.get("testable"), "why" in table:
        case False, False:
            yield "testable = false needs why"
        case True, True:
            yield "why explains testable = false only"
    match table.get("claim"), "seen" in table:
        case str(claim), _ if claim not in CLAIMS:
            yield f"unknown claim {claim!r}{hint(claim, CLAIMS)}"
        case "imprecise" | "false" as claim, False:
            yield f"claim = {claim!r} needs seen, which says what is true"
    match table.get("errno"):
        case str(word) if word not in ERRORS:
            yield f"unknown errno {word!r}{hint(word, ERRORS)}"
    match table.get("since"):
        case str(since) if not SINCE.match(since):
            yield f"since must begin with Linux X.Y, glibc X.Y, musl X.Y or POSIX, not {since!r}"


def _problems_of_same_as(found: Clause, clauses: Mapping[str, Clause]) -> Iterator[str]:
    if found.same_as is None:
        return
    other = clauses.get(found.same_as)
    if other is None:
        close = _nearest_ids(found.same_as)
        yield f"same_as: no clause {found.same_as!r}" + (
            f"; nearest: {', '.join(close)}" if close else ""
        )
        return
    if found.testable != other.testable:
        yield f"same_as: {other.id} is testable = {str(other.testable).lower()}, this one is not"
    if LIBRARIES.isdisjoint(found.requires) != LIBRARIES.isdisjoint(other.requires):
        # A check that makes system calls proves nothing about a function of the libc.
        yield f"same_as: of this and {other.id} only one is a fact of the libc"
    passed = {found.id}
    while other is not None and other.same_as:
        if other.id in passed:
            yield f"same_as: leads in a circle over {other.id}"
            return
        passed.add(other.id)
        other = clauses.get(other.same_as)


@cache
def _families() -> Mapping[str, tuple[str, ...]]:
    """Each clause that has twins -> its whole family, sorted.

    Every run with a baseline asks for this, so lines are scanned instead of parsing all pages
    (about 15 ms instead of 340); a test holds that both give the same.
    """
    family: dict[str, set[str]] = {}
    line = re.compile(rb'^(id|same_as) = "([^"]+)"$', re.MULTILINE)
    for name in pages():
        id = ""
        for key, value in line.findall((FOLDER / f"{name}.toml").read_bytes()):
            if key == b"id":
                id = value.decode()
                continue
            joined = family.get(id, {id}) | family.get(value.decode(), {value.decode()})
            family.update(dict.fromkeys(joined, joined))
    return {id: tuple(sorted(members)) for id, members in family.items()}


def _nearest_ids(id: str) -> list[str]:
    """Look in the page that was named, then in pages of nearly that name, then everywhere."""
    name, _, fact = id.partition("/")
    named = [name] if name in pages() else nearest(name, pages())
    for names in (named, pages()):
        facts: dict[str, list[str]] = {}
        for found in (found for name in names for found in page(name).clauses):
            facts.setdefault(found.id.partition("/")[2], []).append(found.id)
        if close := nearest(fact or name, facts):
            return [id for fact in close for id in facts[fact]][:2]
    return []
