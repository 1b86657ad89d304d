"""The way back from a child to its parent: a file in memory, to which the child appends records.

A file and no pipe: a child never waits for a reader, whatever the size, and a descriptor that a grandchild holds
delays nobody. Between the records stands what faulthandler writes there when it is asked for the stacks.
"""

from __future__ import annotations

import errno
import os
import pickle
import struct
from collections.abc import Callable
from typing import Any

PROTOCOL = pickle.HIGHEST_PROTOCOL
HEADER = struct.Struct("<4sQ")  # kind, bytes of payload

# The kinds begin with a byte that no text of faulthandler has.
RUNS = b"\0run"  # the fork hooks are done, the callable begins
NOTHING = b"\0nil"  # it returned None
RETURNED = b"\0ret"  # pickled value
RAISED = b"\0exc"  # pickled (text of the traceback, last line of it, pickled exception or None)
SAID = b"\0say"  # pickled (skip, fail, xfail or exit; message; keyword arguments)
LEFT = b"\0end"  # text of a SystemExit
STUCK = b"\0bad"  # why the value can't be sent
WARNED = b"\0wrn"  # pickled arguments for warnings.showwarning
PRINTED = {1: b"\0out", 2: b"\0err"}  # text for the parent's own sys.stdout, sys.stderr
OUTCOMES = frozenset((NOTHING, RETURNED, RAISED, SAID, LEFT, STUCK))

NOTE_RUNS, NOTE_NOTHING = HEADER.pack(RUNS, 0), HEADER.pack(NOTHING, 0)
NOTHING_BUT_NONE = NOTE_RUNS + NOTE_NOTHING
LAST_STANDARD = 2  # descriptor of standard error
# Bytes that one read takes: Python has such an object in a pool, a larger one costs pages.
AT_ONCE = 400

FORK_HOOKS, CALLABLE, ENDING = "fork hooks", "callable", "ending"


def _without_a_name(name: str) -> int:
    import tempfile

    descriptor, path = tempfile.mkstemp(prefix=f"procsem-{name}-")
    os.unlink(path)
    return descriptor


_create: Callable[[str], int] = getattr(os, "memfd_create", _without_a_name)


def new_file(name: str) -> int:
    """A descriptor of a fresh file that has no name in any folder."""
    descriptor = _create(name)
    return descriptor if descriptor > LAST_STANDARD else _moved(descriptor)


def _moved(descriptor: int) -> int:
    """Out of the way of the child's standard streams, where the parent has closed one of its own."""
    import fcntl

    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, LAST_STANDARD + 1)
    finally:
        os.close(descriptor)


def append(descriptor: int, kind: bytes, payload: bytes | bytearray | memoryview = b"") -> None:
    """Append one record.

    Raises:
        OSError: the descriptor is closed, or a limit on the size of files holds here too.
    """
    rest = memoryview(payload)
    done = os.writev(descriptor, (HEADER.pack(kind, len(rest)), rest)) - HEADER.size
    if done < 0:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
    while done < len(rest):
        done += os.write(descriptor, rest[done:])


def replace(descriptor: int, kind: bytes, payload: bytes) -> None:
    """Append one record where another one did not fit."""
    content = read(descriptor)
    whole = Records.parse(content).size
    os.ftruncate(descriptor, whole)
    os.lseek(descriptor, whole, os.SEEK_SET)
    append(descriptor, kind, payload)


class Records:
    """What has come back so far.

    Attributes:
        kind, payload: of the last outcome; kind is None while there is none.
        others: the records that are no outcome, in order.
        stray: what stands between the records: stacks that faulthandler wrote.
        phase: what the child was in when it last wrote.
        size: bytes up to the end of the last whole record.
    """

    __slots__ = ("kind", "others", "payload", "phase", "size", "stray")

    def __init__(self) -> None:
        self.kind: bytes | None = None
        self.payload: memoryview | bytes = b""
        self.others: list[tuple[bytes, bytes]] = []
        self.stray = b""
        self.phase = FORK_HOOKS
        self.size = 0

    @classmethod
    def parse(cls, content: bytes) -> Records:
        """Read records; one that the child did not finish is left out."""
        found, at = cls(), 0
        view = memoryview(content)
        while at < len(content):
            if content[at]:
                end = content.find(b"\0", at)
                end = len(content) if end < 0 else end
                found.stray += content[at:end]
                at = end
                continue
            if at + HEADER.size > len(content):
                break
            kind, length = HEADER.unpack_from(content, at)
            begin = at + HEADER.size
            at = begin + length
            if at > len(content):
                break
            found.size = at
            if kind in OUTCOMES:
                found.kind, found.payload, found.phase = kind, view[begin:at], ENDING
            elif kind == RUNS:
                found.phase = CALLABLE
            else:
                found.others.append((kind, content[begin:at]))
        return found


def read(descriptor: int, begin: int = 0) -> bytes:
    """The file's content from an offset on, without moving the offset that the child writes at."""
    content = os.pread(descriptor, AT_ONCE, begin)
    if len(content) < AT_ONCE:
        return content
    parts, size = [], os.fstat(descriptor).st_size
    while begin < size and (content := os.pread(descriptor, size - begin, begin)):
        parts.append(content)
        begin += len(content)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def dumps(value: Any) -> bytes:
    return pickle.dumps(value, PROTOCOL)
