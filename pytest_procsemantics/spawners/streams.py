"""Where a child's standard output and error go.

The streams that children print to are made once, by the parent: each object that a child makes costs it a page.
They write through: what was printed before os._exit, exec or a signal is not lost.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import sys
from collections.abc import Callable
from functools import partial
from os import dup2
from typing import Any, TextIO

from pytest_procsemantics.spawners import way_back

OUT, ERR = 1, 2
SYS = vars(sys)  # to set a name here costs fewer pages than an attribute of the module


def stdio() -> Callable[[None], int] | None:
    """The C library's fflush(3), which without a stream is about all that were written to."""
    try:
        flush = ctypes.PyDLL(None).fflush
    except (OSError, AttributeError, TypeError):  # Windows has no library of that name
        return None
    flush.argtypes, flush.restype = (ctypes.c_void_p,), ctypes.c_int
    return flush


_fflush = stdio()
_printing: dict[int, TextIO] = {}


def flush_all() -> None:
    """Write what is buffered, so that it appears once and not in a child as well."""
    last = None
    for stream in (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__):
        if stream is not None and stream is not last:
            try:
                stream.flush()
            except (AttributeError, OSError, ValueError):  # closed, or of somebody's own class
                continue
        last = stream
    if _fflush is not None:
        _fflush(None)


def printing(number: int) -> TextIO:
    """A stream of text that writes straight to a descriptor of the process that uses it."""
    # A surrogate escape gives back the bytes that a name or an argument had.
    return io.TextIOWrapper(
        io.FileIO(number, "w", closefd=False),
        encoding="utf-8",
        errors="surrogateescape",
        write_through=True,
    )


def prepare() -> None:
    """Make what children print to, where this process has the descriptors."""
    for number in (OUT, ERR):
        if number not in _printing:
            with contextlib.suppress(OSError):
                _printing[number] = printing(number)


def take_over(out: int, err: int, shares_files: bool) -> None:
    """In a child: have Python print to these files; they become descriptors 1 and 2 if those are the child's own."""
    if shares_files:
        sys.stdout, sys.stderr = printing(out), printing(err)
        return
    dup2(out, OUT)
    dup2(err, ERR)
    SYS["stdout"] = _printing.get(OUT) or printing(OUT)
    SYS["stderr"] = _printing.get(ERR) or printing(ERR)


class Home(io.TextIOBase):
    """What a child prints to instead of a stream that exists in its parent's memory only.

    Args:
        tell: sends the text of one write.
    """

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._tell = tell

    def write(self, text: str) -> int:
        self._tell(text.encode(errors="surrogateescape"))
        return len(text)

    def writable(self) -> bool:
        return True


def send_home(tell: Callable[[bytes, bytes], None]) -> None:
    """In a child whose output is not captured: have the parent print what has no descriptor (pytest's --capture=sys)."""
    for name, number in (("stdout", OUT), ("stderr", ERR)):
        if _is_in_memory(getattr(sys, name)):
            setattr(sys, name, Home(partial(tell, way_back.PRINTED[number])))


def _is_in_memory(stream: Any) -> bool:
    try:
        stream.fileno()
    except (AttributeError, OSError, ValueError):
        return stream is not None
    return False
