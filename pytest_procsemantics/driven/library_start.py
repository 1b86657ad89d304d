"""The start of the library program in a driven process: the file, the exec, and where its memory lies."""

from __future__ import annotations

import functools
import struct

from pytest_procsemantics import native
from pytest_procsemantics.driven import wire
from pytest_procsemantics.driven.constants import AT_FDCWD, errno_name
from pytest_procsemantics.driven.errors import CallFailed, Ended, Unsupported
from pytest_procsemantics.driven.process import Exit, Process
from pytest_procsemantics.driven.program import Texts

TABLE = struct.Struct("<7Q")  # struct table of native/frames.h


class Program:
    """One image of the library program, and what is known of its memory; children by fork have the same."""

    def __init__(self, table: bytes) -> None:
        numbers = TABLE.unpack(table)
        self.data_address, self.room_size, self.lookup, self.begin_thread = numbers[:4]
        self.handlers, self.acts, self.notes = numbers[4:]
        self.symbols: dict[str, int] = {}


def start_library(process: Process, envp: Texts = ()) -> Process:
    """Replace the image of a process by the library program.

    Args:
        process: stays driven under the same pid; `lib` has the functions then.
        envp: "NAME=value" texts, its environment.

    Returns:
        The process.

    Raises:
        Unsupported: there is no such program for the target's machine, or it does not run there.
    """
    __tracebackhide__ = True
    if reason := why_no_library(process, envp):
        raise Unsupported(f"libc ({reason})")
    return process


def why_no_library(process: Process, envp: Texts = ()) -> str | None:
    """As start_library, but gives the reason where it can't be."""
    target = process.target
    try:
        image = _image(target.machine)
    except native.BuildFailed as error:
        return f"no helper program: {error}"
    try:
        path = f"{target.folder()}/library"
        if not _is_there(process, path):
            process.make_file(path, image, 0o755)
        process.execve(path, envp=envp)
    except CallFailed as error:
        return f"{error.call} for the helper program: {errno_name(error.errno or 0)}"
    except Unsupported:
        return target.image_problem
    except Ended:
        status = process.status
        return f"the helper program: {'ended' if status is None else Exit.of_status(status)}"
    step = process.ask(
        wire.Request.FUNCTION,
        "table",
        (),
        (),
        number=wire.OwnFunction.TELL_TABLE,
        out=TABLE.size,
        data=bytes(TABLE.size),
        decode=lambda _, data: Program(data),
    )
    process.settle(step.arrives())
    return None


@functools.cache
def _image(machine: str) -> bytes:
    return native.library(machine).read_bytes()


def _is_there(process: Process, path: str) -> bool:
    try:
        process.sys.raw("faccessat", AT_FDCWD, path, 0)
    except CallFailed:
        return False
    return True
