"""What every form uses: the table, machines, and layouts that several calls share."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import TypeVar

from pytest_procsemantics.driven.call import Call, Decode
from pytest_procsemantics.driven.constants import DIFFERENT
from pytest_procsemantics.driven.constants.calls import NUMBERS

Form = Callable[..., Call]
Path = bytes | str | int  # an int is an address in the target
FORMS: dict[str, Form] = {}
_F = TypeVar("_F", bound=Form)

INT = struct.Struct("<i")
LONG = struct.Struct("<Q")
TWO_INTS = struct.Struct("<ii")
THREE_INTS = struct.Struct("<III")
OPEN_FLAGS = [
    name for name in DIFFERENT if name.startswith("O_") and name != "O_TMPFILE"
]  # O_TMPFILE has O_DIRECTORY's bit in it


def form(*names: str) -> Callable[[_F], _F]:
    """Enter a function into FORMS under the names of the call."""

    def enter(function: _F) -> _F:
        for name in names:
            FORMS[name] = function
        return function

    return enter


def has(machine: str, name: str) -> bool:
    """Whether a machine has a call of this name. KeyError for a machine that has no table."""
    return name in NUMBERS[machine]


def path(name: Path) -> bytes | int:
    """A path as an argument."""
    return os.fsencode(name) if isinstance(name, str) else name


def open_flags(machine: str, flags: int, back: bool = False) -> int:
    """x86_64's open flags as the machine's; `back`: the machine's as x86_64's. Bits that don't
    differ stay.
    """
    changed = 0
    rest = flags
    for name in OPEN_FLAGS:
        ours, theirs = DIFFERENT[name]["x86_64"], DIFFERENT[name][machine]
        if back:
            ours, theirs = theirs, ours
        if flags & ours:
            changed |= theirs
            rest &= ~ours
    return rest | changed


def pair(result: int, memory: tuple[bytes, ...]) -> tuple[int, int]:
    """Two ints from one piece of memory."""
    first, second = TWO_INTS.unpack(memory[0])
    return first, second


def integer(result: int, memory: tuple[bytes, ...]) -> int:
    """An int that the call wrote, instead of its result."""
    return int(INT.unpack(memory[0])[0])


def long(result: int, memory: tuple[bytes, ...]) -> int:
    """As integer, of 8 bytes without a sign."""
    return int(LONG.unpack(memory[0])[0])


def both(result: int, memory: tuple[bytes, ...]) -> tuple[int | bytes, ...]:
    """The result, then the memory as it is: what a form gives for an Out."""
    return (result, *memory)


def always(value: object) -> Decode:
    """A decode that gives `value`, whatever the result was."""
    return lambda result, memory: value
