"""vfork(2): a callable on this process's memory, while the thread that spawns is frozen."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal without its wrappers, which make enums
import faulthandler
import os
import platform
import threading
import time
from _thread import get_ident
from collections.abc import Callable, Mapping, Sequence
from errno import ENOTSUP
from functools import cache
from os import getpid
from typing import Any, TypeVar

from pytest_procsemantics.spawners import frozen, rescue, streams, watch
from pytest_procsemantics.spawners.child import NO_FILE, Child, name_of
from pytest_procsemantics.spawners.errors import ChildFailed, ChildOverdue
from pytest_procsemantics.spawners.handle import how, signal_name
from pytest_procsemantics.spawners.sharing import Kept, SharedLife, forget_threads
from pytest_procsemantics.spawners.spawner import Spawner
from pytest_procsemantics.spawners.support import VFORK_WORDS, why_not
from pytest_procsemantics.spawners.tree import stat
from pytest_procsemantics.spawners.way_back import new_file

T = TypeVar("T")

EXITING = 4  # PF_EXITING, of the flags in /proc/PID/stat (proc(5))
FLAGS = 6  # their place behind the name


class FrozenChild(Child[T]):
    """A child that had its parent's memory: it has ended, or has become another program."""

    __slots__ = ("_life", "_seen", "_was_told")

    def __init__(self, *args: Any, life: SharedLife, **kwargs: Any) -> None:
        self._life = life
        self._seen: tuple[int, str, str] = (rescue.UNTOUCHED, "", "")
        self._was_told = False
        super().__init__(*args, **kwargs)

    def settle(self, done: int, facts: str, stacks: str) -> None:
        """Take note of what the watcher did to it, and reap it unless it goes on as another program.

        Args:
            done: what was done.
            facts: what the kernel said of it at its deadline.
            stacks: where it stood then.
        """
        self._seen = done, facts, stacks
        if self._life.has_ended or done or is_exiting(self.pid):
            self._take_over()

    def wait(self, timeout: float | None = None) -> Child[T]:
        __tracebackhide__ = True
        super().wait(timeout)
        if self._seen[0] and not self._was_told:
            self._make_again()
        return self

    def _make_again(self) -> None:
        __tracebackhide__ = True
        error = self._life.error
        if error is not None and error is self._error:
            raise error.with_traceback(self._life.trace)
        super()._make_again()

    def _phase(self, phase: str) -> str:
        return "program"

    def _found(self) -> Any:
        __tracebackhide__ = True
        life, who = self._life, {"pid": self.pid, "primitive": self.primitive}
        if self._seen[0]:
            self._was_told = True
            raise self._late()
        if self._is_late or (self.status is not None and os.WIFSIGNALED(self.status)):
            return super()._found()
        code = None if self.status is None else os.WEXITSTATUS(self.status)
        if life.has_value:
            return life.value
        error = life.error
        if error is None:
            text = f"{self} gave no result: {how(self.status)}{self._last_words()}"
            raise ChildFailed(text, **who, exit_code=code)
        if isinstance(error, SystemExit):
            text = f"{self} gave no result: SystemExit({error.code!r})"
            raise ChildFailed(text, **who, exit_code=code) from error
        if isinstance(error, KeyboardInterrupt):
            text = "KeyboardInterrupt\nIt is not raised here, where it would interrupt the parent"
            raise ChildFailed(text, **who, exit_code=code) from error
        raise error.with_traceback(life.trace)

    def _late(self) -> ChildOverdue:
        _, facts, stacks = self._seen
        phase = self._life.phase
        # By its exception, or by the watcher; but what it did meanwhile may have ended it as well.
        number = (
            self.status is not None and os.WIFSIGNALED(self.status) and os.WTERMSIG(self.status)
        )
        end = signal_name(number) if number else "an exception"
        text = [
            f"{self} still ran at its deadline, {self.timeout:g} s after its start, and was ended by {end}"
            f" (phase: {phase})",
            *(f"  {line}" for line in facts.splitlines()),
            stacks or "  its Python stacks could not be had",
        ]
        return ChildOverdue(
            "\n".join(text),
            pid=self.pid,
            primitive=self.primitive,
            seconds=self.timeout,
            phase=phase,
            stacks=stacks,
        )


def spawn(
    spawner: Spawner,
    words: Sequence[int],
    function: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    timeout: float | None,
    capture: bool,
    shares_files: bool = False,
) -> FrozenChild[T]:
    """Run a callable in a child that has this process's memory; it has ended, or become a program, when this returns.

    Args:
        spawner: whose child it is.
        words: number and arguments of a system call with CLONE_VM and CLONE_VFORK.
        function, args, kwargs: the call.
        timeout: seconds from now to the child's deadline; None: the spawner's.
        capture: whether its output is kept.
        shares_files: whether its descriptors are the parent's own.

    Raises:
        ValueError: the timeout is no length of time.
        OSError: the system call's errno, with the primitive's name; ENOTSUP with the reason where it can't be had.
    """
    seconds = spawner._seconds(timeout)
    if reason := _reason():
        name = spawner.primitive
        raise OSError(ENOTSUP, reason if name == "vfork" else f"{name}: {reason}")
    # By pid: in a child by fork the spawner is a copy.
    with _one_at_a_time(getpid()):
        return Making(spawner, seconds, function, capture).make(words, args, kwargs, shares_files)


@cache
def _reason() -> str | None:
    """Why it can't be had; what this asks for does not change."""
    return why_not("vfork")


@cache
def _one_at_a_time(pid: int) -> threading.Lock:
    """What a process's threads take turns by: what a child changes in Python can be put back in one order only."""
    return threading.Lock()


