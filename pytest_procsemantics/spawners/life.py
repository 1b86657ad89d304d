"""What runs in a child: the callable, and a fixed end that is the same for all primitives.

A child never comes back to the frames of its parent: nothing of pytest runs in it, no teardown, no report, no handler
of atexit that its parent registered. The end, in this order: the outcome is written, what the callable itself
registered with atexit runs, coverage saves its data, sys's streams and C's are flushed, and the process leaves by _exit.
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
from os import _exit, getpid, pread, write
from sys import modules
from typing import Any, NoReturn

from pytest_procsemantics.spawners import outcomes, streams, way_back
from pytest_procsemantics.spawners.streams import flush_all, take_over
from pytest_procsemantics.spawners.way_back import NOTE_NOTHING, NOTE_RUNS

FAILED = 1  # exit status where an exception ended the callable

own: int | None = None  # the way back of the process that this is, if it is a child

# What a child puts back: names of a module, one of them, its default. In a child code runs cold, and an attribute of a
# module costs it three pages more than a name in a dictionary.
HOOKS = (
    (vars(sys), "excepthook", sys.__excepthook__),
    (vars(sys), "unraisablehook", sys.__unraisablehook__),
    (vars(threading), "excepthook", threading.__excepthook__),
)
WARNINGS = vars(warnings)


class Life:
    """One child's run of its callable, from its first step to its end.

    Args:
        back: descriptor of the way back.
        parent: pid of the process that has it too.
    """

    __slots__ = ("back", "code", "parent", "pid")

    def __init__(self, back: int, parent: int) -> None:
        self.back = back
        self.code = FAILED
        self.parent = parent
        self.pid = getpid()

    def live(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        out: int,
        err: int,
        shares_files: bool,
    ) -> NoReturn:
        """Do all of it, and end the process.

        Args:
            function, args, kwargs: the call.
            out, err: where standard output and error go; below 0: where the parent's go.
            shares_files: the parent has the same table of descriptors.
        """
        global own
        try:
            own = self.back
            write(own, NOTE_RUNS)
            # What is garbage in the parent is for the parent to finalise.
            freeze()
            # To free what was there would cost pages as well.
            kept = [WARNINGS["showwarning"]]
            for names, name, default in HOOKS:
                kept += (names[name],)
                names[name] = default
            WARNINGS["showwarning"] = self._warned
            if out < 0:
                streams.send_home(self._tell)
            else:
                take_over(out, err, shares_files)
            register(self._leave)
            try:
                value = function(*args, **kwargs)
            except BaseException as error:
                self._failed(error)
            else:
                self.code = 0
                if value is not None:
                    self._tell(*outcomes.returned(value))
                elif getpid() == self.pid:
                    write(self._way_back(), NOTE_NOTHING)
            # They run newest first, so that before those of the parent it is the turn of the one that ends the process.
            _run_exitfuncs()
        finally:
            self._leave()

    def _failed(self, error: BaseException) -> None:
        trace = error.__traceback__ and error.__traceback__.tb_next
        if isinstance(error, SystemExit):
            self.code = outcomes.exit_code(error)
        elif getpid() != self.pid:
            sys.stderr.write(outcomes.full_text(error, trace))
        self._tell(*outcomes.raised(error, trace))

    def _leave(self) -> NoReturn:
        try:
            try:
                if "coverage" in modules:
                    save_coverage()
            finally:
                flush_all()
        finally:
            _exit(self.code)

    def _warned(
        self,
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
        self._tell(way_back.WARNED, content)

    def _tell(self, kind: bytes, payload: bytes) -> None:
        # A child that the callable made for itself, and that came back from it, has no say.
        if getpid() != self.pid:
            return
        try:
            way_back.append(self._way_back(), kind, payload)
        except OSError as error:
            text = f"{len(payload)} bytes can't be sent back: {outcomes.headline(error)}"
            way_back.replace(self._way_back(), way_back.STUCK, text.encode())

    def _way_back(self) -> int:
        """The descriptor of the way back, opened anew if the callable closed it."""
        try:
            if pread(self.back, len(NOTE_RUNS), 0) == NOTE_RUNS:
                return self.back
        except OSError:  # closed, or by now a pipe
            pass
        self.back = os.open(f"/proc/{self.parent}/fd/{self.back}", os.O_RDWR | os.O_APPEND)
        return self.back


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
