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
    """One entry: `clause` is not kept, `seen` happens instead.

    `witness` is an independent program that shows the same, as a path below conformance/witnesses/.
    """

    clause: str
    seen: str
    reason: str
    witness: str | None = None


@dataclass(frozen=True)
class Baseline:
    """The known deviations of one target, in the order of the file."""

    source: str
    deviations: tuple[KnownDeviation, ...]
    _by_clause: Mapping[str, KnownDeviation] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_clause = {
            id: entry
            for entry in self.deviations
            for id in (entry.clause, *catalogue.twin_ids(entry.clause))
        }
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
        path, owned = _path_of(source)
        try:
            document = read_toml(path)
        except OSError as error:
            raise BaselineError([f"{path}: {error.strerror}"]) from None
        except ValueError as error:
            raise BaselineError([f"{path}: {error}"]) from None
        if problems := list(_problems_of(document, str(path), owned)):
            raise BaselineError(problems)
        entries = document.get("deviation", [])
        assert isinstance(entries, list)  # seen to by _problems_of
        return cls(str(source), tuple(KnownDeviation(**entry) for entry in entries))

    def known(self, clause: str) -> KnownDeviation | None:
        """The entry for a clause or for a twin of it; None: its deviation would be news."""
        return self._by_clause.get(clause)


def names() -> tuple[str, ...]:
    """The baselines of this package."""
    return tuple(sorted(path.name.removesuffix(".toml") for path in FOLDER.glob("*.toml")))


def _path_of(source: str | Path) -> tuple[Path, bool]:
    """The file, and whether it is this package's own."""
    if isinstance(source, Path) or "/" in source or source.endswith(".toml"):
        return Path(source), False
    if source not in names():
        raise BaselineError([f"no baseline {source!r}{hint(source, names())}, or a path.toml"])
    return FOLDER / f"{source}.toml", True


def _problems_of(document: Mapping[str, Any], path: str, owned: bool) -> Iterator[str]:
    keys = {
        "clause": Key(str),
        "seen": Key(str),
        "reason": Key(str),
        "witness": Key(str, needed=owned),  # what we say of Linux, anyone must be able to confirm
    }
    for key in document:
        if key != "deviation":
            yield f"{path}: unknown table {key!r}; accepted: deviation"
    entries = document.get("deviation", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        yield f"{path}: deviation must be a list of tables: [[deviation]]"
        return
    listed: dict[str, str] = {}  # a clause or twin -> the entry that has it
    for number, entry in enumerate(entries, start=1):
        id = entry.get("clause")
        where = f"{path}: {id if isinstance(id, str) else f'deviation {number}'}"
        yield from problems_of_table(entry, keys, where)
        witness = entry.get("witness")
        if isinstance(witness, str) and not _lies_below(witness):
            yield f"{where}: witness must be a path below conformance/witnesses/, not {witness!r}"
        if not isinstance(id, str):
            continue
        try:
            catalogue.clause(id)
        except catalogue.UnknownClause as error:
            yield f"{where}: clause: {error}"
            continue
        if id in listed:
            same = "" if listed[id] == id else f" as its twin {listed[id]}"
            yield f"{where}: clause stands twice{same}"
        for other in (id, *catalogue.twin_ids(id)):
            listed.setdefault(other, id)


def _lies_below(witness: str) -> bool:
    path = PurePosixPath(witness)
    return not path.is_absolute() and ".." not in path.parts
