"""What runs in a child that has its parent's memory, and what the parent makes good after it.

The outcome is an object in the memory of both, so nothing is pickled. For the same reason all that a child's life
changes in Python is the parent's as well, and is put back by the parent: the child may have ended anywhere.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal without its wrappers, which make enums
import contextvars
import gc
import os
import signal
import sys
import threading
import time
from _thread import get_ident
from collections.abc import Callable, Mapping
from contextlib import suppress
from os import getpid
from types import FrameType, TracebackType
from typing import Any

from pytest_procsemantics.spawners import frozen, outcomes, streams
from pytest_procsemantics.spawners.life import FAILED
from pytest_procsemantics.spawners.support import CLONE_THREAD
from pytest_procsemantics.spawners.thread import Unwind
from pytest_procsemantics.spawners.way_back import CALLABLE, ENDING

SIGNALS = sorted(signal.valid_signals())
TASKS = "/proc/self/task"
FOLDERS = 2  # links of a folder beside those of the folders in it
LOOK = 0.001  # seconds between two looks whether the threads of a child have ended


class SharedLife:
    """One child's run of its callable, and what is known of it afterwards.

    Args:
        function, args, kwargs: the call.
        out, err: where standard output and error go; below 0: where the parent's go.
        shares_files: the child has the parent's own table of descriptors.
        begins: is told the child's pid, in the child.

    Attributes:
        pid: of the child; 0 before it runs.
        phase: what it is in, or was in when it ended.
        has_ended: it unwound all its frames.
        value, error: what the callable returned or raised; both None: it did neither, or returned None.
        trace: where the traceback of the error begins.
        code: its exit status, should it unwind.
    """

    __slots__ = (
        *("_args", "_begins", "_context", "_err", "_function", "_kwargs", "_out", "_shares_files"),
        *("code", "error", "has_ended", "has_value", "phase", "pid", "run", "trace", "value"),
    )

    def __init__(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        out: int,
        err: int,
        shares_files: bool,
        begins: Callable[[int], None],
    ) -> None:
        self._function, self._args, self._kwargs = function, args, kwargs
        self._out, self._err, self._shares_files = out, err, shares_files
        self._begins = begins
        # The child's thread state has no context of its own.
        self._context = contextvars.copy_context()
        self.pid = 0
        self.phase = CALLABLE
        self.has_ended = self.has_value = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.trace: TracebackType | None = None
        self.code = FAILED
        self.run: Any = None

    def live(self) -> None:
        """In the child: do all of it. Nothing is raised, for there is nobody to catch it."""
        try:
            self.pid = getpid()
            self._begins(self.pid)
            trace_as_threads_are()
            if self._out >= 0:
                streams.take_over(self._out, self._err, self._shares_files)
            try:
                value = self._context.run(self._function, *self._args, **self._kwargs)
            except BaseException as error:
                self._failed(error)
            else:
                self.value, self.has_value, self.code = value, True, 0
                del value
            if not isinstance(self.error, Unwind):
                self.phase = ENDING
            await_threads()
            streams.flush_all()
            # What the callable left in a cycle may have a descriptor of this process.
            gc.collect(0)
        except BaseException as error:  # of the deadline, outside the callable
            if self.error is None:
                self.error, self.has_value = error, False
        self.run.status = self.code
        self.has_ended = True

    def raise_in(self, number: int, frame: FrameType | None) -> None:
        """A signal handler: raise in the child, and in nobody who has its memory; not where it unwinds already."""
        if getpid() == self.pid and not isinstance(sys.exc_info()[1], Unwind):
            raise Unwind

    def _failed(self, error: BaseException) -> None:
        trace = error.__traceback__ and error.__traceback__.tb_next
        if isinstance(error, SystemExit):
            self.code = outcomes.exit_code(error)
        elif getpid() != self.pid:
            # In a child of the callable's own, which has a copy of this object.
            sys.stderr.write(outcomes.full_text(error, trace))
        self.error, self.trace = error, trace
        forget_locals(error)


def trace_as_threads_are() -> None:
    """Trace and profile as a new thread would be, by what coverage and others gave threading for it.

    A thread state that had a child before has it already.
    """
    if sys.gettrace() is None and (trace := threading.gettrace()) is not None:
        sys.settrace(trace)
    if sys.getprofile() is None and (profile := threading.getprofile()) is not None:
        sys.setprofile(profile)


def await_threads() -> None:
    """In a child: wait for the threads that the callable started; who is killed in the midst of Python takes its locks along."""
    while has_threads():
        tasks = set(map(int, os.listdir(TASKS)))
        for thread in threading.enumerate():
            if thread.native_id in tasks and thread.ident != get_ident():
                thread.join()
        time.sleep(LOOK)


def forget_threads() -> None:
    """In the parent of a child that ended without unwinding: have threading know that its threads have ended as well."""
    tasks = set(map(int, os.listdir(TASKS)))
    for thread in threading.enumerate():
        if thread.native_id in tasks or thread.native_id is None:
            continue
        gone: Any = thread
        if sys.version_info >= (3, 13):
            gone._handle._set_done()
        elif gone._tstate_lock is not None:
            gone._tstate_lock.release()
            gone._wait_for_tstate_lock(block=False)
        threading._active.pop(thread.ident, None)  # type: ignore[attr-defined]


def has_threads() -> bool:
    """Whether this process has more threads than this one, of Python or not."""
    # unshare(2): "If the caller is single threaded, these flags have no effect"; it is an error for others. Where
    # a filter of system calls forbids it, /proc knows.
    return frozen.unshare(CLONE_THREAD) != 0 and os.stat(TASKS).st_nlink > FOLDERS + 1


def forget_locals(error: BaseException | None) -> None:
    """Clear the frames of an exception: what is local to them belongs to the child, a descriptor for one."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        trace = one.__traceback__
        while trace is not None:
            frame = trace.tb_frame
            # pytest leaves out the frames that have such a local.
            if "__tracebackhide__" not in frame.f_code.co_varnames:
                with suppress(RuntimeError):  # it still runs
                    frame.clear()
            trace = trace.tb_next
        waiting += (one.__cause__, one.__context__, *getattr(one, "exceptions", ()))


