"""One system call as the driver makes it: name, arguments, and how its outcome becomes a value.

Memory comes back from the target and is not trusted: `call` gives a Call whose decode first
compares its count and lengths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class BadAnswer(Exception):
    """The target's answer to a call can't be what it claims to be: memory of another length, a
    count beyond the buffer.
    """


@dataclass(frozen=True, slots=True)
class Out:
    """Memory that a call fills: `size` bytes, zero or as given by `initial`.

    What it holds after the call comes back to the test.

    Raises:
        ValueError: `initial` is longer than `size`.
    """

    size: int
    initial: bytes = b""

    def __post_init__(self) -> None:
        if self.size < len(self.initial):
            raise ValueError(
                f"Out: {len(self.initial)} initial bytes don't fit in a size of {self.size}"
            )


Argument = int | bytes | Out
Decode = Callable[[int, tuple[bytes, ...]], object]


@dataclass(frozen=True, slots=True)
class Call:
    """A system call with its arguments, of which bytes and Out are passed by address.

    `decode` gets the result, which is no error, and the bytes of each Out in their order.
    """

    name: str
    args: tuple[Argument, ...]
    decode: Decode


def number(result: int, memory: tuple[bytes, ...]) -> object:
    """The result as it is."""
    return result


def call(name: str, *args: Argument | None, decode: Decode = number) -> Call:
    """Make a Call; None is a null pointer, and what comes back is compared with the Outs first.

    Raises:
        BadAnswer: (from decode) the memory isn't what the Outs asked for.
    """
    given = tuple(0 if argument is None else argument for argument in args)
    sizes = [argument.size for argument in given if isinstance(argument, Out)]
    if not sizes:
        return Call(name, given, decode)

    def checked(result: int, memory: tuple[bytes, ...]) -> object:
        lengths = [len(part) for part in memory]
        if lengths != sizes:
            raise BadAnswer(f"{name}: expected memory of {sizes} bytes, the target gave {lengths}")
        return decode(result, memory)

    return Call(name, given, checked)


def counted(name: str, result: int, memory: bytes) -> bytes:
    """The first `result` bytes of `memory`.

    Raises:
        BadAnswer: the target claims more bytes than the buffer has.
    """
    if not 0 <= result <= len(memory):
        raise BadAnswer(f"{name}: expected at most {len(memory)} bytes, the target claims {result}")
    return memory[:result]
