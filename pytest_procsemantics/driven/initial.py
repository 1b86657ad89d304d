"""What a new image finds at its first stack pointer: argc, argv, 0, envp, 0, auxiliary vector, 0.

The strings lie above, up to the end of the stack. All of it is the target's word: a number there is
used only as an address to read from, and each list has an end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_procsemantics.driven.constants import AT_EXECFN
from pytest_procsemantics.driven.errors import Deviation

if TYPE_CHECKING:
    from pytest_procsemantics.driven.process import Process

WORD = 8  # bytes
MOST_WORDS = 1 << 21  # more than the 6 MiB of strings that Linux passes have pointers
MOST_BYTES = 1 << 23  # of one string


@dataclass(frozen=True)
class Initial:
    """Arguments, environment and auxiliary vector as the kernel passed them.

    Attributes:
        argc: the first word.
        argv: the argument strings up to the first null pointer.
        envp: the environment strings.
        auxv: values by type, AT_PAGESZ and so on (getauxval(3)).
        execfn: the name by which the program was run, to which AT_EXECFN leads; None: not told.
    """

    argc: int
    argv: list[bytes]
    envp: list[bytes]
    auxv: dict[int, int]
    execfn: bytes | None


def read_initial(process: Process) -> Initial:
    """Read the first stack of a process's present image.

    Raises:
        CallFailed, Deviation: there is none.
    """
    __tracebackhide__ = True
    words = _words(process, process.stack_pointer)
    argc = next(words)
    argv = _until_null(words)
    envp = _until_null(words)
    auxv = {}
    while kind := next(words):
        auxv[kind] = next(words)
    pages: dict[int, bytes] = {}
    name = auxv.get(AT_EXECFN)
    return Initial(
        argc,
        [_string(process, address, pages) for address in argv],
        [_string(process, address, pages) for address in envp],
        auxv,
        None if name is None else _string(process, name, pages),
    )


def _words(process: Process, start: int) -> Iterator[int]:
    """The words from an address on, read page by page: the next one may not be there."""
    if start % WORD:
        raise Deviation(f"no initial stack of {process}: {start:#x} is no address of a word")
    size = process.target.page_size
    end = start + MOST_WORDS * WORD
    while start < end:
        length = size - start % size
        for (word,) in struct.iter_unpack("<Q", process.load_bytes(start, length)):
            yield word
        start += length
    raise Deviation(f"no initial stack of {process}: {MOST_WORDS} words and no end")


def _until_null(words: Iterator[int]) -> list[int]:
    return list(iter(lambda: next(words), 0))


def _string(process: Process, start: int, pages: dict[int, bytes]) -> bytes:
    size = process.target.page_size
    found = b""
    while len(found) < MOST_BYTES:
        page, at = divmod(start + len(found), size)
        if page not in pages:
            pages[page] = process.load_bytes(page * size, size)
        text, end, _ = pages[page][at:].partition(b"\0")
        found += text
        if end:
            return found
    raise Deviation(f"a string of {process} without an end")