class Making:
    """One child on its way.

    Args:
        spawner: whose child it is.
        seconds: from now to its deadline.
        function: what it calls.
        capture: whether its output is kept.

    Raises:
        OSError: it can't be watched.
    """

    def __init__(
        self, spawner: Spawner, seconds: float, function: Callable[..., Any], capture: bool
    ) -> None:
        self._spawner = spawner
        self._seconds = seconds
        self._function = function
        self._name = spawner.primitive
        self._listened = spawner._listened or 0
        self._table = watch.table_of(getpid(), spawner._listened)
        if self._table is None or not self._listened:
            raise OSError(ENOTSUP, f"{self._name}: no signal is free, and no deadline would hold")
        try:
            self._watched = self._table.frozen()
        except OSError as error:
            raise OSError(error.errno, f"{self._name}: {error.strerror}") from None
        streams.flush_all()
        self._files = [NO_FILE] * 3
        try:
            for index, name in enumerate(
                ("stacks", "stdout", "stderr") if capture else ("stacks",)
            ):
                self._files[index] = new_file(name)
        except OSError as error:
            self._close()
            raise OSError(error.errno, f"{self._name}: {error.strerror}") from None
        self._thread = get_ident()
        self._is_main = self._thread == threading.main_thread().ident
        self._begin = time.monotonic()

    def make(
        self,
        words: Sequence[int],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        shares_files: bool,
    ) -> FrozenChild[Any]:
        """Make it, and give it when it has ended or is another program."""
        spawner, (back, out, err) = self._spawner, self._files
        life = SharedLife(self._function, args, kwargs, out, err, shares_files, self._begins)
        pid, is_watched = -1, False
        child: FrozenChild[Any] | None = None
        try:
            who = f"{self._name} of {name_of(self._function)}"
            limit, is_deaf = self._begin + self._seconds, frozen.is_deaf(self._is_main)
            self._watched.enter(limit, back, spawner.messages, is_deaf, who)
            is_watched = True
            try:
                pid = self._run(words, life)
            finally:
                # An interrupt that was held back while this thread was frozen may come before the pid is known.
                pid = life.pid or pid
                Spawner._frozen = 0
            child = FrozenChild(
                pid,
                self._name,
                self._function,
                self._begin,
                self._seconds,
                spawner._children,
                NO_FILE,
                out,
                err,
                table=None if life.has_ended else self._table,
                has_pidfd=not life.has_ended,
                life=life,
            )
            self._files[1:] = NO_FILE, NO_FILE
            done, facts = self._watched.leave()
            is_watched = False
            child.settle(done, facts, rescue.own_stacks(back) if done else "")
        except BaseException as error:
            if is_watched:
                self._watched.leave()
            if child is None:
                spawner._give_up(pid, [])
            else:
                child.close()
            if isinstance(error, OSError) and child is None and error.errno is not None:
                text = f"{self._name}: {os.strerror(error.errno)}"
                raise OSError(error.errno, text) from None
            raise
        finally:
            self._close()
        return child

    def _close(self) -> None:
        """Close what is not the child's."""
        for descriptor in self._files:
            if descriptor != NO_FILE:
                os.close(descriptor)

    def _begins(self, pid: int) -> None:
        """In the child: say who it is."""
        Spawner._frozen = pid
        self._watched.begins(pid)
        if self._is_main:
            frozen.native().listen_to_interrupts()

    def _run(self, words: Sequence[int], life: SharedLife) -> int:
        """Have the child live, and put back what is no matter of the parent's."""
        thread, listened, is_main = self._thread, self._listened, self._is_main
        states = self._spawner._states = self._spawner._states or frozen.States()
        state, kept = states.take(thread), Kept(is_main)
        try:
            try:
                # The signal of the deadline: faulthandler shows the stacks, and goes on to the one who raises.
                if is_main:
                    _signal.signal(listened, life.raise_in)
                frozen.native().listen(listened, is_main, self._files[0])
                faulthandler.register(listened, self._files[0], all_threads=True, chain=True)
                return frozen.run(words, life.live, state, life)
            finally:
                faulthandler.unregister(listened)
                frozen.handle(listened)
                if is_main:
                    _signal.signal(listened, _signal.SIG_DFL)
        finally:
            kept.put_back()
            if not life.has_ended:
                forget_threads()
            is_clean = life.has_ended and frozen.native().is_clean(life.run)
            states.give_back(thread, state, is_clean)


def is_exiting(pid: int) -> bool:
    """Whether a child that has let its parent go on is ending; else it has become another program."""
    try:
        return bool(int(stat(pid)[FLAGS]) & EXITING)
    except OSError:  # SIGCHLD is ignored, and it is gone
        return True


class Vfork(Spawner):
    """Children by vfork(2): a callable on this process's memory, while the calling thread is frozen."""

    primitive = "vfork"

    def __call__(
        self,
        function: Callable[..., T],
        /,
        *args: Any,
        timeout: float | None = None,
        capture: bool = True,
        **kwargs: Any,
    ) -> Child[T]:
        """Run `function(*args, **kwargs)` in a child, which has ended or become a program when this returns.

        Args:
            timeout: seconds from now to the child's deadline; None: the spawner's.
            capture: keep what the child writes to descriptors 1 and 2 for `stdout` and `stderr`; else it goes where
                this process's own output goes.

        Raises:
            OSError: vfork's errno; ENOTSUP with the reason where a true vfork of Python can't be had.
        """
        words = VFORK_WORDS.get(platform.machine(), ())
        return spawn(self, words, function, args, kwargs, timeout, capture)
