"""A call of Python in a child that has this process's memory, while the thread that made the child is frozen.

The child runs on a thread state of its own. A callable that ends without unwinding (os._exit, exec, a signal) leaves
its thread state pointing at dead frames; on the caller's own that would be the caller's next crash.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from pytest_procsemantics.spawners.thread import Unwind

KEYS = 1024  # PTHREAD_KEYS_MAX
# Since then the current thread state is a variable of each thread, and a swap takes care of PyGILState's own.
OF_A_THREAD = (3, 12)
# Since then a signal makes the main thread's own state look for it, on which no child runs.
HEARS_BY_STATE = sys.version_info >= (3, 13)
WORDS = 6  # arguments of a system call


class Run(ctypes.Structure):
    """struct run of native/vfork.c."""

    _fields_ = (
        ("number", ctypes.c_long),
        ("args", ctypes.c_long * WORDS),
        ("call", ctypes.c_void_p),
        ("callable", ctypes.c_void_p),
        ("is_spoilt", ctypes.c_long),
        ("status", ctypes.c_long),
        ("swap", ctypes.c_void_p),
        ("current", ctypes.c_void_p),
        ("restore", ctypes.c_void_p),
        ("state", ctypes.c_void_p),
        ("note", ctypes.c_void_p),
        ("key", ctypes.c_uint),
    )


class Handlers(ctypes.Structure):
    """What the signal handlers of native/vfork.c call."""

    _fields_ = (
        ("current", ctypes.c_void_p),
        ("own", ctypes.c_void_p),
        ("thread", ctypes.c_void_p),
        ("raise_in", ctypes.c_void_p),
        ("interrupt", ctypes.c_void_p),
        ("write", ctypes.c_void_p),
        ("error", ctypes.c_void_p),
        ("overdue", ctypes.c_void_p),
        ("interrupted", ctypes.c_void_p),
        ("has_raised", ctypes.c_long),
        ("is_heard", ctypes.c_long),
        ("is_deaf", ctypes.c_long),
        ("file", ctypes.c_long),
    )


class Native:
    """The shared object, and what it calls.

    Args:
        path: of the shared object.

    Attributes:
        pattern: a Run with all that is the same for each call.
        run: makes a child; takes the address of a Run, gives what the system call gave.
    """

    def __init__(self, path: str) -> None:
        # PyDLL: the interpreter is not released. Where another thread is busy, that would cost milliseconds.
        library, api, libc = ctypes.PyDLL(path), ctypes.pythonapi, ctypes.PyDLL(None)
        self.run = library.procsem_run
        self.run.argtypes, self.run.restype = (ctypes.c_void_p,), ctypes.c_long
        self.current = (
            api.PyThreadState_GetUnchecked
            if sys.version_info >= (3, 13)
            else api._PyThreadState_UncheckedGet
        )
        calls = (
            self.current,
            api.PyGILState_GetThisThreadState,
            api.PyThread_get_thread_ident,
            api.PyThreadState_SetAsyncExc,
            api.PyErr_SetInterruptEx,
            libc.write,
            libc["__errno_location"],
        )
        self._handlers = Handlers.in_dll(library, "procsem_handlers")
        for (name, _), function in zip(Handlers._fields_, calls, strict=False):
            setattr(self._handlers, name, address(function))
        self._handlers.overdue, self._handlers.interrupted = id(Unwind), id(KeyboardInterrupt)
        self._overdue = address(library.procsem_overdue)
        self._interrupted = address(library.procsem_interrupted)
        self.pattern = Run(
            call=address(api.PyObject_CallNoArgs),
            swap=address(api.PyThreadState_Swap),
            current=address(self.current),
            restore=address(api.PyEval_RestoreThread),
        )
        if sys.version_info < OF_A_THREAD:
            self.pattern.key = self._key()
            self.pattern.note = address(libc.pthread_setspecific)
        interpreter = _typed(api.PyInterpreterState_Get, ctypes.c_void_p)()
        new = _typed(api.PyThreadState_New, ctypes.c_void_p, ctypes.c_void_p)
        self.new_state: Callable[[], int] = lambda: new(interpreter)
        self._clear = _typed(api.PyThreadState_Clear, None, ctypes.c_void_p)
        self._delete = _typed(api.PyThreadState_Delete, None, ctypes.c_void_p)

    def listen(self, number: int, is_main: bool, file: int) -> None:
        """Have a signal raise Unwind in the next child, once it is handled there.

        Args:
            number: of the signal. In the main thread Python has a handler for it, which raises as well.
            is_main: whether the child is of the main thread.
            file: descriptor where the child tells that a signal is handled.
        """
        self._handlers.has_raised = 0
        self._handlers.file = file
        self._handlers.is_heard, self._handlers.is_deaf = is_main, is_deaf(is_main)
        handle(number, self._overdue)

    def is_clean(self, made: Run) -> bool:
        """Whether no exception is left in the thread state of a child that has unwound all its frames."""
        return not made.is_spoilt and not self._handlers.has_raised

    def listen_to_interrupts(self) -> None:
        """In a child of the main thread: have SIGINT interrupt it also where it runs Python."""
        if HEARS_BY_STATE and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            handle(signal.SIGINT, self._interrupted)

    def end_state(self, state: int) -> None:
        """Give a thread state up."""
        self._clear(state)
        self._delete(state)

    def _key(self) -> int:
        """Under which the C library keeps this thread's state, as PyGILState_Check will ask for it.

        Raises:
            OSError: another library keeps the same under a key of its own.
        """
        own = _typed(self.current, ctypes.c_void_p)()
        get = _typed(ctypes.PyDLL(None).pthread_getspecific, ctypes.c_void_p, ctypes.c_uint)
        found = [key for key in range(KEYS) if get(key) == own]
        if len(found) != 1:
            raise OSError(f"{len(found)} keys of the C library hold the thread state")
        return found[0]


def is_main_interpreter() -> bool:
    """Whether this code runs in the interpreter that Python began with."""
    api = ctypes.pythonapi
    own, first = (
        _typed(function, ctypes.c_void_p)
        for function in (api.PyInterpreterState_Get, api.PyInterpreterState_Main)
    )
    return bool(own() == first())


def is_deaf(is_main: bool) -> bool:
    """Whether a child would not hear of a signal while it runs Python; is_main: that it is of the main thread."""
    return not is_main or HEARS_BY_STATE


def address(function: Any) -> int:
    """Where a function in C begins."""
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _typed(function: Any, result: Any, *arguments: Any) -> Any:
    function.restype, function.argtypes = result, arguments
    return function


_set_handler = _typed(ctypes.pythonapi.PyOS_setsig, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_get_handler = _typed(ctypes.pythonapi.PyOS_getsig, ctypes.c_void_p, ctypes.c_int)


def handle(number: int, handler: int = 0) -> None:
    """Set a signal's handler without Python's knowledge, as another thread than the main one may.

    Args:
        handler: its address; 0: the default action.
    """
    _set_handler(number, handler)


def handler_of(number: int) -> int:
    """The address of a signal's handler."""
    return _get_handler(number) or 0


