"""What runs in a child: the callable, and a fixed end that is the same for all primitives.

A child never comes back to the frames of its parent: nothing of pytest runs in it, no teardown, no report, no handler
of atexit that its parent registered. The end, in this order: the outcome is written, what the callable itself
registered with atexit runs, sys's streams and C's are flushed, and the process leaves by _exit.
"""

from __future__ import annotations

import atexit
import gc
import os
import pickle
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from os import _exit, getpid
from typing import Any, NoReturn

from pytest_procsemantics.spawners import hang, outcomes, streams, way_back
from pytest_procsemantics.spawners.streams import Output

FAILED = 1  # exit status where an exception ended the callable


class Life:
    """One child's run of its callable; made by the parent, lived in the child.

    Args:
        function, args, kwargs: the call.
        back: descriptor of the way back.
        output: where standard output and error go; None: where the parent's go.
    """

    __slots__ = ("args", "back", "code", "function", "kwargs", "output", "parent", "pid")

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        back: int,
        output: Output | None,
    ) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs
        self.back = back
        self.output = output
        self.code = FAILED
        self.parent = self.pid = getpid()

    def live(self) -> NoReturn:
        """Do all of it, and end the process."""
        try:
            os.write(self.back, way_back.NOTE_RUNS)
            self._settle()
            self._call()
            # They run newest first, so that before those of the parent it is the turn of the one that ends the process.
            atexit._run_exitfuncs()
        finally:
            self._leave()

    def _settle(self) -> None:
        """Part with what is the parent's own."""
        self.pid = getpid()
        # What is garbage in the parent is for the parent to finalise.
        gc.freeze()
        sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
        threading.excepthook = threading.__excepthook__
        hang.listen(self.back)
        warnings.showwarning = self._warned
        if self.output is not None:
            self.output.take_over()
        else:
            streams.send_home(self._tell)
        atexit.register(self._leave)

    def _call(self) -> None:
        try:
            value = self.function(*self.args, **self.kwargs)
        except BaseException as error:
            self._failed(error)
        else:
            self.code = 0
            self._tell(*outcomes.returned(value))

    def _failed(self, error: BaseException) -> None:
        trace = error.__traceback__ and error.__traceback__.tb_next
        if isinstance(error, SystemExit):
            self.code = outcomes.exit_code(error)
        elif getpid() != self.pid:
            sys.stderr.write(outcomes.full_text(error, trace))
        self._tell(*outcomes.raised(error, trace))

    def _leave(self) -> NoReturn:
        try:
            streams.flush_all()
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
        if (
            getpid() != self.pid
        ):  # a child that the callable made for itself, and that came back from it
            return
        try:
            way_back.append(self._way_back(), kind, payload)
        except OSError as error:
            text = f"{len(payload)} bytes can't be sent back: {outcomes.headline(error)}"
            way_back.replace(self._way_back(), way_back.STUCK, text.encode())

    def _way_back(self) -> int:
        """The descriptor of the way back, opened anew if the callable closed it."""
        begin = way_back.NOTE_RUNS
        try:
            if os.pread(self.back, len(begin), 0) == begin:
                return self.back
        except OSError:  # closed, or by now a pipe
            pass
        self.back = os.open(f"/proc/{self.parent}/fd/{self.back}", os.O_RDWR | os.O_APPEND)
        return self.back
