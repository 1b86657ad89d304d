"""What every probe uses: the failure with a reason, and looks at the target's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pytest_procsemantics.driven import Observer, Process
from pytest_procsemantics.driven.constants import AT_FDCWD, errno_name, signal_name
from pytest_procsemantics.driven.errors import CallFailed, Unsupported
from pytest_procsemantics.driven.process import Exit


class Lacking(Exception):
    """What a word asks for is not there; the message is the reason."""


def errno_of(error: CallFailed) -> str:
    """The name of the errno that a call gave."""
    return errno_name(error.errno or 0)


def end_of(process: Process) -> str:
    """How a process ended, as far as the hub knows."""
    if process.status is None:
        return "ended"
    end = Exit.of_status(process.status)
    return (
        f"exited with {end.code}" if end.signal is None else f"killed by {signal_name(end.signal)}"
    )


@contextmanager
def _lacking(path: str) -> Iterator[None]:
    try:
        yield
    except Unsupported as error:
        raise Lacking(", ".join(error.missing)) from error
    except CallFailed as error:
        raise Lacking(f"{path}: {errno_of(error)}") from error


def read(process: Process, path: str) -> bytes:
    """A file of the target.

    Raises:
        Lacking: it can't be read; the reason names it.
    """
    with _lacking(path):
        return Observer(process).read(path)


def expect_file(process: Process, path: str, mode: int = 0) -> None:
    """Ask for a file of the target, in the modes of access(2).

    Raises:
        Lacking: there is none, or it doesn't allow that; the reason names it.
    """
    with _lacking(path):
        process.sys.raw("faccessat", AT_FDCWD, path, mode)