unshare: Callable[[int], int] = ctypes.PyDLL(None).unshare  # 0, or -1 where it fails


@cache
def native() -> Native:
    """The shared object, loaded once.

    Raises:
        BuildFailed, OSError: it is not there, or can't be loaded.
    """
    from pytest_procsemantics.native import vfork

    return Native(str(vfork()))


class States:
    """The thread states that a spawner's children run on, one for each thread that spawns.

    A child that unwound leaves its own to the next one, with what threading.local has in it: a fresh one costs as much
    as all the rest.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._idle: dict[int, int] = {}

    def take(self, thread: int) -> int:
        """A thread state for a child of this thread."""
        if os.getpid() != self._owner:
            # After a fork Python has ended all states but that of the one thread.
            self.__init__()  # type: ignore[misc]
        return self._idle.pop(thread, 0) or native().new_state()

    def give_back(self, thread: int, state: int, is_clean: bool) -> None:
        """Take back the thread state of a child that has ended; it is for another one if there is nothing left in it."""
        if is_clean and thread not in self._idle:
            self._idle[thread] = state
        else:
            native().end_state(state)

    def close(self) -> None:
        """Give all of them up."""
        if os.getpid() == self._owner:
            while self._idle:
                native().end_state(self._idle.popitem()[1])


def run(words: Sequence[int], function: Callable[[], object], state: int, holder: Any) -> int:
    """Call a function in a child, by a system call with CLONE_VM and CLONE_VFORK; it has ended when this returns.

    Args:
        words: number and arguments of the system call.
        function: it catches whatever is raised in it.
        state: the thread state that it runs on.
        holder: gets the attribute `run`; the child's exit status is its `status`.

    Returns:
        The child's pid. It has ended, or runs another program.

    Raises:
        OSError: the system call's errno.
    """
    of_all = native()
    made = holder.run = Run.from_buffer_copy(of_all.pattern)
    made.number = words[0]
    for index, word in enumerate(words[1:]):
        made.args[index] = word
    made.callable = id(function)
    made.state = state
    made.status = 1
    result: int = of_all.run(ctypes.addressof(made))
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result
