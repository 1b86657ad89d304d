"""A callable in a thread of this process, with as much of a child's interface as a thread has.

It shares everything, also the way out: os._exit or a fatal signal in it ends pytest.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytest_procsemantics.spawners import outcomes
from pytest_procsemantics.spawners.errors import ChildFailed, ChildOverdue
from pytest_procsemantics.waits import LOOK_UP

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")

DEFAULT_TIMEOUT = 10.0  # seconds from a thread's start to its deadline
UNWINDING = 1.0  # seconds for a thread to end after an exception was raised in it


class Unwind(BaseException):
    """Raised in a thread that is to end."""


class ThreadChild(Generic[T]):
    """A thread that runs a callable.

    Attributes:
        timeout: seconds from its start to its deadline.
        tid: its thread id, as the kernel knows it.
    """

    primitive = "thread"

    def __init__(self, function: Callable[..., T], args: Any, kwargs: Any, timeout: float) -> None:
        self.timeout = timeout
        self._call = function
        self._value: T | None = None
        self._error: BaseException | None = None
        self._late: ChildOverdue | None = None
        self._code = 0
        self._thread = threading.Thread(
            target=self._run,
            args=(function, args, kwargs),
            name=f"spawned {self.name}",
            daemon=True,
        )
        self._begin = time.monotonic()
        self._thread.start()
        self.tid = self._thread.native_id

    def __str__(self) -> str:
        return f"thread {self.tid} ({self.name})"

    @property
    def name(self) -> str:
        """What it runs, in a word."""
        return getattr(self._call, "__qualname__", None) or type(self._call).__qualname__

    @property
    def pid(self) -> int:
        """The id of the process, which is this one's own."""
        return os.getpid()

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet; does not wait."""
        return self._thread.is_alive()

    @property
    def exit_code(self) -> int:
        """What the exit status of a process would be: 0 for a return, 1 for an exception; waits for the end."""
        self.wait()
        return self._code

    def wait(self, timeout: float | None = None) -> ThreadChild[T]:
        """Wait until it has ended; how is no matter.

        Args:
            timeout: seconds that this wait may take; None: until its deadline.

        Raises:
            TimeoutError: the time is over, the thread goes on.
            ChildOverdue: its deadline is over. An exception was raised in it, which ends it if it runs Python code.
        """
        __tracebackhide__ = True
        if self._late is not None:
            return self
        left = self._begin + self.timeout - time.monotonic()
        limit = left if timeout is None else min(timeout, left)
        self._await(time.monotonic() + limit)
        if self._thread.is_alive():
            if limit < left:
                raise TimeoutError(f"{self} still runs after {limit:g} s")
            self._late = self._overdue()
            raise self._late
        return self

    def result(self, timeout: float | None = None) -> T:
        """Wait, and return what the callable returned.

        Raises:
            BaseException: what the callable raised, the very object.
            ChildFailed: it ended by SystemExit.
            TimeoutError, ChildOverdue: as for `wait`.
        """
        __tracebackhide__ = True
        self.wait(timeout)
        error = self._late or self._error
        if isinstance(error, SystemExit):
            who = {"pid": self.pid, "primitive": self.primitive, "exit_code": self._code}
            raise ChildFailed(
                f"{self} gave no result: SystemExit({error.code!r})", **who
            ) from error
        if error is not None:
            raise error
        return self._value  # type: ignore[return-value]

    def _await(self, end: float) -> None:
        """Wait until it has ended, or for the end on the monotonic clock."""
        while self._thread.is_alive() and (left := end - time.monotonic()) > 0:
            self._thread.join(min(left, LOOK_UP))

    def close(self) -> None:
        """Raise an exception in it if it still runs, and wait a moment for its end."""
        if self._thread.is_alive():
            raise_in(self._thread)
            self._thread.join(UNWINDING)

    def _run(self, function: Callable[..., T], args: Any, kwargs: Any) -> None:
        try:
            self._value = function(*args, **kwargs)
        except BaseException as error:
            self._code = outcomes.exit_code(error) if isinstance(error, SystemExit) else 1
            self._error = error

    def _overdue(self) -> ChildOverdue:
        frame = sys._current_frames().get(self._thread.ident or 0)
        stacks = "".join(traceback.format_stack(frame)) if frame else ""
        self.close()
        state = "goes on, for it runs no Python code" if self._thread.is_alive() else "was ended"
        return ChildOverdue(
            f"{self} still ran at its deadline, {self.timeout:g} s after its start, and {state}\n{stacks}",
            pid=self.pid,
            primitive=self.primitive,
            seconds=self.timeout,
            phase="callable",
            stacks=stacks,
        )


def raise_in(thread: threading.Thread) -> None:
    """Raise an exception in a thread, as soon as it runs Python code."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(Unwind)
    )


class Thread:
    """Makes threads that run callables; a context manager.

    Args:
        timeout: seconds from a thread's start to its deadline, where the call has no `timeout` of its own.
    """

    primitive = "thread"

    def __init__(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.timeout = timeout
        self._children: list[ThreadChild[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __call__(
        self, function: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> ThreadChild[T]:
        """Run `function(*args, **kwargs)` in a thread.

        Args:
            timeout: seconds from now to its deadline; None: the spawner's.
        """
        seconds = self.timeout if timeout is None else timeout
        child = ThreadChild(function, args, kwargs, seconds)
        self._children = [one for one in self._children if one.alive]
        self._children.append(child)
        return child

    def close(self) -> None:
        """End the threads that still run Python code."""
        for child in self._children:
            child.close()
        self._children.clear()
