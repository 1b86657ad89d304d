"""Known deviations of a target, each with its reason.

A baseline never hides news: what it lists is expected to happen, and an entry whose check conforms
is stale. Which verdict that gives is decided where verdicts are made; here is the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_procsemantics import catalogue
from pytest_procsemantics.catalogue.schema import Key, hint, problems_of_table, read_toml

FOLDER = Path(__file__).parent


class BaselineError(ValueError):
    """A baseline can't be read or breaks the format; `problems` has a line for each fault."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class KnownDeviation:
    """One entry: `clauses` are not kept, `seen` happens instead, all for one reason.

    `checks` are the tests that see it, by name, with or without their parameters in brackets; none:
    every check of the clauses. With `lost` the target as a whole does not survive it. With
    `sometimes` chance decides, and a check that conforms makes no stale entry. `witness` is an
    independent program that shows the same, as a path below conformance/witnesses/ with its
    arguments.
    """

    clauses: tuple[str, ...]
    seen: str
    reason: str
    checks: tuple[str, ...] = ()
    lost: bool = False
    sometimes: bool = False
    witness: str | None = None

    def is_of(self, check: str) -> bool:
        """Whether the deviation is expected of a check, by its name."""
        return not self.checks or check in self.checks or check.partition("[")[0] in self.checks


@dataclass(frozen=True)
class Baseline:
    """The known deviations of one target, in the order of the file."""

    source: str
    deviations: tuple[KnownDeviation, ...]
    _by_clause: Mapping[str, list[KnownDeviation]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_clause: dict[str, list[KnownDeviation]] = {}
        for entry in self.deviations:
            for clause in entry.clauses:
                for id in (clause, *catalogue.twin_ids(clause)):
                    by_clause.setdefault(id, []).append(entry)
        object.__setattr__(self, "_by_clause", by_clause)

    @classmethod
    def load(cls, source: str | Path) -> Baseline:
        """Read a baseline.

        Args:
            source: a path, or the name of a baseline of this package, such as "linux". A text is a
                path when it has a slash or ends in `.toml`.

        Raises:
            BaselineError: no such baseline, or one with a fault; the message has file, entry, key
                and the nearest accepted word, a line for each fault.
        """
        document, path, owned = _read(source)
        # What its tests have found faultless is not looked at again: that reads the page of every clause in it,
        # which takes longer than many a run.
        if not owned and (problems := list(_problems_of(document, path, owned))):
            raise BaselineError(problems)
        return cls(str(source), tuple(map(_entry, document.get("deviation", ()))))

    def known(self, clause: str, check: str = "") -> KnownDeviation | None:
        """The entry for a clause or for a twin of it; None: its deviation would be news.

        Args:
            clause: an id.
            check: the name of the test that proves it; without it only an entry for every check of
                the clause counts.
        """
        entries = self._by_clause.get(clause, ())
        return next((entry for entry in entries if entry.is_of(check)), None)


def names() -> tuple[str, ...]:
    """The baselines of this package."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in FOLDER.glob("*.toml")))


def problems_of(source: str | Path) -> list[str]:
    """Check every entry of a baseline, also of one of this package.

    Returns:
        One line for each fault, as in BaselineError.

    Raises:
        BaselineError: no such baseline, or no TOML.
    """
    return list(_problems_of(*_read(source)))


def _read(source: str | Path) -> tuple[dict[str, Any], str, bool]:
    """A baseline's document, its path, and whether it is this package's own."""
    path, owned = _path_of(source)
    try:
        return read_toml(path), str(path), owned
    except OSError as error:
        raise BaselineError([f"{path}: {error.strerror}"]) from None
    except ValueError as error:
        raise BaselineError([f"{path}: {error}"]) from None


def _path_of(source: str | Path) -> tuple[Path, bool]:
    """The file, and whether it is this package's own."""
    if isinstance(source, Path) or "/" in source or source.endswith(".toml"):
        return Path(source), False
    if source not in names():
        raise BaselineError([f"no baseline {source!r}{hint(source, names())}, or a path.toml"])
    return FOLDER / f"{source}.toml", True


def _entry(table: Mapping[str, Any]) -> KnownDeviation:
    """An entry of a file that has no fault."""
    values = dict(table)
    clauses = values.pop("clauses", None) or [values.pop("clause")]
    checks = values.pop("checks", ())
    return KnownDeviation(clauses=tuple(clauses), checks=tuple(checks), **values)


def _problems_of(document: Mapping[str, Any], path: str, owned: bool) -> Iterator[str]:
    for key in document:
        if key != "deviation":
            yield f"{path}: unknown table {key!r}; accepted: deviation"
    entries = document.get("deviation", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        yield f"{path}: deviation must be a list of tables: [[deviation]]"
        return
    listed: dict[tuple[str, str], str] = {}  # a clause or twin, and a check of it -> what lists it
    for number, entry in enumerate(entries, start=1):
        ids = _clauses_of(entry)
        where = f"{path}: {ids[0] if ids else f'deviation {number}'}"
        yield from _problems_of_entry(entry, where, owned)
        for id in ids:
            try:
                catalogue.clause(id)
            except catalogue.UnknownClause as error:
                yield f"{where}: clause: {error}"
                continue
            yield from _listed_before(id, _texts(entry.get("checks")), listed, path)


def _problems_of_entry(entry: Mapping[str, Any], where: str, owned: bool) -> Iterator[str]:
    keys = {
        "clause": Key(str, needed="clauses" not in entry),
        "clauses": Key(list, needed=False),
        "checks": Key(list, needed=False),
        "seen": Key(str),
        "reason": Key(str),
        "lost": Key(bool, needed=False),
        "sometimes": Key(bool, needed=False),
        "witness": Key(str, needed=owned),  # what we say of others, anyone must be able to confirm
    }
    yield from problems_of_table(entry, keys, where)
    if "clause" in entry and "clauses" in entry:
        yield f"{where}: has both clause and clauses; one clause or a list of them"
    for key in ("clauses", "checks"):
        if entry.get(key) == []:
            yield f"{where}: {key} must not be empty"
    witness = entry.get("witness")
    if isinstance(witness, str) and witness.strip() and not _lies_below(witness.split()[0]):
        yield f"{where}: witness must be a path below conformance/witnesses/, not {witness!r}"


def _clauses_of(entry: Mapping[str, Any]) -> list[str]:
    one = entry.get("clause")
    return [one] if isinstance(one, str) else _texts(entry.get("clauses"))


def _texts(value: object) -> list[str]:
    return [text for text in value if isinstance(text, str)] if isinstance(value, list) else []


def _listed_before(
    id: str, checks: list[str], listed: dict[tuple[str, str], str], path: str
) -> Iterator[str]:
    """Two entries for one check of one clause could not both be what is known of it."""
    every = ""  # stands for all checks of a clause
    for check in checks or [every]:
        before = listed.get((id, check)) or listed.get((id, every))
        if before is None and check is every:
            before = next((by for (one, _), by in listed.items() if one == id), None)
        if before:
            same = "" if before == id else f" as its twin {before}"
            yield f"{path}: {id}: clause stands twice{same}{f' for {check}' if check else ''}"
        for other in (id, *catalogue.twin_ids(id)):
            listed.setdefault((other, check), id)


def _lies_below(witness: str) -> bool:
    path = PurePosixPath(witness)
    return not path.is_absolute() and ".." not in path.parts
