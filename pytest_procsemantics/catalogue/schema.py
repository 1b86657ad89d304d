"""Tables of a TOML file checked against the keys that they may have.

Problems are sentences that name the place, the key and the nearest accepted word. All of a table's
problems are found, not only the first: whoever mends a file by hand wants the whole list.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_procsemantics.catalogue.vocabulary import nearest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Key:
    """What a key of a table holds: `str` is a text that is not blank, `list` a list of texts."""

    kind: type[str | bool | list[str]]
    needed: bool = True


EXPECTED = {str: "a text that is not blank", bool: "true or false", list: "a list of texts"}


def read_toml(path: Path) -> dict[str, object]:
    """Read a TOML file.

    Raises:
        ValueError: no TOML, or no UTF-8; the message has the place in the file.
        OSError: the file can't be read.
    """
    return tomllib.loads(path.read_bytes().decode())


def problems_of_table(
    table: Mapping[str, object], keys: Mapping[str, Key], where: str
) -> Iterator[str]:
    """Yield each missing, unknown, misplaced or wrongly typed key of one table."""
    misspelt: set[str] = set()
    for name, value in table.items():
        if name not in keys:
            misspelt.update(nearest(name, keys))
            yield f"{where}: unknown key {name!r}{hint(name, keys)}"
        elif not _fits(value, keys[name].kind):
            yield f"{where}: {name} must be {EXPECTED[keys[name].kind]}, not {value!r}"
    for name, key in keys.items():
        if key.needed and name not in table and name not in misspelt:
            yield f"{where}: lacks {name}"
    present = [name for name in table if name in keys]
    if present != (expected := [name for name in keys if name in table]):
        yield f"{where}: the order of keys is {', '.join(expected)}"


def hint(word: str, words: Mapping[str, object] | tuple[str, ...]) -> str:
    """The end of a message about an unknown word: the nearest ones, or else all that exist."""
    if close := nearest(word, words):
        return f"; nearest: {', '.join(close)}"
    return f"; accepted: {', '.join(words)}"


def _fits(value: object, kind: type) -> bool:
    if kind is str:
        return isinstance(value, str) and bool(value.strip())
    if kind is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    return isinstance(value, kind)