class Kept:
    """What a child can change in the parent's Python though it is the child's own for the kernel.

    Args:
        is_main: whether this is the main thread, which alone can have signal handlers.
    """

    _thread: Any
    __slots__ = ("_collects", "_handlers", "_is_daemon", "_streams", "_thread", "_wakeup")

    def __init__(self, is_main: bool) -> None:
        self._streams = sys.stdout, sys.stderr
        # A thread that the child starts is a daemon then, if nobody says otherwise: for one that is no daemon, and
        # is gone without its own doing, Python would wait at its exit. The child awaits all of them.
        thread: Any = threading.current_thread()
        self._thread, self._is_daemon = thread, thread._daemonic
        thread._daemonic = True
        self._handlers: list[Any] | None = None
        self._wakeup = -1
        if is_main:
            self._wakeup = _signal.set_wakeup_fd(-1)
            self._handlers = list(map(_signal.getsignal, SIGNALS))
        # What is garbage in the parent is for the parent to finalise: its descriptors are closed there.
        self._collects = gc.isenabled()
        gc.collect(0)
        gc.disable()

    def put_back(self) -> None:
        """Have all of it as it was."""
        sys.stdout, sys.stderr = self._streams
        self._thread._daemonic = self._is_daemon
        if self._collects:
            gc.enable()
        if self._handlers is not None:
            now = list(map(_signal.getsignal, SIGNALS))
            if now != self._handlers:
                self._put_handlers_back(now, self._handlers)
            if self._wakeup >= 0:
                _signal.set_wakeup_fd(self._wakeup)

    def _put_handlers_back(self, now: list[Any], before: list[Any]) -> None:
        for number, new, old in zip(SIGNALS, now, before, strict=True):
            if new is not old and old is not None:
                # The kernel never learnt of it here, and may have one in C.
                own = frozen.handler_of(number)
                _signal.signal(number, old)
                frozen.handle(number, own)
