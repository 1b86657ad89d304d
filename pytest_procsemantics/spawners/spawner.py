"""What all spawners of Python callables share: a call that returns twice, once here and once to a child's life."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from _thread import _count, get_ident
from collections.abc import Callable, Mapping, Sequence
from faulthandler import register, unregister
from os import _exit, getpid
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from pytest_procsemantics.spawners import hang, life, streams, watch
from pytest_procsemantics.spawners.child import NO_FILE, Child
from pytest_procsemantics.spawners.handle import ALL
from pytest_procsemantics.spawners.hang import Beside
from pytest_procsemantics.spawners.life import FAILED, live
from pytest_procsemantics.spawners.streams import SYS, flush_all
from pytest_procsemantics.spawners.way_back import new_file

if TYPE_CHECKING:
    from typing_extensions import Self

    from pytest_procsemantics.spawners.frozen import States

DEFAULT_TIMEOUT = 10.0  # seconds from a child's start to its deadline

T = TypeVar("T")


class Raised:
    """What signal handlers raise in fork hooks, which would swallow it: a Ctrl-C, or pytest-timeout's word.

    It stands in for sys.unraisablehook, in the main thread only, for no handler runs in others.
    """

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.usual = sys.unraisablehook
        self.hook = self.take  # made once

    def take(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Keep what is no ordinary exception."""
        error = unraisable.exc_value
        if error is None or isinstance(error, Exception):
            self.usual(unraisable)
        else:
            self.errors.append(error)


class Spawner:
    """Makes children, and ends those that still run when it is closed; a context manager.

    Args:
        timeout: seconds from a child's start to its deadline, where the call has no `timeout` of its own.

    Attributes:
        primitive: what it makes children by.
        messages: descriptor for what is said should a child that has this process's memory take this process along.
    """

    primitive = ""
    # The pid of the child, if there is one, that has this process's memory. These objects would be its parent's too.
    _frozen: ClassVar[int] = 0

    def __init__(self, timeout: float = DEFAULT_TIMEOUT) -> None:
        self.timeout = timeout
        self._children: dict[int, Child[Any]] = {}  # by pid; those that were not waited for
        self._home = getpid()
        self._main = threading.main_thread().ident
        self._raised = Raised()
        self._listened = hang.listened_to()
        self._table = watch.table_of(self._home, self._listened)
        self._states: States | None = None  # of children that have this process's memory
        self.messages = streams.ERR
        streams.prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the children that still run, and all their descendants."""
        # In a child the brothers and sisters are not its own to end.
        if getpid() == self._home:
            while self._children:
                self._children.popitem()[1].close()
            if self._states is not None:
                self._states.close()

    def _seconds(self, timeout: float | None) -> float:
        """From a child's start to its deadline."""
        if Spawner._frozen and getpid() == Spawner._frozen:
            raise RuntimeError(
                f"{self.primitive}: not in a child by vfork, which has its parent's memory, the spawner too;"
                " os.fork and subprocess work there"
            )
        seconds = self.timeout if timeout is None else timeout
        if not 0 < seconds < math.inf:
            raise ValueError(
                f"timeout: {seconds!r} is no length of time; accepted: seconds above 0"
            )
        return seconds

    def _spawn(
        self,
        make: Callable[[], int],
        function: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        timeout: float | None,
        capture: bool,
        shares_files: bool = False,
    ) -> Child[T]:
        """Make a child that runs a callable.

        Args:
            make: gives the child's pid in the parent and 0 in the child.
            function, args, kwargs: the call.
            timeout: seconds from now to the child's deadline; None: the spawner's.
            capture: whether its output is kept for `stdout` and `stderr`.
            shares_files: whether its descriptors are the parent's own, so that none may be replaced.

        Raises:
            ValueError: the timeout is no length of time.
            OSError: the system call's errno, with the primitive's name.
        """
        seconds = self._seconds(timeout)
        flush_all()
        pid, home, out, err = -1, getpid(), NO_FILE, NO_FILE
        back = new_file("way-back")
        try:
            if capture:
                out = new_file("stdout")
                err = new_file("stderr")
            beside = Beside.of_now() if _count() else None
            begin = time.monotonic()
            # From here on, so that a hook that hangs in the child can be seen.
            # Not by functions of hang: each object that is used on this way costs a page after the fork.
            if self._listened is not None:
                register(self._listened, back, True, True)  # all_threads, chain
            is_main, raised = get_ident() == self._main, self._raised
            try:
                if is_main:
                    raised.usual, SYS["unraisablehook"] = SYS["unraisablehook"], raised.hook
                pid = make()
                if not pid:
                    if beside is not None and self._listened is not None:
                        # Another thread may have spawned in the meantime.
                        hang.listen(self._listened, back)
                    live(back, home, function, args, kwargs, out, err, shares_files)
            finally:
                if not pid or getpid() != home:
                    _exit(FAILED)
                self._listen_no_more(is_main)
            if raised.errors:
                raise raised.errors.pop()
            child: Child[T] = Child(
                pid,
                self.primitive,
                function,
                begin,
                seconds,
                self._children,
                back,
                out,
                err,
                beside,
                self._table,
            )
        except BaseException as error:
            self._give_up(pid, (back, out, err))
            if isinstance(error, OSError) and error.errno is not None:
                text = f"{self.primitive}: {os.strerror(error.errno)}"
                raise OSError(error.errno, text) from None
            raise
        return child

    def _listen_no_more(self, is_main: bool) -> None:
        """Have this process after a fork what it had before, as to the signal for stacks, and errors in hooks."""
        if is_main:
            SYS["unraisablehook"] = self._raised.usual
        if self._listened is not None:
            if life.own is None:
                unregister(self._listened)
            else:  # this process is a child itself, and listens
                hang.listen(self._listened, life.own[0])

    def _give_up(self, pid: int, files: Sequence[int]) -> None:
        """Leave nothing of a spawn that failed, or that a signal handler interrupted."""
        if pid in self._children:
            self._children[pid].close()
            return
        if pid > 0:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, ALL)
        for descriptor in files:
            if descriptor != NO_FILE:
                os.close(descriptor)
