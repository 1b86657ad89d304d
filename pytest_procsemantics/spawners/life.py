"""What runs in a child: the callable, and a fixed end that is the same for all primitives.

A child never comes back to the frames of its parent: nothing of pytest runs in it, no teardown, no report, no handler
of atexit that its parent registered. The end, in this order: the outcome is written, what the callable itself
registered with atexit runs, coverage saves its data, sys's streams and C's are flushed, and the process leaves by _exit.

Each page that a child writes to costs a fault after the fork, if only for a reference count, and a child's code always
runs cold: to make an object of a class, and to set its attributes, costs twenty. So what is known of a process's life
is a variable of this module, and names of other modules are set in their dictionaries.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import warnings
from atexit import _run_exitfuncs, register
from collections.abc import Callable, Mapping
from gc import freeze
from os import _exit, getpid, write
from sys import modules
from typing import Any, NoReturn

from pytest_procsemantics.spawners import outcomes, streams, way_back
from pytest_procsemantics.spawners.streams import SYS, flush_all, take_over
from pytest_procsemantics.spawners.way_back import NOTE_NOTHING, NOTE_RUNS

if sys.platform != "win32":
    from os import pread

FAILED = 1  # exit status where an exception ended the callable
NOTE_SIZE = len(NOTE_RUNS)

THREADING, WARNINGS = vars(threading), vars(warnings)
EXCEPTHOOK, UNRAISABLEHOOK = sys.__excepthook__, sys.__unraisablehook__
THREAD_EXCEPTHOOK = threading.__excepthook__

# Of the process that this is, if it is a child, or the callable made it: the descriptor of the way back, the child's
# pid, and that of the process that has the way back too.
own: tuple[int, int, int] | None = None
_code = FAILED  # exit status to be


def live(
    back: int,
    parent: int,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    out: int,
    err: int,
    shares_files: bool,
) -> NoReturn:
    """In a child: do all of it, and end the process.

    Args:
        back: descriptor of the way back.
        parent: pid of the process that has it too.
        function, args, kwargs: the call.
        out, err: where standard output and error go; below 0: where the parent's go.
        shares_files: the parent has the same table of descriptors.
    """
    global own, _code
    pid = getpid()
    try:
        own, _code = (back, pid, parent), FAILED
        write(back, NOTE_RUNS)
        # What is garbage in the parent is for the parent to finalise.
        freeze()
        # Kept, for to free them would cost pages too.
        _kept = THREADING["excepthook"], WARNINGS["showwarning"]
        SYS["excepthook"], SYS["unraisablehook"] = EXCEPTHOOK, UNRAISABLEHOOK
        THREADING["excepthook"], WARNINGS["showwarning"] = THREAD_EXCEPTHOOK, _warned
        if out < 0:
            streams.send_home(_tell)
        else:
            take_over(out, err, shares_files)
        register(_leave)
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            _failed(error)
        else:
            _code = 0
            if value is not None:
                _tell(*outcomes.returned(value))
            elif getpid() == pid:
                write(_way_back(), NOTE_NOTHING)
        # They run newest first, so that before those of the parent it is the turn of the one that ends the process.
        _run_exitfuncs()
    finally:
        _leave()


def _failed(error: BaseException) -> None:
    global _code
    trace = error.__traceback__ and error.__traceback__.tb_next
    if isinstance(error, SystemExit):
        _code = outcomes.exit_code(error)
    elif not _is_itself():
        sys.stderr.write(outcomes.full_text(error, trace))
    _tell(*outcomes.raised(error, trace))


def _is_itself() -> bool:
    """Whether this process is the child, and not one that the callable made, and that came back from it."""
    return own is not None and getpid() == own[1]


def _leave() -> NoReturn:
    try:
        try:
            if "coverage" in modules:
                save_coverage()
        finally:
            flush_all()
    finally:
        _exit(_code)


def _warned(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """Stands in for warnings.showwarning: the report is the parent's."""
    try:
        content = way_back.dumps((message, category, filename, lineno))
        pickle.loads(content)
    except Exception:
        text = f"{outcomes.type_name(category)}: {message}"
        content = way_back.dumps((text, UserWarning, filename, lineno))
    _tell(way_back.WARNED, content)


def _tell(kind: bytes, payload: bytes) -> None:
    if not _is_itself():
        return
    try:
        way_back.append(_way_back(), kind, payload)
    except OSError as error:
        text = f"{len(payload)} bytes can't be sent back: {outcomes.headline(error)}"
        way_back.replace(_way_back(), way_back.STUCK, text.encode())


def _way_back() -> int:
    """The descriptor of the way back, opened anew if the callable closed it."""
    global own
    assert own is not None
    back, pid, parent = own
    try:
        if pread(back, NOTE_SIZE, 0) == NOTE_RUNS:
            return back
    except OSError:  # closed, or by now a pipe
        pass
    back = os.open(f"/proc/{parent}/fd/{back}", os.O_RDWR | os.O_APPEND)
    own = back, pid, parent
    return back


def save_coverage() -> None:
    """Save what this process ran, if it is measured; in a child coverage takes a file of its own."""
    measuring = getattr(sys.modules["coverage"], "Coverage", None)
    current = measuring and measuring.current()
    if current is not None:
        with warnings.catch_warnings():
            # That nothing was measured is news in the parent only.
            warnings.simplefilter("ignore")
            current.stop()
            current.save()
