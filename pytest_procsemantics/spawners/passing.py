"""Descriptors on their way to a new program, each to the number that it has there.

Here they lie above all of these numbers, so that in whatever order they are put into place none is overwritten first.
"""

from __future__ import annotations

import fcntl
import os
import resource
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

from pytest_procsemantics.spawners.streams import ERR
from pytest_procsemantics.spawners.way_back import new_file

if TYPE_CHECKING:
    from typing_extensions import Self


class HasFileno(Protocol):
    """An open file, or what else has a descriptor."""

    def fileno(self) -> int: ...


Descriptor = int | HasFileno


class Passing:
    """What one program gets; a context manager that closes the copies made for it.

    Args:
        primitive: for messages.
        fds: what the test passes on, by the number that it is to have.

    Attributes:
        pairs: a descriptor here, and its number there.
    """

    def __init__(self, primitive: str, fds: Mapping[int, Descriptor]) -> None:
        self._primitive = primitive
        self.pairs: list[tuple[int, int]] = []
        self._copies: list[int] = []
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        for number in fds:
            if not ERR < number < limit:
                raise ValueError(
                    f"{primitive}: fds[{number!r}] is no descriptor to choose; accepted: {ERR + 1} to {limit - 1};"
                    " stdin, stdout and stderr have words of their own"
                )
        self._floor = max((ERR, *fds)) + 1
        try:
            for number, descriptor in fds.items():
                self.give(f"fds[{number}]", descriptor, number)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        while self._copies:
            with suppress(OSError):
                os.close(self._copies.pop())

    def give(self, what: str, descriptor: Descriptor, number: int) -> None:
        """Pass a descriptor on.

        Args:
            what: its name, for messages.
            descriptor: the one here; it stays the caller's.
            number: of the one there.
        """
        source = descriptor if isinstance(descriptor, int) else descriptor.fileno()
        try:
            copy = self.above(source)
        except OSError as error:
            text = f"{self._primitive}: {what}: {os.strerror(error.errno or 0)}"
            raise OSError(error.errno, text) from None
        self._copies.append(copy)
        self.pairs.append((copy, number))

    def give_bytes(self, what: str, content: bytes, number: int | None = None) -> int:
        """Pass on a file that holds this, and give its number: the one asked for, or one that is free."""
        file = new_file(what)
        try:
            with open(file, "wb", closefd=False) as stream:
                stream.write(content)
            os.lseek(file, 0, os.SEEK_SET)
            if number is None:
                number = self.above(file)
                self._copies.append(number)
            self.give(what, file, number)
        finally:
            os.close(file)
        return number

    def above(self, descriptor: int) -> int:
        """A copy of a descriptor that is in nobody's way; the caller's to close."""
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, self._floor)
